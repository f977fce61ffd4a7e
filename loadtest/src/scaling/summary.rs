//! A run in one sentence, and as the figures that assertions are about.

use super::figures::FIGURES;
use super::record::Record;
use super::text::{count, short, size};
use crate::figures::{self, Figure, Unit, Value};
use crate::measurement::Measurement;

/// What the figures are, in the order of `FIGURES`.
pub fn figures(record: &Record) -> Vec<Figure> {
    let measurements = &record.measurements;
    let last = largest(record);
    let known = |value: f64| -> Value {
        if value.is_finite() { Ok(value) } else { Err("nothing was there to measure it by".to_owned()) }
    };
    let sum =
        |count: fn(&Measurement) -> u64| -> Value { Ok(measurements.iter().map(count).sum::<u64>() as f64) };
    let reach = measurements.iter().map(|at| at.age_us(at.reach)).fold(f64::INFINITY, f64::min);
    figures::fill(
        FIGURES,
        [
            ("sizes", Ok(measurements.len() as f64)),
            ("connections", Ok(f64::from(last.connections))),
            ("joined", Ok(f64::from(last.joined))),
            ("refused", sum(|at| at.refused)),
            ("dropped", sum(|at| at.dropped)),
            ("ramp_per_s", known(last.ramp_per_s)),
            ("user", known(last.user_bytes_per_player)),
            ("kernel", known(last.kernel_bytes_per_connection)),
            ("rss_top_bytes", known(last.rss_top_bytes)),
            ("rss_left", known(last.rss_after_bytes / last.rss_start_bytes)),
            ("slab_left_bytes", known(last.slab_left_bytes)),
            ("idle_cpu_cores", known(last.idle_cpu_cores)),
            ("frame_cpu_us", known(last.frame_cpu_us())),
            ("flat", flat(record).map(|(flat, _)| flat)),
            ("reach", known(reach)),
            ("p50", known(last.age_us(last.p50_us))),
            ("p99", known(last.age_us(last.p99_us))),
            ("max", known(last.age_us(last.max_us))),
        ],
    )
}

/// Processor time per frame at the largest size as a multiple of that at the base, which is the other one: the smallest size with
/// the same active players. With fewer of them a frame would differ for what they do, not for how many are silent.
fn flat(record: &Record) -> Result<(f64, &Measurement), String> {
    let measurements = &record.measurements;
    let last = largest(record);
    let base = measurements.iter().find(|at| at.active_players == last.active_players).unwrap_or(last);
    if base.connections >= last.connections {
        return Err(format!(
            "no smaller size has the {} active players of the largest one",
            count(f64::from(last.active_players))
        ));
    }
    let flat = last.frame_cpu_us() / base.frame_cpu_us();
    if flat.is_finite() {
        Ok((flat, base))
    } else {
        Err("no frame was delivered at one of the sizes".to_owned())
    }
}

/// The run in one sentence: what its largest size held and cost.
pub fn sentence(record: &Record) -> String {
    let last = largest(record);
    let joined = if last.joined == last.connections {
        count(f64::from(last.joined))
    } else {
        format!("{} of {}", count(f64::from(last.joined)), count(f64::from(last.connections)))
    };
    let cores = match record.machine.cores {
        1 => "1 core".to_owned(),
        cores => format!("{cores} cores"),
    };
    let rate =
        part(last.ramp_per_s, count, "per second").map(|rate| format!(" at {rate}")).unwrap_or_default();
    let mut parts = vec![format!(
        "{joined} players joined one relay{rate} on a machine of {cores}, relay and clients together; {} were refused, {} dropped",
        count(last.refused as f64),
        count(last.dropped as f64),
    )];
    let memory = [
        part(last.user_bytes_per_player, count, "bytes of the relay's memory"),
        part(last.kernel_bytes_per_connection, count, "bytes of the kernel's"),
    ];
    let memory: Vec<_> = memory.into_iter().flatten().collect();
    if !memory.is_empty() {
        parts.push(format!("each takes {}", memory.join(" and ")));
    }
    parts.extend(part(last.idle_cpu_cores, short, "cores are busy with all of them while nobody moves"));
    let ages = [
        part(last.age_us(last.p50_us), duration, "(p50)"),
        part(last.age_us(last.p99_us), duration, "(p99)"),
    ];
    if let [Some(half), Some(most)] = ages {
        let active = count(f64::from(last.active_players));
        parts.push(format!("the {active} active ones see moves at an age of {half} and {most}"));
    }
    if let Ok((flat, base)) = flat(record) {
        let base = size(base.connections);
        parts.push(format!("a delivered frame costs {} × the CPU of one among {base}", short(flat)));
    }
    parts.join("; ") + "."
}

/// A number with what it counts; `None` where it is not known.
fn part(value: f64, text: fn(f64) -> String, unit: &str) -> Option<String> {
    value.is_finite().then(|| format!("{} {unit}", text(value)))
}

fn duration(us: f64) -> String {
    figures::text(us, Unit::Duration)
}

/// Why it is not all that was planned; `None` if it is.
pub fn incomplete(record: &Record) -> Option<String> {
    if record.complete {
        return None;
    }
    let (measured, planned) = (record.measurements.len(), record.planned.len());
    let why = record.ended_by.as_deref().unwrap_or("ended before its time");
    Some(format!("incomplete, {measured} of {planned} sizes measured: {why}"))
}

fn largest(record: &Record) -> &Measurement {
    &record.measurements[record.measurements.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions;
    use crate::scaling::fixture;

    fn value(record: &Record, name: &str) -> Value {
        figures(record).into_iter().find(|figure| figure.spec.name == name).unwrap().value
    }

    #[test]
    fn flatness_is_from_the_smallest_size_with_all_active_players() {
        let mut record = fixture::record();
        for (at, us) in record.measurements.iter_mut().zip([1.25, 2.0, 2.25, 2.5]) {
            at.cpu_us_per_frame = us;
        }
        assert_eq!(value(&record, "flat"), Ok(2.5 / 2.0));
        record.measurements.remove(1);
        assert_eq!(value(&record, "flat"), Ok(2.5 / 2.25));
        record.measurements.remove(1);
        assert_eq!(
            value(&record, "flat"),
            Err("no smaller size has the 5,000 active players of the largest one".into())
        );
        record.measurements.truncate(1);
        assert!(value(&record, "flat").is_err());
    }

    #[test]
    fn the_figures_are_of_the_largest_or_the_worst_size() {
        let mut record = fixture::record();
        record.measurements[0].refused = 2;
        record.measurements[1].refused = 3;
        record.measurements[2].reach = 0.9;
        assert_eq!(value(&record, "refused"), Ok(5.0));
        assert_eq!(value(&record, "reach"), Ok(0.9));
        assert_eq!(value(&record, "p99"), Ok(231_210.0));
        let assertions = assertions::parse("user<=320,kernel<=4300,p99<=300ms,flat<=1.5", FIGURES).unwrap();
        let figures = figures(&record);
        assert!(assertions.iter().all(|assertion| assertion.check(&figures).is_ok()));
        let assertion = &assertions::parse("reach>=0.999", FIGURES).unwrap()[0];
        assert_eq!(assertion.check(&figures), Err("it is 0.90000".to_owned()));
    }

    #[test]
    fn without_frames_there_is_no_age() {
        let mut record = fixture::record();
        record.measurements.truncate(1);
        record.measurements[0].frames = 0;
        for name in ["frame_cpu_us", "flat", "reach", "p50", "p99", "max"] {
            assert!(value(&record, name).is_err(), "{name}");
        }
        assert!(!sentence(&record).contains("age"), "{}", sentence(&record));
    }

    #[test]
    fn the_sentence_says_what_was_reached() {
        let mut record = fixture::record();
        assert_eq!(
            sentence(&record),
            "1,000,000 players joined one relay at 18,700 per second on a machine of 2 cores, relay and clients together; \
             0 were refused, 0 dropped; each takes 305 bytes of the relay's memory and 4,096 bytes of the kernel's; 0.294 cores \
             are busy with all of them while nobody moves; the 5,000 active ones see moves at an age of 105.13 ms (p50) and \
             231.21 ms (p99); a delivered frame costs 1.15 × the CPU of one among 10k."
        );
        record.measurements[3].joined = 999_725;
        record.measurements[3].user_bytes_per_player = f64::NAN;
        assert!(
            sentence(&record).contains("each takes 4,096 bytes of the kernel's; 0.294"),
            "{}",
            sentence(&record)
        );
        assert!(sentence(&record).starts_with("999,725 of 1,000,000 players"), "{}", sentence(&record));
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut record = fixture::record();
        assert_eq!(incomplete(&record), None);
        record.measurements.truncate(2);
        record.complete = false;
        record.ended_by = Some("interrupted at 100,000 connections".into());
        assert_eq!(
            incomplete(&record).unwrap(),
            "incomplete, 2 of 4 sizes measured: interrupted at 100,000 connections"
        );
    }
}
