//! The page: one HTML file that needs nothing else. It is XML too, so that a test can read it.

use maud::{PreEscaped, html};

use super::charts::{Chart, size};
use super::record::Record;
use crate::figures::{Unit, specs, text};
use crate::million::{self, Measurement};

/// With elements closed as XML wants it.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
    <meta name=\"color-scheme\" content=\"light dark\"/>\n";
const STYLE: &str = include_str!("page.css");

/// `1k, 10k, 100k`.
pub fn sizes(record: &Record) -> String {
    let sizes: Vec<_> = record.measurements.iter().map(|at| size(at.connections)).collect();
    sizes.join(", ")
}

pub fn html(record: &Record, charts: &[Chart]) -> String {
    let title = format!("corelay at {} connections", sizes(record));
    let machine = &record.machine;
    let lines = [
        ("Processor", format!("{}, {} cores", machine.cpu, machine.cores)),
        ("Memory", text(machine.memory_bytes, Unit::Bytes)),
        ("Kernel", machine.kernel.clone()),
        ("Date", record.date.clone()),
        ("Load test", format!("corelay-loadtest {}, with the relay on this one machine", record.version)),
    ];
    let page = html! {
        (PreEscaped(HEAD))
        title { (title) }
        style { (PreEscaped(STYLE)) }
        (PreEscaped("</head><body>\n"))
        h1 { (title) }
        @if let Some(why) = record.incomplete() { p { strong { (why) } } }
        @for chart in charts { figure role="img" aria-label=(chart.title) { (PreEscaped(&chart.svg)) } }
        table {
            tr { th { "connections" } @for at in &record.measurements { th { (size(at.connections)) } } th {} }
            @for (name, cells, about) in rows(&record.measurements) {
                tr { th { (name) } @for cell in cells { td { (cell) } } td.about { (about) } }
            }
        }
        dl {
            @for (name, value) in &lines { dt { (name) } dd { (value) } }
            @if let Some(driver) = record.driver() { dt { "Driver" } dd { (driver) } }
            @for (name, value) in &record.settings { dt { (name) } dd { (value) } }
        }
        pre { code { (record.command) } }
        (PreEscaped("</body></html>\n"))
    };
    page.into_string()
}

/// Name, value at each size, and meaning: of the shards, of every figure of a run, and of every cache of the kernel.
fn rows(measurements: &[Measurement]) -> Vec<(&str, Vec<String>, &str)> {
    let cells = |cell: &dyn Fn(&Measurement) -> Option<String>| {
        measurements.iter().map(|at| cell(at).unwrap_or_else(|| "n/a".to_owned())).collect::<Vec<_>>()
    };
    let shards = cells(&|at| at.shards.map(|shards| shards.to_string()));
    let mut rows = vec![("shards", shards, "threads of the relay with a ring each")];
    for spec in specs(million::FIGURES) {
        let (_, key) = spec.json_path();
        let cells = cells(&|at| at.value(&key).ok().map(|value| text(value, spec.unit)));
        if cells.iter().any(|cell| cell != "n/a") {
            rows.push((spec.name, cells, spec.about));
        }
    }
    // Those first that are largest at the largest size.
    for (name, _) in measurements.iter().rev().flat_map(|at| &at.kernel_by_cache) {
        if rows.iter().all(|(known, ..)| known != name) {
            let of = |at: &Measurement| Some(at.kernel_by_cache.iter().find(|(known, _)| known == name)?.1);
            let cells = cells(&|at| of(at).map(|bytes| text(bytes, Unit::Bytes)));
            rows.push((name, cells, "growth of this slab cache, both ends of all connections"));
        }
    }
    rows
}
