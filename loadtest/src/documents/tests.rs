//! The whole scenario against a relay that makes one mistake.

use super::*;
use crate::arguments::parsed;
use crate::figures::{Figure, Value, value_of};
use crate::pretend_relay::{Fault, start};

fn figures(fault: Fault) -> Vec<Figure> {
    let url = start(fault);
    let line =
        ["--url", &url, "--metrics", "http://127.0.0.1:1/metrics", "--documents", "2", "--editors", "3"];
    let times =
        ["--rate", "50", "--warmup", "100ms", "--seconds", "0.4", "--grace", "1s", "--characters", "40"];
    let arguments = parsed::<Arguments>(&[&line[..], &times].concat());
    let report = measure(&arguments, &AtomicBool::new(false)).unwrap();
    assert_eq!(value_of(&report.figures, "edits"), Ok(150.0));
    report.figures
}

/// The values of these figures: diverged, lost, repeated, gaps, reordered, contradictions, refused.
fn measured(fault: Fault) -> [Value; 7] {
    let figures = figures(fault);
    ["diverged", "lost", "repeated", "gaps", "reordered", "contradictions", "refused"]
        .map(|name| value_of(&figures, name))
}

#[test]
fn a_relay_that_loses_repeats_swaps_garbles_or_refuses_an_operation_is_found_out() {
    let cases = [
        (Fault::Nothing, [0.0; 7]),
        // Both documents have the fault, but for the one that is refused. A text that went wrong may come right again by what is
        // deleted: that one diverges is sure, not which.
        (Fault::Loses(5), [2.0, 2.0, 0.0, 2.0, 0.0, 0.0, 0.0]),
        (Fault::Repeats(5), [0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
        (Fault::Swaps(5), [2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0]),
        (Fault::Refuses(5), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
    ];
    std::thread::scope(|scope| {
        let runs = cases.map(|(fault, expected)| (fault, expected, scope.spawn(move || measured(fault))));
        let garbled = scope.spawn(|| measured(Fault::Garbles(5)));
        for (fault, [diverges, expected @ ..], run) in runs {
            let [diverged, found @ ..] = run.join().unwrap();
            assert_eq!(found, expected.map(Ok), "{fault:?}");
            assert_eq!(diverged.map(|editors| editors > 0.0), Ok(diverges > 0.0), "{fault:?}");
        }
        // What the victims edit then may reach beyond the text.
        let [diverged, found @ ..] = garbled.join().unwrap();
        assert_eq!(found[..5], [0.0; 5].map(Ok));
        assert!(diverged.is_ok_and(|editors| editors > 0.0));
    });
}

#[test]
fn what_could_not_be_checked_because_the_relay_died_is_not_known() {
    let figures = figures(Fault::Dies(5));
    let value = |name| value_of(&figures, name);
    assert_eq!([value("closed"), value("unchecked")], [Ok(6.0), Ok(6.0)]);
    for name in ["diverged", "lost"] {
        assert_eq!(value(name), Err("6 of 6 editors could not be checked".to_owned()));
    }
    assert!(value("unsent").unwrap() > 100.0 && value("acknowledged").unwrap() >= 5.0);
}
