//! Runs whose sizes are those of the published one, and what is drawn of them.

use std::fs;
use std::path::Path;

use roxmltree::{Document, ParsingOptions};

use super::*;
use crate::arguments::parsed;
use crate::figures::{Unit, Value, text, value_of};

/// What docs/PERFORMANCE.md shows; that it can be drawn again is tested by the way.
fn published() -> Record {
    Record::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling/measurements.json")).unwrap()
}

/// The published measurement of 10,000 connections, as if of another number.
fn measurement(connections: u32) -> Measurement {
    let mut measurement = published().measurements.swap_remove(1);
    measurement.connections = connections;
    measurement
}

fn arguments(place: &Path, more: &[&str]) -> Arguments {
    let out = place.join("page.html");
    parsed(&[&["--out", out.to_str().unwrap()], more].concat())
}

fn value(record: &Record, name: &str) -> Value {
    value_of(&figures_of(FIGURES, record), name)
}

fn texts(document: &Document<'_>) -> Vec<String> {
    let texts = document.descendants().filter(|node| node.is_text());
    texts.filter_map(|node| Some(node.text()?.trim().to_owned())).collect()
}

#[test]
fn the_page_is_well_formed_has_every_number_and_asks_nobody_for_anything() {
    let record = published();
    let page = page::html(&record, &charts::draw(&record.measurements).unwrap());
    let options = ParsingOptions { allow_dtd: true, ..Default::default() };
    let texts = texts(&Document::parse_with_options(&page, options).unwrap());
    let frame_cpu = text(record.measurements[3].value("cpu_us_per_frame").unwrap(), Unit::Number);
    for word in ["1k", "1M", "63", "1,000,000", &frame_cpu, "TCP", &record.date, &record.command] {
        assert!(texts.iter().any(|text| text == word), "{word} is not in {texts:?}");
    }
    let page = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for asking in ["http", "//", "@import", "url(", "<script", "<link", "src=", "href="] {
        assert!(!page.contains(asking), "{asking}");
    }
}

#[test]
fn every_chart_has_values_and_sizes_and_labels_do_not_stand_on_each_other() {
    let charts = charts::draw(&published().measurements).unwrap();
    let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["memory", "ramp", "idle-cpu", "frame-cpu", "frame-age"]);
    for (chart, value) in charts.iter().zip(["4,163", "18,794", "0.248", "16.3", "204"]) {
        let words = texts(&Document::parse(&chart.svg).unwrap());
        for word in ["1k", "10k", "100k", "1M", "connections, logarithmic", chart.title, value] {
            assert!(words.iter().any(|known| known == word), "{word} in {}: {words:?}", chart.name);
        }
    }
    let close = [1000, 1100, 100_000, 100_001].map(measurement);
    let words = texts(&Document::parse(&charts::draw(&close).unwrap()[1].svg).unwrap());
    let labels = words.iter().filter(|word| ["1k", "1.1k", "100k", "100,001"].contains(&word.as_str()));
    assert_eq!(labels.collect::<Vec<_>>(), ["100,001", "1.1k"]);
}

#[test]
fn what_is_going_to_be_done_is_said_with_how_long_it_takes() {
    let arguments: Arguments = parsed(&["--to", "10000", "--quiet", "5s", "--hold", "10s"]);
    let plan = plan(&sizes(&arguments).unwrap(), &arguments.load);
    // Twice 5 s, 10 s, 28 s of waiting and 3 s of reading, and 1.1 s in which they come and go.
    assert!(plan.starts_with("1000, 10000 connections: about 1m 33s in all."), "{plan}");
    assert!(plan.contains("silent for 5s, moves for 10s"), "{plan}");
}

#[test]
fn the_figures_are_of_the_largest_or_of_all_sizes() {
    let mut record = published();
    assert_eq!(value(&record, "p99"), record.measurements[3].value("p99_us"));
    let us = |at: usize| record.measurements[at].value("cpu_us_per_frame").unwrap();
    assert_eq!(value(&record, "flat"), Ok(us(3) / us(1)), "1k has fewer active players");
    assert_eq!((value(&record, "refused"), value(&record, "reach")), (Ok(0.0), Ok(1.0)));
    record.measurements.drain(1..3);
    assert!(value(&record, "flat").unwrap_err().contains("5000 active players"));
}

#[test]
fn the_json_is_there_after_every_size_and_can_be_drawn_again() {
    let place = tempfile::tempdir().unwrap();
    let (json, svg) = (place.path().join("page.json"), place.path().join("svg"));
    let arguments_of_run = arguments(place.path(), &["--to", "12000", "--charts", svg.to_str().unwrap()]);
    let interrupted = AtomicBool::new(false);
    let mut sizes = Vec::new();
    let holds = run_with(&arguments_of_run, &interrupted, &mut |connections| {
        if !sizes.is_empty() {
            let record = Record::read(&json).unwrap();
            let measured: Vec<_> = record.measurements.iter().map(|at| at.connections).collect();
            assert_eq!((measured, record.complete), (sizes.clone(), false));
        }
        sizes.push(connections);
        Ok((measurement(connections), None))
    });
    assert!(holds.unwrap());
    assert_eq!(sizes, [1000, 10_000, 12_000]);
    assert!(Record::read(&json).unwrap().complete);
    assert_eq!(fs::read_dir(svg).unwrap().count(), 5);
    let page = fs::read_to_string(place.path().join("page.html")).unwrap();

    let again = tempfile::tempdir().unwrap();
    let more = ["--from-json", json.to_str().unwrap(), "--assert", "user<=320,connections==12000"];
    let never = &mut |_| panic!("nothing is measured");
    let holds = run_with(&arguments(again.path(), &more), &interrupted, never).unwrap();
    assert!(!holds, "user is 1,230");
    assert_eq!(fs::read_to_string(again.path().join("page.html")).unwrap(), page);
    fs::write(&json, page).unwrap();
    assert!(run_with(&arguments(again.path(), &more), &interrupted, never).is_err());
}

/// A run of 1,000 and 10,000 connections, and what is left of it.
fn broken_run(measure: Measure<'_>, interrupted: &AtomicBool) -> (Result<bool, String>, Option<Record>) {
    let place = tempfile::tempdir().unwrap();
    let outcome = run_with(&arguments(place.path(), &["--to", "10000"]), interrupted, measure);
    (outcome.map_err(|error| format!("{error:#}")), Record::read(&place.path().join("page.json")).ok())
}

#[test]
fn a_run_that_does_not_come_to_its_end_keeps_what_it_has() {
    let interrupted = AtomicBool::new(false);
    let (outcome, record) = broken_run(
        &mut |connections| {
            interrupted.store(connections > 1000, Relaxed);
            Ok((measurement(connections), None))
        },
        &interrupted,
    );
    let why = "incomplete, 1 of 2 sizes measured: interrupted at 10000 connections";
    assert_eq!((outcome, record.unwrap().incomplete().unwrap().as_str()), (Ok(true), why));

    let running = AtomicBool::new(false);
    let (outcome, record) = broken_run(
        &mut |connections| {
            if connections > 1000 { bail!("too few <ports>") } else { Ok((measurement(connections), None)) }
        },
        &running,
    );
    assert_eq!(outcome, Err("10000 connections: too few <ports>".into()));
    assert!(record.unwrap().incomplete().unwrap().ends_with("at 10000 connections: too few <ports>"));

    let failed = |connections| (connections > 1000).then(|| anyhow::anyhow!("the relay ended"));
    let (outcome, record) =
        broken_run(&mut |connections| Ok((measurement(connections), failed(connections))), &running);
    assert_eq!(outcome, Err("10000 connections: the relay ended".into()));
    let why = "incomplete, 2 of 2 sizes measured: during the goodbyes of 10000 connections: the relay ended";
    assert_eq!(record.unwrap().incomplete().unwrap(), why);

    let (outcome, record) = broken_run(&mut |_| bail!("no relay"), &running);
    assert_eq!((outcome, record), (Err("1000 connections: no relay".into()), None));
}

#[test]
fn what_cannot_be_written_is_told_before_measuring() {
    let error = |more: &[&str]| {
        let never = &mut |_| panic!("it must not measure");
        format!("{:#}", run_with(&parsed(more), &AtomicBool::new(false), never).unwrap_err())
    };
    assert!(error(&["--out", "/nowhere/at/all.html"]).contains("/nowhere/at/all.html: it cannot be written"));
    assert!(error(&["--out", "page.json"]).contains("give the page another"));
    assert!(error(&["--to", "1234"]).contains("use 1200"));
}

#[test]
fn the_sizes_are_decades_with_the_same_load() {
    let of = |more: &[&str]| sizes(&parsed(more)).unwrap();
    assert_eq!(of(&[]), [1000, 10_000, 100_000, 1_000_000]);
    assert_eq!(of(&["--to", "10000"]), [1000, 10_000]);
    assert_eq!(of(&["--to", "10050"]), [1000, 10_000, 10_050]);
    assert_eq!(of(&["--to", "500"]), [500]);
    let load = |more: &[&str]| parsed::<Arguments>(more).load;
    assert_eq!(load(&[]).active_games, ActiveGames::Games(100));
    assert_eq!(load(&["--active-games", "0.005"]).active_games, ActiveGames::Share(0.005));
    let ping_after_s = u64::from(PING_AFTER_MS) / 1000;
    assert_eq!([load(&[]).quiet, load(&[]).hold].map(|window| window.as_secs() % ping_after_s), [0, 0]);
}
