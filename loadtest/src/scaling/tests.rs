//! Runs without a relay: what is written, when, and what it looks like to a parser.

use std::cell::Cell;

use roxmltree::{Document, ParsingOptions};

use super::*;
use crate::arguments::parsed;
use crate::million;

/// A directory of its own, gone in the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelay-scaling-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn arguments(&self, more: &[&str]) -> Arguments {
        let out = self.0.join("page.html");
        parsed(&[&["--out", out.to_str().unwrap()], more].concat())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn parse(page: &str) -> Document<'_> {
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..Default::default() }).unwrap()
}

fn texts(document: &Document<'_>) -> String {
    let texts: Vec<_> =
        document.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
    texts.join("|")
}

#[test]
fn the_page_is_well_formed_and_has_every_number() {
    let record = fixture::record();
    let page = page::html(&record, &charts::draw(&record.measurements).unwrap());
    let document = parse(&page);
    let text = texts(&document);
    for measurement in &record.measurements {
        for row in rows::SECTIONS.iter().flat_map(|section| section.rows) {
            let cell = row.cell(measurement);
            assert!(!cell.contains("NaN") && text.contains(&format!("|{cell}|")), "{}: {cell}", row.label);
        }
        for (name, _) in &measurement.kernel_by_cache {
            assert!(text.contains(&rows::cache_cell(measurement, name)), "{name}");
        }
    }
    for word in [
        "Made-up <CPU> & Co. @ 2.70GHz",
        "24.0 GiB",
        "Linux 6.18.0 x86_64",
        "2031-02-03T04:05:06Z",
        "corelay-loadtest scaling --to 1000000 --assert 'flat<=1.5'",
        "corelay-loadtest 0.1.0",
        "every 60 s & closed after 180 s",
        "1,000,000 players joined",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert!(!text.contains("sizes measured"));
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("td")).count(), 4 * 26);
}

#[test]
fn the_page_asks_nobody_for_anything() {
    let record = fixture::record();
    let page = page::html(&record, &charts::draw(&record.measurements).unwrap());
    let without_namespace = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for asking in ["http", "//", "@import", "url(", "<script", "<link", "src=", "href="] {
        assert!(!without_namespace.contains(asking), "{asking}");
    }
}

#[test]
fn every_chart_is_a_file_of_its_own_with_values_and_sizes() {
    let charts = charts::draw(&fixture::record().measurements).unwrap();
    let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["memory", "ramp", "idle-cpu", "frame-cpu", "frame-age"]);
    for chart in &charts {
        let document = Document::parse(&chart.svg).unwrap();
        let words = texts(&document);
        let words: Vec<_> = words.split('|').map(str::trim).collect();
        for word in ["1k", "10k", "100k", "1M", "connections, logarithmic", chart.title] {
            assert!(words.contains(&word), "{word} in {}: {words:?}", chart.name);
        }
        let ground = document
            .descendants()
            .find(|node| node.is_element() && node.tag_name().name() == "rect")
            .unwrap();
        assert_eq!((ground.attribute("width"), ground.attribute("fill")), (Some("520"), Some("#FFFFFF")));
    }
    let words = |number: usize| texts(&Document::parse(&charts[number].svg).unwrap());
    for value in ["4,096", "305", "4,401"] {
        assert!(words(0).contains(value), "{value}");
    }
    assert!(words(4).contains("231") && words(4).contains("105"));
}

#[test]
fn labels_do_not_stand_on_each_other() {
    let labels = |sizes: &[u32]| {
        let measurements: Vec<_> = sizes.iter().map(|&size| fixture::measurement(size)).collect();
        let svg = charts::draw(&measurements).unwrap().swap_remove(1).svg;
        let words = texts(&Document::parse(&svg).unwrap());
        let known = ["1k", "1100", "1.1k", "100k", "100,001"];
        words
            .split('|')
            .map(str::trim)
            .filter(|word| known.contains(word))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(&[1000, 1100, 100_000, 100_001]), ["100,001", "1.1k"]);
    assert_eq!(labels(&[1000]), ["1k"]);
}

#[test]
fn the_page_knows_every_colour_of_the_charts() {
    let style = include_str!("page.css");
    for chart in charts::draw(&fixture::record().measurements).unwrap() {
        for node in Document::parse(&chart.svg).unwrap().descendants() {
            for attribute in node.attributes().filter(|attribute| attribute.value().starts_with('#')) {
                let rule = format!("svg [{}=\"{}\"]", attribute.name(), attribute.value());
                assert!(style.contains(&rule), "{rule}, for {}", chart.name);
            }
        }
    }
}

#[test]
fn one_size_without_frames_is_drawn_too() {
    let mut record = fixture::record();
    record.measurements.truncate(1);
    let measurement = &mut record.measurements[0];
    (measurement.frames, measurement.cpu_us_per_frame, measurement.p50_us) = (0, f64::NAN, f64::NAN);
    (measurement.idle_cpu_cores, measurement.user_bytes_per_player) = (0.0, -3.0);
    let charts = charts::draw(&record.measurements).unwrap();
    let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
    assert_eq!(names, ["memory", "ramp", "idle-cpu"]);
    let page = page::html(&record, &charts);
    assert!(texts(&parse(&page)).contains("|n/a|") && !page.contains("NaN"));
}

#[test]
fn the_json_is_there_after_every_size() {
    let place = Place::new("every");
    let arguments =
        place.arguments(&["--sizes", "1000,2500,10000", "--charts", place.0.join("svg").to_str().unwrap()]);
    let interrupted = AtomicBool::new(false);
    let mut sizes = Vec::new();
    let holds = run_with(&arguments, &interrupted, &mut |connections| {
        if !sizes.is_empty() {
            let record: Record = serde_json::from_str(&place.read("page.json")).unwrap();
            let measured: Vec<_> = record.measurements.iter().map(|at| at.connections).collect();
            assert_eq!((measured, record.complete), (sizes.clone(), false));
        }
        sizes.push(connections);
        Ok((fixture::measurement(connections), None))
    });
    assert!(holds.unwrap());
    assert_eq!(sizes, [1000, 2500, 10_000]);
    assert!(Record::read(&place.0.join("page.json")).unwrap().complete);
    let page = place.read("page.html");
    assert!(page.contains("2.5k") && !page.contains("sizes measured"));
    assert_eq!(fs::read_dir(place.0.join("svg")).unwrap().count(), 5);

    let again = Place::new("again");
    let json = place.0.join("page.json");
    let arguments =
        again.arguments(&["--from-json", json.to_str().unwrap(), "--assert", "user<=320,joined==10000"]);
    let holds = run_with(&arguments, &interrupted, &mut |_| panic!("nothing is measured")).unwrap();
    assert!(!holds, "user is 335");
    assert_eq!(again.read("page.html"), page);
    assert_eq!(fs::read_dir(&again.0).unwrap().count(), 1);
}

#[test]
fn an_interrupted_run_keeps_what_it_has() {
    let place = Place::new("interrupted");
    let interrupted = AtomicBool::new(false);
    let holds = run_with(&place.arguments(&["--to", "50000"]), &interrupted, &mut |connections| {
        interrupted.store(connections == 50_000, Relaxed);
        Ok((fixture::measurement(connections), None))
    });
    assert!(holds.unwrap());
    let record = Record::read(&place.0.join("page.json")).unwrap();
    assert_eq!((record.planned.len(), record.measurements.len(), record.complete), (3, 2, false));
    let why = "incomplete, 2 of 3 sizes measured: interrupted at 50,000 connections";
    assert!(texts(&parse(&place.read("page.html"))).contains(why));
}

#[test]
fn a_size_that_fails_ends_the_run_with_its_error_and_the_page_of_the_others() {
    let place = Place::new("fails");
    let measured = Cell::new(0);
    let error = run_with(&place.arguments(&["--to", "10000"]), &AtomicBool::new(false), &mut |connections| {
        measured.set(connections);
        if connections > 1000 {
            bail!("too few <ports>")
        } else {
            Ok((fixture::measurement(connections), None))
        }
    });
    assert_eq!(format!("{:#}", error.unwrap_err()), "10,000 connections: too few <ports>");
    assert!(texts(&parse(&place.read("page.html"))).contains("at 10,000 connections: too few <ports>"));

    let nothing = Place::new("nothing");
    let error = run_with(&nothing.arguments(&[]), &AtomicBool::new(false), &mut |_| bail!("no relay"));
    assert_eq!(format!("{:#}", error.unwrap_err()), "1,000 connections: no relay");
    assert_eq!(fs::read_dir(&nothing.0).unwrap().count(), 0, "what an earlier run left is not touched");
}

#[test]
fn a_size_whose_goodbyes_fail_keeps_its_numbers_and_ends_the_run_with_the_error() {
    let place = Place::new("goodbyes");
    let error = run_with(&place.arguments(&["--to", "10000"]), &AtomicBool::new(false), &mut |connections| {
        let mut measurement = fixture::measurement(connections);
        if connections == 1000 {
            return Ok((measurement, None));
        }
        (measurement.rss_after_bytes, measurement.slab_left_bytes) = (f64::NAN, f64::NAN);
        Ok((measurement, Some(anyhow::anyhow!("the relay ended"))))
    });
    assert_eq!(format!("{:#}", error.unwrap_err()), "10,000 connections: the relay ended");
    let record = Record::read(&place.0.join("page.json")).unwrap();
    let last = &record.measurements[1];
    assert!(last.rss_after_bytes.is_nan() && last.slab_left_bytes.is_nan() && !record.complete);
    assert_eq!(last.rss_top_bytes, fixture::measurement(10_000).rss_top_bytes);
    let why = "2 of 2 sizes measured: during the goodbyes of 10,000 connections: the relay ended";
    assert!(texts(&parse(&place.read("page.html"))).contains(why));
}

#[test]
fn what_cannot_be_written_is_told_before_measuring() {
    let place = Place::new("unwritable");
    let mut arguments = place.arguments(&[]);
    let error = |arguments: &Arguments| {
        let never = &mut |_| panic!("it must not measure");
        format!("{:#}", run_with(arguments, &AtomicBool::new(false), never).unwrap_err())
    };
    arguments.out = Some("/nowhere/at/all.html".into());
    assert!(error(&arguments).contains("/nowhere/at/all.html: it cannot be written"));
    arguments.out = Some("page.json".into());
    assert!(error(&arguments).contains("give the page another"));
    let arguments = place.arguments(&["--sizes", "10000,1000"]);
    assert!(error(&arguments).contains("must rise"));
    let arguments = place.arguments(&["--sizes", "1000,1234"]);
    assert!(
        error(&arguments)
            .contains("1234 connections are not a number of whole games of --players 50: use 1200")
    );
}

#[test]
fn every_size_has_the_same_load_by_default() {
    let place = Place::new("load");
    let load = |more: &[&str]| place.arguments(more).load;
    assert_eq!(load(&[]).active_games, ActiveGames::Games(100));
    assert_eq!(load(&["--active-games", "0.005"]).active_games, ActiveGames::Share(0.005));
    let ping_after_s = u64::from(PING_AFTER_MS) / 1000;
    assert_eq!([load(&[]).quiet, load(&[]).hold].map(|window| window.as_secs() % ping_after_s), [0, 0]);
    let million = parsed::<million::Arguments>(&[]).load;
    assert_eq!((million.active_games, million.quiet), (ActiveGames::Share(0.005), load(&[]).quiet));
    let lines = settings(&load(&[]));
    assert!(lines.contains(&(
        "Active".into(),
        "100 games at every size, or all that it has; 5 moves a second of each player".into()
    )));
}

#[test]
fn the_sizes_are_decades_up_to_the_largest() {
    let place = Place::new("sizes");
    let of = |more: &[&str]| sizes(&place.arguments(more)).unwrap();
    assert_eq!(of(&[]), [1000, 10_000, 100_000, 1_000_000]);
    assert_eq!(of(&["--to", "10000"]), [1000, 10_000]);
    assert_eq!(of(&["--to", "10050"]), [1000, 10_000, 10_050]);
    assert_eq!(of(&["--to", "500"]), [500]);
}
