//! The page: one HTML file that needs nothing else. It is XML too, so that a test can read it.

use maud::{Markup, PreEscaped, html};

use super::charts::Chart;
use super::record::Record;
use super::rows::{CACHES, Row, SECTIONS, cache_cell, caches};
use super::summary;
use super::text::size;

/// With elements closed as XML wants it.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
    <meta name=\"color-scheme\" content=\"light dark\"/>\n";
const STYLE: &str = include_str!("page.css");

pub fn html(record: &Record, charts: &[Chart]) -> String {
    let title = match (record.measurements.first(), record.measurements.last()) {
        (Some(first), Some(last)) if first.connections < last.connections => {
            format!("corelay from {} to {} connections", size(first.connections), size(last.connections))
        }
        (_, last) => format!("corelay at {} connections", size(last.map_or(0, |at| at.connections))),
    };
    let page = html! {
        (PreEscaped(HEAD))
        title { (title) }
        style { (PreEscaped(STYLE)) }
        (PreEscaped("</head><body><main>\n"))
        h1 { (title) }
        p.lead { (summary::sentence(record)) }
        @if let Some(why) = summary::incomplete(record) { p.incomplete { strong { (why) } } }
        section.charts {
            @for chart in charts {
                figure role="img" aria-label=(format!("Chart: {}. Its numbers are in the table.", chart.title)) {
                    (PreEscaped(&chart.svg))
                }
            }
        }
        (numbers(record))
        (definitions())
        (provenance(record))
        (PreEscaped("</main></body></html>\n"))
    };
    page.into_string()
}

fn numbers(record: &Record) -> Markup {
    let measurements = &record.measurements;
    let columns = measurements.len() + 1;
    let heading =
        |title: &str| html! { tr.section { th colspan=(columns) scope="colgroup" { span { (title) } } } };
    let line = |row: &Row| {
        html! {
            tr { th scope="row" { (row.label) } @for at in measurements { td { (row.cell(at)) } } }
        }
    };
    html! {
        section {
            h2 { "All numbers" }
            div.wide tabindex="0" role="region" aria-label="All numbers" {
                table {
                    thead { tr { th scope="col" { "connections" } @for at in measurements { th scope="col" { (size(at.connections)) } } } }
                    tbody {
                        @for section in &SECTIONS {
                            (heading(section.title))
                            @for row in section.rows { (line(row)) }
                        }
                        (heading(CACHES.0))
                        @for name in caches(measurements) {
                            tr { th scope="row" { code { (name) } } @for at in measurements { td { (cache_cell(at, name)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn definitions() -> Markup {
    html! {
        section {
            h2 { "What was measured, and how" }
            p {
                "For each size a run of its own: players connect at an even rate and fill one game after another; then nobody moves "
                "(idle); then the active games move while all others stay silent (active); then everybody leaves."
            }
            @for section in &SECTIONS {
                h3 { (section.title) }
                dl { @for row in section.rows { dt { (row.label) } dd { (row.about) } } }
            }
            h3 { (CACHES.0) }
            p { (CACHES.1) }
        }
    }
}

fn provenance(record: &Record) -> Markup {
    let machine = &record.machine;
    let lines = [
        ("Processor", machine.cpu.clone()),
        ("Cores", machine.cores.to_string()),
        ("Memory", format!("{:.1} GiB", machine.memory_bytes / 1_073_741_824.0)),
        ("Kernel", machine.kernel.clone()),
        ("Date", record.date.clone()),
        ("Load test", format!("corelay-loadtest {}", record.version)),
    ];
    html! {
        section {
            h2 { "Where, when, and how to repeat it" }
            dl.machine {
                @for (name, value) in &lines { dt { (name) } dd { (value) } }
                @for (name, value) in &record.settings { dt { (name) } dd { (value) } }
            }
            pre { code { (record.command) } }
            p { "Relay and clients ran on this one machine, over its loopback interface." }
        }
    }
}
