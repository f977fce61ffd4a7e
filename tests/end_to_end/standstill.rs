//! The process stands still, as a paused container or a migrated machine does: nobody is ended for it.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::player::Player;
use crate::records::{Frame, masked_frame, move_to, request};
use crate::relay::Relay;
use crate::socket::RawClient;

/// Longer than every deadline below.
const STANDSTILL: Duration = Duration::from_millis(2_500);
const DEADLINES: &str = "upgrade_timeout_ms = 1500\n[liveness]\nping_after_ms = 500\nclose_after_ms = 1500\n\
    [[game]]\npattern = '*'\nseat_hold_s = 2";

#[test]
fn who_spoke_while_the_relay_stood_still_is_heard_and_who_was_silent_is_asked() {
    let relay = Relay::start_shards(2, DEADLINES);
    let mut idle = RawClient::join(&relay, "/play/idle");
    let mut active: Vec<Player> =
        (0..10).map(|number| Player::join(&relay, &format!("/play/game-{number}"))).collect();
    let lost = Player::join(&relay, "/play/lost");
    let seat = lost.resume_target("lost");
    lost.reset();
    relay.await_metric("corelay_seats_held", &[], |held| held == 1);
    let mut late: Vec<RawClient> = (0..5).map(|_| RawClient::connect(&relay)).collect();
    relay.await_metric("corelay_connections", &["state=\"upgrading\""], |upgrading| upgrading == 5);

    relay.signal(Signal::STOP);
    for (number, player) in active.iter_mut().enumerate() {
        player.send(move_to(1, number as f32, 1.0));
    }
    for client in &mut late {
        client.send(request("/play/late").as_bytes());
    }
    thread::sleep(STANDSTILL);
    relay.signal(Signal::CONT);

    for client in &mut late {
        client.upgraded();
    }
    for (number, player) in active.iter_mut().enumerate() {
        player.until_at(player.id(), (number as f32, 1.0));
    }
    let mut again = Player::join(&relay, &seat);
    assert_eq!(again.welcome.flags & 1, 1, "its seat was held for it");
    again.catch_up();
    // Whoever says nothing is asked first, and has its time to answer.
    idle.until("a ping", |frame| matches!(frame, Frame::Ping(_)));
    idle.send(&masked_frame(0x8A, b""));
    assert_eq!(relay.metric("corelay_closes_total", &["reason=\"idle\""]), 0);
    assert_eq!(relay.metric("corelay_refusals_total", &[]), 0);
    assert!(relay.metric("corelay_standstills_total", &[]) >= 1);
    relay.await_log("the relay stood still");
    // Silence still ends who does not answer.
    assert_eq!(idle.closed(), (1001, "idle".into()));
}
