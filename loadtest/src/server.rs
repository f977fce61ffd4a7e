//! What the relay's own process costs: from its `/metrics`, or from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock;
use crate::figures::{Value, difference};
use crate::target::{connect, resolve};

const READ_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Unit of the times in `/proc/PID/stat`: fixed at 1/100 s towards user space.
const USER_HZ: f64 = 100.0;

/// Where the relay's figures come from.
#[derive(Clone, Debug)]
pub struct Server {
    /// `http://host:port/metrics`.
    pub metrics_url: String,
    /// Processor time and memory of this process instead.
    pub pid: Option<u32>,
}

/// The relay's figures at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub cpu_s: Value,
    pub rss_bytes: Value,
    /// Its threads that carry connections, if it tells.
    pub shards: Option<u32>,
    exported: Exported,
}

/// Every exported name, summed over its labels.
type Exported = Result<BTreeMap<String, f64>, String>;

impl Server {
    /// `proc` or `metrics`: where processor time and memory come from.
    pub fn cpu_source(&self) -> &'static str {
        if self.pid.is_some() { "proc" } else { "metrics" }
    }

    /// Reads the figures now; what cannot be read says why.
    pub fn sample(&self) -> Sample {
        let text = scrape(&self.metrics_url).map_err(|error| format!("{error:#}"));
        let shards = text.as_deref().ok().and_then(shards);
        let exported = text.map(|text| parse(&text));
        let Some(pid) = self.pid else {
            let value = |name: &str| value(&exported, name);
            let (cpu_s, rss_bytes) =
                (value("process_cpu_seconds_total"), value("process_resident_memory_bytes"));
            return Sample { cpu_s, rss_bytes, shards, exported };
        };
        Sample { cpu_s: process_cpu_s(pid), rss_bytes: process_rss_bytes(pid), shards, exported }
    }
}

/// Processor time and everything else from a moment on.
pub struct Stopwatch {
    begun_ns: u64,
    before: Sample,
    own_ns: u64,
}

impl Stopwatch {
    pub fn start(server: &Server) -> Self {
        let before = server.sample();
        Self { begun_ns: clock::now_ns(), before, own_ns: clock::own_cpu_ns() }
    }

    pub fn lap(self, server: &Server) -> Lap {
        let (length_ns, own_cpu_ns) = (clock::now_ns() - self.begun_ns, clock::own_cpu_ns() - self.own_ns);
        Lap { before: self.before, after: server.sample(), own_cpu_ns, length_ns }
    }
}

/// The relay at both ends of a time, and what this process used in it.
#[derive(Debug)]
pub struct Lap {
    pub before: Sample,
    pub after: Sample,
    pub own_cpu_ns: u64,
    pub length_ns: u64,
}

impl Lap {
    pub fn length_s(&self) -> f64 {
        self.length_ns as f64 / 1e9
    }

    /// Processor time of the relay, in seconds.
    pub fn server_cpu_s(&self) -> Value {
        difference(&self.after.cpu_s, &self.before.cpu_s)
    }

    /// Processor time of the relay / time.
    pub fn server_cores(&self) -> Value {
        Ok(self.server_cpu_s()? / self.length_s())
    }

    /// Processor time of this process / time.
    pub fn own_cores(&self) -> f64 {
        self.own_cpu_ns as f64 / 1e9 / self.length_s()
    }

    pub fn rss_growth_bytes(&self) -> Value {
        difference(&self.after.rss_bytes, &self.before.rss_bytes)
    }

    /// How much the exported counter `name` has grown.
    pub fn growth(&self, name: &str) -> Value {
        Ok(value(&self.after.exported, name)? - value(&self.before.exported, name)?)
    }

    /// A time of this length in which nothing could be read, for tests.
    #[cfg(test)]
    pub fn unread(own_cpu_ns: u64, length_ns: u64) -> Self {
        let nowhere = Server { metrics_url: "http://127.0.0.1:1/metrics".into(), pid: None };
        Self { before: nowhere.sample(), after: nowhere.sample(), own_cpu_ns, length_ns }
    }
}

fn value(exported: &Exported, name: &str) -> Value {
    let exported = exported.as_ref().map_err(Clone::clone)?;
    exported.get(name).copied().ok_or_else(|| format!("/metrics has no {name}"))
}

fn scrape(url: &str) -> anyhow::Result<String> {
    let Some((authority, path)) =
        url.strip_prefix("http://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        bail!("{url}: it must look like http://127.0.0.1:4001/metrics");
    };
    let exchange = || -> anyhow::Result<String> {
        let mut stream = connect(&resolve(authority, 80)?)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        // HTTP/1.0: the answer ends with the connection, and is not chunked.
        write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().with_context(|| format!("GET {url}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{url}: no HTTP answer"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("GET {url}: {status}");
    }
    Ok(body.to_owned())
}

/// Sums the Prometheus text format by name: `name{labels} value`.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name_end = line.find(['{', ' ']).unwrap_or(line.len());
        let after_labels = line.rfind('}').map_or(name_end, |at| at + 1);
        let value = line[after_labels..].split_whitespace().next().map(str::parse::<f64>);
        if let Some(Ok(value)) = value {
            *sums.entry(line[..name_end].to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// How many different `shard="…"` there are.
fn shards(text: &str) -> Option<u32> {
    let label = |line: &str| Some(line.split_once("shard=\"")?.1.split_once('"')?.0.to_owned());
    let labels: BTreeSet<String> = text.lines().filter_map(label).collect();
    u32::try_from(labels.len()).ok().filter(|&shards| shards > 0)
}

fn process_cpu_s(pid: u32) -> Value {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    cpu_s_of_stat(&stat).ok_or_else(|| format!("{path} has another form than proc(5) says"))
}

/// Fields 14 and 15 are user and system time; field 2 is the name in parentheses, which may hold anything.
fn cpu_s_of_stat(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(14 - 3).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / USER_HZ)
}

/// Resident memory of a process of this machine.
pub fn process_rss_bytes(pid: u32) -> Value {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    rss_bytes_of_status(&status).ok_or_else(|| format!("{path} has no VmRSS in kB"))
}

fn rss_bytes_of_status(status: &str) -> Option<f64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim();
    Some(kilobytes.strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_values_are_summed_over_their_labels() {
        let sums = parse(
            "# HELP a b\n# TYPE a counter\na{shard=\"0\"} 2\na{shard=\"1\",x=\"} {\"} 3.5\nprocess_cpu_seconds_total 1.25\n\
             b{le=\"+Inf\"} 7 1700000000\n",
        );
        assert_eq!((sums["a"], sums["process_cpu_seconds_total"], sums["b"]), (5.5, 1.25, 7.0));
    }

    #[test]
    fn shards_are_counted_by_their_labels() {
        let text = "a{shard=\"0\",x=\"1\"} 1\na{shard=\"1\"} 1\nb{le=\"1\",shard=\"1\"} 2\nc 3\n";
        assert_eq!((shards(text), shards("c 3\n")), (Some(2), None));
    }

    #[test]
    fn proc_is_read_whatever_the_process_is_called() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_s_of_stat(stat), Some(2.0));
        assert_eq!(rss_bytes_of_status("Name:\tx\nVmRSS:\t    2048 kB\nVmData:\t1 kB\n"), Some(2_097_152.0));
        let own = std::process::id();
        assert!(process_cpu_s(own).is_ok() && process_rss_bytes(own).unwrap() > 100_000.0);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let server = Server { metrics_url: "http://127.0.0.1:1/metrics".into(), pid: None };
        let sample = server.sample();
        assert!(sample.cpu_s.unwrap_err().contains("http://127.0.0.1:1/metrics"));
        let server = Server { metrics_url: "127.0.0.1/metrics".into(), pid: Some(u32::MAX) };
        let sample = server.sample();
        assert!(sample.rss_bytes.as_ref().unwrap_err().contains("/proc/4294967295"));
        let lap = Lap { before: sample.clone(), after: sample, own_cpu_ns: 0, length_ns: 1 };
        assert!(lap.growth("x").unwrap_err().contains("must look like http://"));
    }
}
