//! Every kind of fault is found, and what is none is not taken for one.

use super::*;

/// Two rooms of three. Messages 0, 2, 4 are of room 0, said by the clients 0, 1, 2; both rooms are at number 10.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(Seating { rooms: 2, members_per_room: 3 });
    (0..6).for_each(|client| assert_eq!(ledger.handle_join(client, 10), 0));
    // Number 6 is not sent; 7 is.
    [5, 4, 3, 2, 1, 0, 7].into_iter().for_each(|number| ledger.handle_sent(number));
    ledger
}

fn hear(ledger: &mut Ledger, clients: &[u32], seq: u64, message: u32) {
    clients.iter().for_each(|&client| {
        ledger.handle_heard(client, seq, Some(message));
    });
}

fn faults(ledger: &Ledger) -> Faults {
    ledger.faults(|_| true)
}

#[test]
fn what_everybody_is_told_once_and_in_order_has_no_fault() {
    let mut ledger = ledger();
    hear(&mut ledger, &[0, 1, 2], 11, 0);
    assert!(ledger.handle_acknowledged(0, 0, 11));
    // Somebody else, who is no client of ours, speaks, too.
    (0..3).for_each(|client| assert!(ledger.handle_heard(client, 12, None)));
    hear(&mut ledger, &[0, 1, 2], 13, 2);
    assert!(ledger.handle_acknowledged(1, 2, 13));
    assert_eq!(faults(&ledger), Faults::default());
    assert!(ledger.is_complete(|_| true));
    assert_eq!(ledger.unanswered().collect::<Vec<_>>(), [1, 3, 4, 5, 7]);
    assert!(ledger.was_said(2) && !ledger.was_said(1));
}

#[test]
fn an_acknowledged_message_that_a_member_is_not_told_of_is_lost_at_the_end_or_in_between() {
    let mut ledger = ledger();
    hear(&mut ledger, &[0, 1], 11, 0);
    ledger.handle_acknowledged(0, 0, 11);
    assert!(!ledger.is_complete(|_| true));
    assert_eq!(faults(&ledger), Faults { lost: 1, ..Faults::default() });
    // Whose connection has ended is not to be told any more.
    assert!(ledger.is_complete(|client| client != 2));
    assert_eq!(ledger.faults(|client| client != 2).lost, 0);
    hear(&mut ledger, &[0, 1, 2], 12, 2);
    // Now it is left out for good, whether the member is still there or not.
    assert_eq!(ledger.faults(|client| client != 2), Faults { lost: 1, gaps: 1, ..Faults::default() });
}

#[test]
fn a_message_that_was_not_acknowledged_may_be_missing() {
    let mut ledger = ledger();
    hear(&mut ledger, &[0], 11, 0);
    assert_eq!(faults(&ledger), Faults::default());
    assert!(ledger.handle_refused(1, 2));
    assert_eq!(faults(&ledger), Faults::default());
}

#[test]
fn a_number_that_comes_again_is_repeated_also_one_of_before_the_join() {
    let mut ledger = ledger();
    assert!(ledger.handle_heard(1, 11, Some(0)));
    assert!(!ledger.handle_heard(1, 11, Some(0)));
    assert!(!ledger.handle_heard(1, 10, None));
    assert_eq!(faults(&ledger), Faults { repeated: 2, ..Faults::default() });
}

#[test]
fn what_comes_after_a_later_number_is_reordered_and_not_lost() {
    let mut ledger = ledger();
    ledger.handle_heard(2, 15, None);
    for (seq, message) in [(13, 2), (11, 0)] {
        assert!(ledger.handle_heard(2, seq, Some(message)));
        assert!(!ledger.handle_heard(2, seq, Some(message)), "{seq} comes for the second time");
    }
    hear(&mut ledger, &[0, 1], 11, 0);
    ledger.handle_acknowledged(0, 0, 11);
    assert_eq!(faults(&ledger), Faults { gaps: 1, reordered: 2, repeated: 2, ..Faults::default() });
    assert!(!ledger.is_complete(|client| client == 2), "12 and 14 are still missing");
}

#[test]
fn numbers_and_messages_that_do_not_fit_are_contradictions() {
    let contradictions = |act: &dyn Fn(&mut Ledger)| {
        let mut ledger = ledger();
        hear(&mut ledger, &[0], 11, 0);
        act(&mut ledger);
        faults(&ledger).contradictions
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Ledger));
    let cases: [Case<'_>; 9] = [
        ("another message with the number", &|ledger| hear(ledger, &[1], 11, 2)),
        ("the message with another number", &|ledger| hear(ledger, &[1], 12, 0)),
        ("an answer with another number", &|ledger| assert!(ledger.handle_acknowledged(0, 0, 12))),
        ("an answer to somebody else", &|ledger| assert!(!ledger.handle_acknowledged(1, 0, 11))),
        ("a message of another room", &|ledger| hear(ledger, &[1], 12, 1)),
        ("a message that nobody has sent", &|ledger| hear(ledger, &[1], 12, 600)),
        ("a message that was left out", &|ledger| hear(ledger, &[1], 12, 6)),
        ("an answer to what nobody has sent", &|ledger| assert!(!ledger.handle_refused(0, 600))),
        ("a second answer", &|ledger| {
            assert!(ledger.handle_acknowledged(0, 0, 11));
            assert!(!ledger.handle_refused(0, 0));
        }),
    ];
    for (what, act) in cases {
        assert_eq!(contradictions(act), 1, "{what}");
    }
    assert_eq!(contradictions(&|ledger| hear(ledger, &[1, 2], 11, 0)), 0);
}

#[test]
fn who_comes_back_goes_on_where_it_was_or_begins_anew_without_what_it_missed() {
    let mut ledger = ledger();
    hear(&mut ledger, &[0, 1], 11, 0);
    ledger.handle_acknowledged(0, 0, 11);
    hear(&mut ledger, &[0, 1], 12, 2);
    ledger.handle_acknowledged(1, 2, 12);
    // Client 2 catches up.
    let mut recovered = ledger;
    hear(&mut recovered, &[2], 11, 0);
    hear(&mut recovered, &[2], 12, 2);
    assert_eq!(faults(&recovered), Faults::default());
    // Client 1 is told of two numbers that it will not be told again; only 13 is one of ours.
    hear(&mut recovered, &[0, 2], 13, 4);
    recovered.handle_acknowledged(2, 4, 13);
    assert_eq!(recovered.handle_join(1, 14), 1);
    assert!(recovered.is_complete(|_| true));
    recovered.handle_heard(1, 15, None);
    assert_eq!(faults(&recovered), Faults::default());
}
