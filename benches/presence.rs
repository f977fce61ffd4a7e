//! A join storm into one topic: what a join costs does not grow with the number of members.
#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use std::hint::black_box;
use std::time::Duration;

use corelay::limits::PRESENCE_LIST_MAX;
use corelay::room::presence::{MemberNumber, Presence};
use corelay::time::Instant;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// The pace of 5,000 joins within 10 s.
const BETWEEN_JOINS: Duration = Duration::from_millis(2);

/// The time of the group is that of all joins; its throughput tells the joins per second, which stay the same.
fn join_storm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join storm");
    group.sample_size(10);
    for joins in [1_000, 4_000, 16_000] {
        let users: Vec<String> = (0..joins).map(|number| format!("user-{number}")).collect();
        group.throughput(Throughput::Elements(joins));
        group.bench_function(format!("{joins} members"), |bencher| bencher.iter(|| storm(&users)));
    }
    group.finish();
}

fn storm(users: &[String]) -> Presence {
    let mut presence = Presence::new(PRESENCE_LIST_MAX, 1);
    let mut now = Instant::from_micros(0);
    for (number, user) in users.iter().enumerate() {
        let member = MemberNumber(number as u32);
        presence.track(member, user, "a player", None, 1_800_000_000, now);
        black_box(presence.state(Some(member)));
        black_box(presence.flush(now));
        now = now + BETWEEN_JOINS;
    }
    presence
}

criterion_group!(benches, join_storm);
criterion_main!(benches);
