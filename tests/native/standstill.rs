//! A relay that stood still, or looks late: nobody is ended for what it could not be told or heard in (section 6 of the protocol).

use crate::world::client::{Frame, masked_frame, request};
use crate::world::{STARTED_AT_S, World};
use corelay::shard::settings::Settings;
use corelay::wire::token::{self, Algorithm, Claims, TopicPattern, Verifier};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

#[test]
fn who_was_not_pinged_is_pinged_and_given_the_time_to_answer() {
    let mut world = World::new(Settings::default());
    let (ann, bob) = (world.join("/play/a"), world.join("/play/b"));
    world.oversleep(20_000);
    for client in [ann, bob] {
        assert_eq!(world.client(client).frames(), [Frame::Ping(Vec::new())]);
    }
    world.advance_ms(4_000);
    world.send_raw(ann, &masked_frame(0x8A, b""));
    world.advance_ms(5_900);
    assert!(world.client(ann).ended.is_none() && !world.client(bob).half_closed);
    world.advance_ms(200);
    assert_eq!(world.client(bob).close_frame(), Some((1001, "idle".into())), "ten seconds after its ping");
    assert!(!world.client(ann).half_closed);
}

#[test]
fn a_socket_is_warned_and_given_the_time_to_answer() {
    let mut world = World::new(Settings::default());
    let ann = world.socket("");
    world.say(ann, r#"["1","1","room:a","phx_join",{}]"#);
    world.advance_ms(100);
    world.client(ann).frames();
    world.oversleep(600_000);
    let messages = world.client(ann).messages();
    assert!(messages.iter().any(|message| message.told("disconnect_warning").is_some()), "{messages:?}");
    world.advance_ms(29_900);
    assert!(!world.client(ann).half_closed);
    world.advance_ms(200);
    assert_eq!(world.client(ann).close_frame(), Some((1001, "idle".into())));
}

#[test]
fn a_token_ends_at_its_time_though_the_relay_stood_still() {
    let verifier = Verifier::new(Algorithm::Hs256, SECRET).expect("a good secret");
    let mut world = World::new(Settings { verifier: Some(verifier.into()), ..Settings::default() });
    let claims = Claims {
        user: "u-1".into(),
        expires_at_s: STARTED_AT_S + 60,
        name: None,
        topics: [TopicPattern::new("*")].into(),
        host: false,
        moderator: false,
    };
    let token = token::sign(Algorithm::Hs256, SECRET, &claims).expect("claims can be signed");
    let (ann, bob) =
        (world.join(&format!("/play/arena?token={token}")), world.socket(&format!("&token={token}")));
    world.advance_ms(100);
    world.stand_still(59_000);
    world.advance_ms(500);
    assert!(!world.client(ann).half_closed && !world.client(bob).half_closed);
    world.advance_ms(600);
    for client in [ann, bob] {
        assert_eq!(world.client(client).close_frame(), Some((1008, "expired".into())));
    }
}

#[test]
fn a_standstill_counts_for_no_deadline() {
    let mut world = World::new(Settings::default());
    let (late, lost) = (world.dial(), world.join("/play/arena"));
    world.hang_up(lost);
    world.stand_still(60_000);
    world.advance_ms(4_900);
    world.send_raw(late, request("/play/arena").as_bytes());
    world.client(late).upgraded();
    assert_eq!(world.count(|metrics| metrics.seats_held.value()), 1, "the seat of who was lost");
}
