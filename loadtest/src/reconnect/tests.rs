//! The whole scenario, without a restart, against a relay that does right, and one that forgets.

use super::*;
use crate::arguments::parsed;
use crate::figures::value_of;
use crate::pretend_relay::{Fault, start};

/// The values of these figures: back, recovered, seats_resumed, repeated, contradictions; and of lost and of gaps.
fn measured(fault: Fault) -> ([f64; 5], [f64; 2]) {
    let url = start(fault);
    let line =
        ["--url", &url, "--metrics", "http://127.0.0.1:1/metrics", "--clients", "24", "--members", "3"];
    let times = ["--rate", "200", "--before", "200ms", "--jitter", "500ms", "--after", "200ms"];
    let arguments = parsed::<Arguments>(&[&line[..], &times].concat());
    let report = measure(&arguments, &AtomicBool::new(false)).unwrap();
    let value = |name| value_of(&report.figures, name).unwrap();
    let figures = ["back", "recovered", "seats_resumed", "repeated", "contradictions"].map(value);
    (figures, [value("lost"), value("gaps")])
}

#[test]
fn everybody_comes_back_and_what_a_catch_up_leaves_out_is_found_out() {
    std::thread::scope(|scope| {
        let right = scope.spawn(|| measured(Fault::Nothing));
        let (figures, [lost, gaps]) = measured(Fault::ForgetsWhatWasMissed);
        // The member is told that it has recovered, and then of a number that is not the next one.
        assert!(lost >= 1.0 && gaps == 1.0, "lost {lost}, gaps {gaps}");
        assert_eq!(figures, [24.0, 24.0, 12.0, 0.0, 0.0]);
        assert_eq!(right.join().unwrap(), ([24.0, 24.0, 12.0, 0.0, 0.0], [0.0, 0.0]));
    });
}
