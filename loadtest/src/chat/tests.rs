//! The whole scenario against a relay that makes one mistake.

use super::*;
use crate::arguments::parsed;
use crate::figures::value_of;
use crate::pretend_relay::{Fault, start};

/// The values of these figures: acknowledged, refused, lost, repeated, gaps, reordered, contradictions.
fn measured(fault: Fault) -> [f64; 7] {
    let url = start(fault);
    let line = ["--url", &url, "--metrics", "http://127.0.0.1:1/metrics", "--rooms", "2", "--members", "3"];
    let times = ["--rate", "100", "--warmup", "100ms", "--seconds", "0.4", "--grace", "1s"];
    let arguments = parsed::<Arguments>(&[&line[..], &times].concat());
    let report = measure(&arguments, &AtomicBool::new(false)).unwrap();
    assert_eq!(value_of(&report.figures, "messages"), Ok(50.0));
    ["acknowledged", "refused", "lost", "repeated", "gaps", "reordered", "contradictions"]
        .map(|name| value_of(&report.figures, name).unwrap())
}

#[test]
fn a_relay_that_loses_repeats_swaps_or_refuses_a_message_is_found_out() {
    let cases = [
        (Fault::Nothing, [50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        // Both rooms have the fault.
        (Fault::Loses(5), [50.0, 0.0, 2.0, 0.0, 2.0, 0.0, 0.0]),
        (Fault::Loses(25), [50.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
        (Fault::Repeats(5), [50.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]),
        (Fault::Swaps(5), [50.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0.0]),
        (Fault::Refuses(5), [49.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    std::thread::scope(|scope| {
        let runs = cases.map(|(fault, expected)| (fault, expected, scope.spawn(move || measured(fault))));
        for (fault, expected, run) in runs {
            assert_eq!(run.join().unwrap(), expected, "{fault:?}");
        }
    });
}
