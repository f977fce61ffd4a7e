//! Joins with tokens that are signed with ES256, and what a signature costs.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use corelay::wire::token::{Algorithm, Claims, TopicPattern, Verifier, sign};
use rustix::time::{ClockId, clock_gettime};

use crate::link::{Link, frame, turn};
use crate::relay::{Relay, Setup};

const PRIVATE: &[u8] = include_bytes!("../../tests/keys/es256.private.pem");
const PUBLIC: &str = include_str!("../../tests/keys/es256.public.pem");
const CONNECTIONS: usize = 20;
const JOINS: usize = 100;

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(user: &str) -> String {
    let claims = Claims {
        user: user.into(),
        expires_at_s: unix_s() + 600,
        name: None,
        topics: [TopicPattern::new("room:*")].into(),
        host: false,
        moderator: false,
    };
    sign(Algorithm::Es256, PRIVATE, &claims).unwrap()
}

/// Processor time of all threads.
fn cpu_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |task: &Path| fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let ns = threads
        .map(|task| of_thread(&task.unwrap().path()))
        .map(|stat| stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0));
    Duration::from_nanos(ns.sum())
}

/// Processor time of this thread.
fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn many_joins_with_one_token() {
    let relay = Relay::set_up(Setup {
        arguments: ["--shards", "1", "--jwt-key-file", "key", "--jwt-algorithm", "ES256"]
            .map(Into::into)
            .into(),
        files: vec![("key", PUBLIC.into())],
        ..Setup::default()
    });
    let target = format!("/socket/websocket?vsn=2.0.0&token={}", token("ann"));
    let mut links: Vec<Link> = (0..CONNECTIONS).map(|_| Link::request(relay.listen, &target)).collect();
    let wait = |links: &mut [Link]| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            turn(links, |_, _| {});
        }
    };
    wait(&mut links);
    let before = cpu_time(relay.pid());
    wait(&mut links);
    let idle = cpu_time(relay.pid()) - before;
    let before = cpu_time(relay.pid());
    for (number, link) in links.iter_mut().enumerate() {
        for join in 0..JOINS {
            let text = format!(r#"["{join}","{join}","room:r-{number}-{join}","phx_join",{{}}]"#);
            link.send(&frame(0x81, text.as_bytes()));
        }
    }
    wait(&mut links);
    let busy = cpu_time(relay.pid()) - before;
    assert_eq!(relay.metric("corelay_channels", &[]) as usize, CONNECTIONS * JOINS);
    let each = busy.saturating_sub(idle) / (CONNECTIONS * JOINS) as u32;
    eprintln!("a join with a token of ES256 that is known: {each:?} of processor time, everything included");
    assert!(each <= Duration::from_micros(25), "{each:?}");
}

pub fn a_first_check_of_a_token() {
    let verifier = Verifier::new(Algorithm::Es256, PUBLIC.as_bytes()).unwrap();
    let tokens: Vec<String> = (0..2_000).map(|user| token(&format!("u-{user}"))).collect();
    let now_unix_s = unix_s();
    let began = own_cpu_time();
    for token in &tokens {
        black_box(verifier.verify(token, now_unix_s).unwrap());
    }
    let each = (own_cpu_time() - began) / tokens.len() as u32;
    eprintln!(
        "a first check of a token of ES256: {each:?} of processor time; compare with `openssl speed ecdsap256`"
    );
}
