//! What a run leaves behind: the table on standard output, `--json`, and whether the assertions hold.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value as Json, json};

use crate::arguments::Output;
use crate::assertions::{self, Assertion};
use crate::endings::{Endings, Texts};
use crate::figures::{Figure, Spec, by_reason};

/// Share of its threads' time from which the load test is taken to be saturated.
const SATURATED: f64 = 0.85;

/// The warning that the figures tell of this machine: it used such a share of its threads' time, or something was `late`.
pub fn did_not_keep_up(own_share: f64, late: Option<&str>) -> Option<String> {
    let told = late.map(|late| format!(", {late}")).unwrap_or_default();
    (own_share > SATURATED || late.is_some()).then(|| {
        format!(
            "this machine did not keep up ({:.0} % of the client's threads used{told}): read latencies, and frames per second, \
             as upper bounds",
            own_share * 100.0
        )
    })
}

#[derive(Debug, Default)]
pub struct Report {
    pub command: &'static str,
    pub title: String,
    pub settings: Json,
    pub complete: bool,
    pub figures: Vec<Figure>,
    /// What stands in the place of a line for each figure, if anything does.
    pub table: Option<String>,
    /// What the relay runs on; `None`: it does not tell.
    pub driver: Option<String>,
    /// Where the relay's processor time comes from; `None`: nowhere.
    pub cpu_source: Option<&'static str>,
    pub endings: Endings,
    pub warnings: Vec<String>,
    pub details: Map<String, Json>,
}

/// Measures, reports, and checks what `output` asserts of the figures `specs`: whether all of it holds.
pub fn run(
    output: &Output,
    specs: &[&'static Spec],
    measure: impl FnOnce() -> anyhow::Result<Report>,
) -> anyhow::Result<bool> {
    let assertions = assertions::parse(&output.assertions, specs)?;
    measure()?.finish(&assertions, output.json.as_deref())
}

impl Report {
    /// Writes the table, the JSON if asked for, and checks the assertions: whether all of them hold.
    pub fn finish(&self, assertions: &[Assertion], json: Option<&Path>) -> anyhow::Result<bool> {
        let checked = check(assertions, &self.figures);
        self.write_table(&checked, &mut io::stdout().lock()).context("standard output")?;
        if let Some(path) = json {
            write_json(path, &self.json(&checked))?;
        }
        Ok(checked.iter().all(|(_, outcome)| outcome.is_ok()))
    }

    fn write_table(&self, checked: &[Checked<'_>], out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.title)?;
        writeln!(out, "{}", verdict(self.complete, checked))?;
        writeln!(out, "{}\n", self.headline())?;
        match &self.table {
            Some(table) => write!(out, "{table}")?,
            None => self.write_figures(out)?,
        }
        for (reason, names) in by_reason(&self.figures) {
            writeln!(out, "not available: {} ({reason})", names.join(", "))?;
        }
        let Endings { failures, closes, stalled_closes, errors } = &self.endings;
        let told = [
            ("did not join", failures),
            ("closed", closes),
            ("stalled, closed", stalled_closes),
            ("error told", errors),
        ];
        for (what, texts) in told {
            for (text, count) in texts.lines() {
                writeln!(out, "{what}: {count} × {text}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for (assertion, outcome) in checked {
            match outcome {
                Ok(()) => writeln!(out, "ok      {assertion}")?,
                Err(why) => writeln!(out, "FAILED  {assertion}: {why}")?,
            }
        }
        out.flush()
    }

    fn write_figures(&self, out: &mut impl Write) -> io::Result<()> {
        for figure in self.figures.iter().filter(|figure| figure.value.is_ok()) {
            writeln!(out, "  {:<28}{:>14}  {}", figure.spec.name, figure.to_string(), figure.spec.about)?;
        }
        Ok(())
    }

    /// The figures that matter most, and what the relay runs on, in one line.
    fn headline(&self) -> String {
        let known = self.figures.iter().filter(|figure| figure.spec.headline && figure.value.is_ok());
        let known = known.map(|figure| format!("{} {figure}", figure.spec.name));
        let driver = self.driver.iter().map(|driver| format!("the relay is on {driver}"));
        known.chain(driver).collect::<Vec<_>>().join(" | ")
    }

    fn json(&self, checked: &[Checked<'_>]) -> Json {
        let Endings { failures, closes, stalled_closes, errors } = &self.endings;
        let unavailable = by_reason(&self.figures).into_iter();
        let unavailable = unavailable.map(|(reason, names)| json!({ "reason": reason, "figures": names }));
        let assertion = |(assertion, outcome): &Checked<'_>| {
            let why = outcome.as_ref().err();
            json!({ "assertion": assertion.to_string(), "holds": why.is_none(), "why": why })
        };
        let mut root = Map::new();
        for figure in &self.figures {
            let (section, key) = figure.spec.json_path();
            let value = figure.value.as_ref().map_or(Json::Null, |&value| number(value));
            let object = match section {
                None => Some(&mut root),
                Some(name) => root.entry(name).or_insert_with(|| json!({})).as_object_mut(),
            };
            object.expect("a section holds figures only").insert(key, value);
        }
        if let Some(server) = root.get_mut("server").and_then(Json::as_object_mut) {
            server.insert("cpu_source".into(), self.cpu_source.into());
        }
        let members = json!({
            "command": self.command, "version": env!("CARGO_PKG_VERSION"), "complete": self.complete,
            "settings": self.settings, "driver": self.driver, "failures": told(failures), "closes": told(closes),
            "stalled_closes": told(stalled_closes), "error_texts": told(errors), "warnings": self.warnings,
            "unavailable": unavailable.collect::<Json>(),
            "assertions": checked.iter().map(assertion).collect::<Json>(),
        });
        let Json::Object(members) = members else { unreachable!("it is written as an object") };
        // After the figures: a server of `compare` may be called like one of these.
        root.extend(self.details.clone().into_iter().chain(members));
        Json::Object(root)
    }
}

type Checked<'a> = (&'a Assertion, Result<(), String>);

fn check<'a>(assertions: &'a [Assertion], figures: &[Figure]) -> Vec<Checked<'a>> {
    assertions.iter().map(|assertion| (assertion, assertion.check(figures))).collect()
}

/// Whether the run reached what was asked of it, in one line.
fn verdict(complete: bool, checked: &[Checked<'_>]) -> String {
    let failed: Vec<String> = checked
        .iter()
        .filter(|(_, outcome)| outcome.is_err())
        .map(|(assertion, _)| assertion.to_string())
        .collect();
    match (complete, checked.len(), failed.as_slice()) {
        (false, ..) => "INTERRUPTED: the run did not come to its end".to_owned(),
        (true, 0, _) => "measured; nothing was asserted (--assert)".to_owned(),
        (true, all, []) => format!("PASSED: {all} of {all} assertions hold"),
        (true, _, failed) => format!("FAILED: {}", failed.join(", ")),
    }
}

fn write_json(path: &Path, json: &Json) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer_pretty(&mut file, json)?;
        writeln!(file)?;
        file.flush()
    };
    write().with_context(|| format!("--json {}", path.display()))
}

/// Whole numbers without a fraction.
fn number(value: f64) -> Json {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn told(told: &Texts) -> Json {
    told.lines().map(|(text, count)| json!({ "text": text, "count": count })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Rule, Unit, figures_of, headline, spec, specs};

    static FIGURES: &[Rule<()>] = &[
        headline("joined", Unit::Count, "").of(|()| Ok(2000.0)),
        headline("closed", Unit::Count, "").of(|()| Ok(0.0)),
        spec("rss_first_bytes", Unit::Bytes, "").of(|()| Err("connection refused".into())),
        spec("rss_last_bytes", Unit::Bytes, "").of(|()| Err("connection refused".into())),
        headline("slope", Unit::Number, "").of(|()| Ok(301.5)),
    ];

    fn parse(list: &str) -> Vec<Assertion> {
        assertions::parse(list, &specs(FIGURES)).unwrap()
    }

    fn report() -> Report {
        let mut endings = Endings::default();
        endings.failures.count("503 Service Unavailable: full");
        let figures = figures_of(FIGURES, &());
        let driver = Some("epoll".to_owned());
        Report { title: "idle".into(), complete: true, driver, figures, endings, ..Report::default() }
    }

    #[test]
    fn a_figure_that_is_not_known_is_null_with_its_reason() {
        let json = report().json(&[]);
        assert_eq!((&json["joined"], &json["slope"]), (&json!(2000), &json!(301.5)));
        assert_eq!((&json["rss_last_bytes"], &json["driver"]), (&Json::Null, &json!("epoll")));
        assert_eq!(json["unavailable"][0]["reason"], "connection refused");
        assert_eq!(json["unavailable"][0]["figures"], json!(["rss_first_bytes", "rss_last_bytes"]));
    }

    #[test]
    fn the_verdict_is_that_of_the_assertions() {
        let figures = report().figures;
        for (list, complete, expected) in [
            ("", true, "measured; nothing was asserted (--assert)"),
            ("slope<=320", true, "PASSED: 1 of 1 assertions hold"),
            ("slope<=320,closed==0", true, "PASSED: 2 of 2 assertions hold"),
            ("slope<=300,closed==0", true, "FAILED: slope <= 300"),
            ("slope<=320", false, "INTERRUPTED: the run did not come to its end"),
        ] {
            assert_eq!(verdict(complete, &check(&parse(list), &figures)), expected);
        }
    }

    #[test]
    fn the_table_tells_what_failed() {
        let assertions = parse("slope<=320,rss_last_bytes<1,closed>0");
        let report = report();
        let checked = check(&assertions, &report.figures);
        let mut table = Vec::new();
        report.write_table(&checked, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let top: Vec<&str> = table.lines().take(3).collect();
        assert_eq!(
            top,
            [
                "idle",
                "FAILED: rss_last_bytes < 1 B, closed > 0",
                "joined 2,000 | closed 0 | slope 302 | the relay is on epoll"
            ]
        );
        for line in [
            "did not join: 1 × 503 Service Unavailable: full",
            "not available: rss_first_bytes, rss_last_bytes (connection refused)",
            "ok      slope <= 320",
            "FAILED  rss_last_bytes < 1 B: it is not known: connection refused",
            "FAILED  closed > 0: it is 0",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
    }
}
