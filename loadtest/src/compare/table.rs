//! A comparison as a table on standard output and as JSON, and whether the assertions hold.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::{Map, Value as Json, json};

use super::arguments::Arguments;
use super::contender::Contender;
use super::metrics::{MEMORY, METRICS};
use super::result::{Comparison, Row, Spread};
use crate::assertions::Assertion;
use crate::figures::{Figure, Unit, by_reason, text};
use crate::report::{Checked, check, checked_json, write_checked, write_json};

/// Writes the table, the JSON if asked for; whether all assertions hold.
pub fn finish(
    arguments: &Arguments,
    comparison: &Comparison,
    figures: &[Figure],
    assertions: &[Assertion],
) -> anyhow::Result<bool> {
    let checked = check(assertions, figures);
    write_table(arguments, comparison, &checked, &mut io::stdout().lock()).context("standard output")?;
    if let Some(path) = &arguments.output.json {
        write_json(path, &json(arguments, comparison, &checked))?;
    }
    Ok(checked.iter().all(|(_, outcome)| outcome.is_ok()))
}

fn write_table(
    arguments: &Arguments,
    comparison: &Comparison,
    checked: &[Checked<'_>],
    out: &mut impl Write,
) -> io::Result<()> {
    let of = if comparison.complete { "" } else { ", interrupted" };
    writeln!(
        out,
        "{} rooms of {} players at {} Hz, {:.1} s measured, {} of {} rounds{of}",
        arguments.load.rooms,
        arguments.load.players,
        arguments.load.hz,
        arguments.load.duration.as_secs_f64(),
        comparison.rounds.len(),
        arguments.rounds,
    )?;
    let threads = comparison.contenders.iter().map(|contender| {
        let threads = contender.threads(arguments.threads);
        let threads =
            threads.map_or_else(|| "an unknown number of".to_owned(), |threads| threads.to_string());
        format!("{} {threads} thread(s), {} dialect", contender.name, contender.dialect.as_str())
    });
    writeln!(out, "{}", threads.collect::<Vec<_>>().join("; "))?;

    let rows: Vec<_> = (0..comparison.contenders.len()).map(|index| comparison.rows(index)).collect();
    for (index, metric) in METRICS.iter().chain([&MEMORY]).enumerate() {
        writeln!(out, "\n{}: {}", metric.key, metric.about)?;
        let ratio = if metric.ratio.is_some() { "corelay / it" } else { "" };
        let head = format!("  {:<20}{:>14}  {:<28}{ratio:>14}", "", "median", "min – max");
        writeln!(out, "{}", head.trim_end())?;
        for (contender, rows) in comparison.contenders.iter().zip(&rows) {
            write_row(&contender.name, &rows[index], out)?;
        }
    }
    writeln!(out)?;
    for (reason, names) in unavailable(comparison) {
        writeln!(out, "not available: {} ({reason})", names.join(", "))?;
    }
    for warning in &comparison.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    write_checked(checked, out)
}

fn write_row(name: &str, row: &Row<'_>, out: &mut impl Write) -> io::Result<()> {
    let (value, range) = cells(&row.value, |value| text(value, row.metric.unit));
    let mut line = format!("  {name:<20}{value:>14}  {range:<28}");
    if let Some(ratio) = &row.ratio {
        let (ratio, range) = cells(ratio, |value| format!("{value:.2}"));
        line += &format!("{ratio:>14}  {range}");
    }
    writeln!(out, "{}", line.trim_end())
}

/// Median and range; a single value has no range.
fn cells(spread: &Result<Spread, String>, text: impl Fn(f64) -> String) -> (String, String) {
    match spread {
        Err(_) => ("n/a".to_owned(), String::new()),
        Ok(Spread { median, min, max }) if min == max => (text(*median), String::new()),
        Ok(Spread { median, min, max }) => (text(*median), format!("{} – {}", text(*min), text(*max))),
    }
}

fn unavailable(comparison: &Comparison) -> Vec<(String, Vec<String>)> {
    let names = comparison.contenders.iter().enumerate().flat_map(|(index, contender)| {
        let named = |row: Row<'_>| {
            let ratio = row.metric.ratio.zip(row.ratio);
            let values = [Some((row.metric.key, row.value)), ratio].into_iter().flatten();
            values.map(|(key, spread)| {
                (format!("{}.{key}", contender.name), spread.map(|spread| spread.median))
            })
        };
        comparison.rows(index).into_iter().flat_map(named).collect::<Vec<_>>()
    });
    by_reason(names)
}

fn json(arguments: &Arguments, comparison: &Comparison, checked: &[Checked<'_>]) -> Json {
    let server = |(index, contender): (usize, &Contender)| {
        let mut members = Map::new();
        members.insert("name".into(), contender.name.clone().into());
        members.insert("dialect".into(), contender.dialect.as_str().into());
        members.insert("threads".into(), contender.threads(arguments.threads).into());
        for row in comparison.rows(index) {
            let suffix = if row.metric.unit == Unit::Duration { "_us" } else { "" };
            members.insert(format!("{}{suffix}", row.metric.key), spread_json(row.value.as_ref().ok()));
            if let (Some(key), Some(ratio)) = (row.metric.ratio, &row.ratio) {
                members.insert(key.to_owned(), spread_json(ratio.as_ref().ok()));
            }
        }
        Json::Object(members)
    };
    let unavailable = unavailable(comparison).into_iter();
    json!({
        "command": "compare",
        "version": env!("CARGO_PKG_VERSION"),
        "complete": comparison.complete,
        "settings": {
            "rooms": arguments.load.rooms, "players": arguments.load.players, "hz": arguments.load.hz, "seed": arguments.load.seed,
            "duration_s": arguments.load.duration.as_secs_f64(), "warmup_s": arguments.load.warmup.as_secs_f64(),
            "grace_s": arguments.load.grace.as_secs_f64(), "rounds": arguments.rounds, "threads": arguments.threads,
            "client_threads": arguments.client_threads, "ramp": arguments.load.ramp,
            "idle": (!arguments.skip_memory).then_some(&arguments.idle), "hold_s": arguments.hold.as_secs_f64(),
        },
        "rounds": comparison.rounds.len(),
        "servers": comparison.contenders.iter().enumerate().map(server).collect::<Vec<_>>(),
        "warnings": comparison.warnings,
        "unavailable": unavailable.map(|(reason, names)| json!({ "reason": reason, "figures": names })).collect::<Vec<_>>(),
        "assertions": checked_json(checked),
    })
}

fn spread_json(spread: Option<&Spread>) -> Json {
    spread.map_or(
        Json::Null,
        |&Spread { median, min, max }| json!({ "median": median, "min": min, "max": max }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::tests::comparison;

    fn arguments() -> Arguments {
        crate::arguments::parsed(&["--rounds", "2", "--threads", "2"])
    }

    #[test]
    fn the_table_tells_medians_ranges_and_ratios() {
        let mut table = Vec::new();
        write_table(&arguments(), &comparison(), &[], &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let lines: Vec<_> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "40 rooms of 50 players at 20 Hz, 3.0 s measured, 2 of 2 rounds",
            "corelay 90,000 60,000 – 120,000",
            "go 40,000 20,000 – 60,000 2.50 2.00 – 3.00",
            "go 65.00 ms 60.00 ms – 70.00 ms 0.92 0.83 – 1.00",
            "go 1200 B 0.25",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line} is not in\n{table}");
        }
    }

    #[test]
    fn the_json_has_every_server_and_null_with_a_reason() {
        let mut comparison = comparison();
        comparison.memory[1] = Err("interrupted".into());
        let json = json(&arguments(), &comparison, &[]);
        let go = &json["servers"][1];
        assert_eq!(go["name"], "go");
        assert_eq!(go["deliveries_ratio"], json!({ "median": 2.5, "min": 2.0, "max": 3.0 }));
        assert_eq!((&go["p99_us"]["max"], &go["memory_per_connection"]), (&json!(70_000.0), &Json::Null));
        assert_eq!(json["unavailable"][0]["figures"], json!(["go.memory_per_connection", "go.memory_ratio"]));
        assert_eq!(json["servers"][0]["deliveries_ratio"], Json::Null);
    }
}
