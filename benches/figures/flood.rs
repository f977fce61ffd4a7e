//! Connections that send all they may, at once and then every second, while another game plays.

use std::time::{Duration, Instant};

use corelay::limits::{BYTES_RATE, EVENT_RATE, MOVE_RATE};

use crate::histogram::{Histogram, TICKS, TURNS};
use crate::link::{Link, frame, move_frame, turn};
use crate::relay::Relay;

const FLOODERS: usize = 64;
const WATCHED: Duration = Duration::from_secs(5);

/// Moves and events up to their rates, and pings up to the rate of bytes.
fn all_that_is_allowed(moves: u32, events: u32, bytes: u32) -> Vec<u8> {
    let mut all: Vec<u8> = (0..moves).flat_map(move_frame).collect();
    let event = frame(0x82, &[&[6, 1, 0, 1, 0, 0, 0, 0][..], &[b'x'; 32]].concat());
    all.extend(event.repeat(events as usize));
    let ping = frame(0x89, b"");
    all.extend(ping.repeat((bytes as usize - all.len()) / ping.len()));
    all
}

pub fn a_flood_within_the_limits() {
    let relay = Relay::start("");
    let mut links: Vec<Link> = (0..FLOODERS + 2)
        .map(|index| {
            // Their events go to three others each: more would be more than a player may be owed at once.
            let game = if index < FLOODERS { format!("flood-{}", index / 4) } else { "duel".to_owned() };
            Link::request(relay.listen, &format!("/play/{game}"))
        })
        .collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        turn(&mut links, |_, _| {});
    }
    let before = (Histogram::of(&relay, TICKS), Histogram::of(&relay, TURNS));
    let began = Instant::now();
    let (mut seconds, mut moves) = (0, 0);
    while began.elapsed() < WATCHED {
        if began.elapsed() >= Duration::from_secs(seconds) {
            let (moves, events, bytes) = match seconds {
                0 => (MOVE_RATE.1, EVENT_RATE.1, BYTES_RATE.1),
                _ => (MOVE_RATE.0, EVENT_RATE.0, BYTES_RATE.0),
            };
            let bytes = all_that_is_allowed(moves, events, bytes);
            links[..FLOODERS].iter_mut().for_each(|link| link.send(&bytes));
            seconds += 1;
        }
        if began.elapsed() > moves * Duration::from_millis(20) {
            moves += 1;
            links[FLOODERS].send(&move_frame(moves));
        }
        turn(&mut links, |_, _| {});
    }
    let lateness = Histogram::of(&relay, TICKS).since(&before.0);
    let turns = Histogram::of(&relay, TURNS).since(&before.1);
    eprintln!("{FLOODERS} connections send all they may for {WATCHED:?}");
    eprintln!("frames read: {}", relay.metric("corelay_frames_in_total", &[]));
    eprintln!("ticks late: {}", lateness.text());
    eprintln!("turns: {}", turns.text());
    assert!(links.iter().all(|link| !link.ended), "they are within their limits");
    assert!(lateness.per_mille_us(990) <= 8_192, "10 ms, in buckets that double");
    assert!(turns.per_mille_us(999) <= 8_192, "10 ms, in buckets that double");
}
