//! A crowd that stands still joins one game while another game on the same shard plays.

use std::time::{Duration, Instant};

use crate::histogram::{Histogram, TICKS, TURNS};
use crate::link::{Link, move_frame, turn};
use crate::relay::{Relay, Setup};

const JOINERS: usize = 4_000;
const PLAYERS: usize = 20;
const JOIN_TIME: Duration = Duration::from_secs(1);
const WATCHED: Duration = Duration::from_secs(4);
const TICK: Duration = Duration::from_millis(50);

pub fn a_crowd_joins_while_others_play() {
    let toml = "[[game]]\npattern = 'crowd'\nplayers_max = 5000\n";
    let relay = Relay::set_up(Setup { toml: toml.into(), ..Setup::default() });
    let request = |game: &str| Link::request(relay.listen, &format!("/play/{game}"));
    let mut links: Vec<Link> = (0..PLAYERS).map(|_| request("duel")).collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        turn(&mut links, |_, _| {});
    }
    let before = (Histogram::of(&relay, TICKS), Histogram::of(&relay, TURNS));
    let began = Instant::now();
    let (mut moves, mut arrivals) = (0, Vec::new());
    while began.elapsed() < WATCHED {
        let due = JOINERS as f64 * began.elapsed().as_secs_f64() / JOIN_TIME.as_secs_f64();
        let due = (due as usize).min(JOINERS).saturating_sub(links.len() - PLAYERS);
        links.extend((0..due.min(64)).map(|_| request("crowd")));
        // Somebody has moved at each tick.
        if began.elapsed() > moves * TICK / 4 {
            moves += 1;
            links[moves as usize % PLAYERS].send(&move_frame(moves));
        }
        turn(&mut links, |index, _| {
            if index == 0 {
                arrivals.push(began.elapsed());
            }
        });
    }
    let lateness = Histogram::of(&relay, TICKS).since(&before.0);
    let turns = Histogram::of(&relay, TURNS).since(&before.1);
    let bytes: u64 = links[PLAYERS..].iter().map(|link| link.received).sum();
    let mut gaps: Vec<Duration> = arrivals.windows(2).map(|two| two[1] - two[0]).collect();
    gaps.sort_unstable();
    let late = gaps[gaps.len() * 99 / 100].saturating_sub(TICK);
    eprintln!("{JOINERS} join within {JOIN_TIME:?}: {bytes} bytes to them");
    eprintln!("ticks late: {}", lateness.text());
    eprintln!("turns: {}", turns.text());
    eprintln!(
        "between two frames of a player of the other game: 99 % within {TICK:?} and {late:?}, the longest {:?}",
        gaps.last()
    );
    let joined = relay.metric("corelay_connections", &["state=\"open\""]);
    assert_eq!(joined as usize, JOINERS + PLAYERS);
    assert!(links.iter().all(|link| !link.ended));
    assert!(late <= Duration::from_millis(60), "{late:?}");
    assert!(bytes <= 40_000_000, "{bytes} bytes");
}
