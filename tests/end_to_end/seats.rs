//! Seats across connections and shards.

use std::net::Shutdown;

use crate::player::{Player, Read};
use crate::records::{Record, event, move_to, put_object};
use crate::relay::Relay;
use crate::socket::RawClient;

#[test]
fn a_seat_is_found_again_from_any_shard_and_no_event_is_lost_or_doubled() {
    const RECONNECTS: usize = 24;
    let relay = Relay::start_shards(4, "[rates]\nevent_per_s = 100000\nevent_burst = 100000");
    let mut talker = Player::join(&relay, "/play/arena");
    let mut wanderer = Player::join(&relay, "/play/arena");
    wanderer.send(move_to(1, 3.0, 4.0));
    wanderer.send(put_object(9, 1, 2, 5.0, 6.0));
    talker.until_view("the wanderer", |view| view.positions.len() == 1 && view.objects.len() == 1);
    let (id, epoch) = (wanderer.id(), wanderer.welcome.epoch);

    // The player loses its connection, or takes its seat from a connection that is still open, in turn. Events come all the time.
    let mut told = 0u64;
    let tell = |talker: &mut Player, told: &mut u64| {
        *told += 1;
        talker.send(event(0, 1, 0, &told.to_be_bytes()));
    };
    for reconnect in 0..RECONNECTS {
        let (seen, seats_held) = (told, relay.metric("corelay_seats_held", &[]));
        tell(&mut talker, &mut told);
        tell(&mut talker, &mut told);
        let (seq, payload) = wanderer.next_event();
        assert_eq!((seq, payload), (seen + 1, (seen + 1).to_be_bytes().to_vec()));
        let target = wanderer.resume_target("arena");
        let token = wanderer.welcome.resume_token.clone();
        let still_open = if reconnect % 2 == 0 {
            wanderer.reset();
            relay.await_metric("corelay_seats_held", &[], |held| held == seats_held + 1);
            tell(&mut talker, &mut told);
            None
        } else {
            Some(wanderer)
        };

        wanderer = Player::join(&relay, &target);
        assert_eq!((wanderer.id(), wanderer.welcome.epoch), (id, epoch));
        assert_eq!(wanderer.welcome.flags, 1 | 2 | 4, "resumed, and all missed events follow");
        assert_ne!(wanderer.welcome.resume_token, token);
        assert_eq!(wanderer.view.positions.get(&id), Some(&(3.0, 4.0)));
        assert_eq!(wanderer.view.objects.get(&9), Some(&(1, 5.0, 6.0)));
        wanderer.seq = seq;
        while wanderer.seq < told {
            let next = wanderer.seq + 1;
            assert_eq!(wanderer.next_event(), (next, next.to_be_bytes().to_vec()));
        }
        if let Some(mut old) = still_open {
            assert_eq!(old.closed(), (1001, "replaced".into()));
        }
        assert_eq!(relay.metric("corelay_seats_held", &[]), 0);
    }

    // The others have noticed nothing.
    talker.send(move_to(1, 1.0, 1.0));
    let talker_id = talker.id();
    talker.until("its own move", |player, record| {
        assert!(!matches!(record, Record::Roster { left, .. } if !left.is_empty()), "{record:?}");
        player.view.positions.get(&talker_id).map(|_| ())
    });
    assert_eq!(relay.metric("corelay_resumes_total", &[]), RECONNECTS as u64);
    relay.await_closes("replaced", RECONNECTS as u64 / 2);
    relay.await_closes("lost", RECONNECTS as u64 / 2);
    relay.await_hand_overs();
    assert_eq!(relay.metric("corelay_hand_overs_refused_total", &[]), 0);

    a_token_is_good_until_the_client_of_the_next_one_was_heard(&relay, &wanderer);
}

fn a_token_is_good_until_the_client_of_the_next_one_was_heard(relay: &Relay, wanderer: &Player) {
    let used = wanderer.resume_target("arena");
    let mut resumed = Player::join(relay, &used);
    resumed.catch_up();
    let stranger = Player::join(relay, &used);
    let is_new = stranger.id() != wanderer.id();
    assert_eq!((stranger.welcome.flags, is_new), (4, true), "a used token makes a newcomer");
    resumed.catch_up();
}

#[test]
fn a_seat_is_held_for_so_long_and_then_the_others_are_told() {
    let relay = Relay::start("[[game]]\npattern = 'brief'\nseat_hold_s = 1");
    let mut ann = Player::join(&relay, "/play/brief");
    let bob = Player::join(&relay, "/play/brief");
    let (bob_id, target) = (bob.id(), bob.resume_target("brief"));
    bob.reset();
    relay.await_metric("corelay_seats_held", &[], |held| held == 1);
    let reason = ann.until("Bob's end", |_, record| match record {
        Record::Roster { left, .. } => left.first().copied(),
        _ => None,
    });
    assert_eq!(reason, (bob_id, 1), "timed out");
    assert_eq!(relay.metric("corelay_seats_held", &[]), 0);
    let bob = Player::join(&relay, &target);
    assert_ne!(bob.id(), bob_id);
}

#[test]
fn an_end_of_stream_without_a_close_frame_holds_the_seat() {
    let relay = Relay::start_shards(2, "");
    let mut ann = RawClient::request(&relay, "/play/arena");
    let welcome = ann.upgraded();
    ann.stream.shutdown(Shutdown::Write).unwrap();
    while ann.next().is_some() {}
    relay.await_closes("lost", 1);
    relay.await_metric("corelay_seats_held", &[], |held| held == 1);
    let again = Player::join(&relay, &format!("/play/arena?resume={}&seq=0", welcome.resume_token));
    assert_eq!(again.id(), welcome.player_id);
    // Who leaves with a close frame does not come back to its seat.
    let target = again.resume_target("arena");
    again.leave();
    relay.await_metric("corelay_seats", &[], |seats| seats == 0);
    assert_eq!(Player::join(&relay, &target).welcome.flags, 4);
}

#[test]
fn who_is_silent_is_pinged_and_then_closed() {
    let relay = Relay::start("[liveness]\nping_after_ms = 100\nclose_after_ms = 1500");
    // tungstenite answers pings while it reads; whoever does not read does not answer.
    let mut awake = Player::join(&relay, "/play/arena");
    let mut asleep = Player::join(&relay, "/play/arena");
    while relay.metric("corelay_closes_total", &["reason=\"idle\""]) == 0 {
        while awake.read_if_any().is_some() {}
    }
    assert_eq!(asleep.closed(), (1001, "idle".into()));
    assert_eq!(asleep.read(), Read::Ended);
    awake.catch_up();
}
