//! What is counted of what is told, without a relay.

use super::*;
use crate::figures::Value;
use crate::ledger::Faults;

const MS: u64 = 1_000_000;

/// A document of two editors, who edit ten times a second from 1000 ms on; what is meant for 1000 to 2000 ms counts.
fn edits() -> Edits {
    let seating = Seating { rooms: 1, members_per_room: 2 };
    let mut edits = Edits::new(Script { seating, rate: 10.0, characters: 16, seed: 3 });
    (0..2).for_each(|slot| tell(&mut edits, slot, TEXT, 900));
    edits.begin(1000 * MS, 1000 * MS..2000 * MS);
    edits
}

const TEXT: Stream<'_> = Stream::Text { seq: 4, content: "abc", part: 1, parts: 1 };

fn tell(edits: &mut Edits, slot: u32, stream: Stream<'_>, now_ms: u64) {
    edits.handle_event(slot, Event::Stream(stream), now_ms * MS);
}

/// Sends what `client` has to send: the number and the operation.
fn send(edits: &mut Edits, client: u32) -> (u32, Operation) {
    let (pending, _) = edits.editors[client as usize].next_to_send().unwrap();
    let (number, operation) =
        (edits.script.seating.message_of(client, pending.round), pending.operation.clone());
    let count = pending.edits;
    edits.editors[client as usize].handle_sent();
    edits.count_sent(number, count);
    (number, operation)
}

fn tell_edited(edits: &mut Edits, slot: u32, seq: u64, (number, operation): (u32, &Operation), now_ms: u64) {
    let op_id = format!("{}{number}", edits.op_id_start);
    tell(edits, slot, Stream::Edited { seq, operation, op_id: Some(&op_id) }, now_ms);
}

fn faults(edits: &Edits) -> Faults {
    edits.ledger.faults(|client| edits.is_here(client))
}

#[test]
fn each_edit_of_an_operation_has_its_own_latency() {
    let mut edits = edits();
    edits.make_due(1299 * MS);
    assert_eq!(edits.due, 6, "three of each");
    let (number, operation) = send(&mut edits, 0);
    assert_eq!((edits.outcomes.sent, edits.merged), (1, 2));
    tell_edited(&mut edits, 1, 5, (number, &operation), 1400);
    assert!(!edits.is_settled());
    tell(&mut edits, 0, Stream::Acknowledged { number, seq: 5 }, 1500);
    let first_ms = (1000 * MS + edits.schedule.phases_ns()[0]) as f64 / 1e6;
    let is_about = |value: Value, ms: f64| (value.unwrap() / 1e3 - ms).abs() < 1.0;
    let outcomes = &edits.outcomes;
    assert_eq!((outcomes.acknowledged, outcomes.acknowledged_in_window, outcomes.heard), (1, 3, 1));
    for (percentile, edit_ms) in [(0.0, first_ms + 200.0), (50.0, first_ms + 100.0), (100.0, first_ms)] {
        assert!(is_about(outcomes.ack(percentile), 1500.0 - edit_ms), "{percentile}");
        assert!(is_about(outcomes.heard(percentile), 1400.0 - edit_ms), "{percentile}");
    }
    assert_eq!(faults(&edits), Faults::default());
}

#[test]
fn a_second_spell_goes_on_with_other_numbers_and_its_own_times() {
    let mut edits = edits();
    edits.make_due(2500 * MS);
    assert_eq!((edits.due, edits.next_ns()), (20, None));
    edits.begin(5000 * MS, 5500 * MS..6000 * MS);
    edits.make_due(5099 * MS);
    assert_eq!(edits.due, 22);
    assert_eq!(edits.since_intended_us(0, 10, 5600 * MS), None, "before the window");
    let left_us = (100 * MS - edits.schedule.phases_ns()[0]) / 1000;
    assert_eq!(edits.since_intended_us(0, 15, 5600 * MS), Some(left_us));
    assert_eq!(edits.since_intended_us(0, 9, 2000 * MS), Some(left_us));
}

#[test]
fn texts_are_compared_with_the_newcomers() {
    let mut edits = edits();
    assert_eq!(edits.compare(), Comparison { diverged: 0, unchecked: 2 });
    tell(&mut edits, 2, TEXT, 2000);
    assert_eq!((edits.compare(), edits.longest(), edits.following()), (Comparison::default(), 3, 2));
    let insertion = Operation::read(r#"["x"]"#).unwrap();
    for slot in [0, 2] {
        tell(&mut edits, slot, Stream::Edited { seq: 5, operation: &insertion, op_id: Some("theirs") }, 2000);
    }
    assert_eq!(edits.compare(), Comparison { diverged: 1, unchecked: 0 });
    edits.handle_gone(1);
    assert_eq!(edits.compare(), Comparison { diverged: 0, unchecked: 1 });
    assert_eq!(faults(&edits), Faults::default(), "nobody here has missed anything");
}

#[test]
fn who_is_too_far_behind_is_told_the_text_anew() {
    let mut edits = edits();
    edits.make_due(1099 * MS);
    let (number, _) = send(&mut edits, 0);
    edits.make_due(1299 * MS);
    tell(&mut edits, 0, Stream::Refused { number, reason: "too_old" }, 1300);
    edits.make_due(1399 * MS);
    assert_eq!((edits.given_up, edits.outcomes.unsent, edits.following()), (2, 1, 1));
    tell(&mut edits, 0, Stream::Text { seq: 99, content: "", part: 1, parts: 1 }, 1400);
    assert_eq!((edits.restated, edits.following(), faults(&edits)), (1, 2, Faults::default()));
}
