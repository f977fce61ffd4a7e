//! What the relay's own process costs: from its `/metrics`, or from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use procfs::ProcResult;
use procfs::process::Process;

use crate::clock;
use crate::figures::{Value, difference};

/// How long `/metrics` may take.
const TIMEOUT_S: u64 = 2;
/// How long a wait for a window sleeps at a time.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

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
    /// What they run on, `io_uring` or `epoll`, if it tells.
    pub driver: Option<String>,
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
        let (shards, driver) = text.as_deref().map_or((None, None), |text| (shards(text), driver(text)));
        let exported = text.map(|text| parse(&text));
        let Some(pid) = self.pid else {
            let value = |name: &str| value(&exported, name);
            let (cpu_s, rss_bytes) =
                (value("process_cpu_seconds_total"), value("process_resident_memory_bytes"));
            return Sample { cpu_s, rss_bytes, shards, driver, exported };
        };
        let (cpu_s, rss_bytes) = (process_cpu_s(pid), process_rss_bytes(pid));
        Sample { cpu_s, rss_bytes, shards, driver, exported }
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
    /// Waits for the window, and reads the figures at both ends of it, or of what an interruption leaves of it; `None`: nothing.
    pub fn of(server: &Server, window_ns: &Range<u64>, interrupted: &AtomicBool) -> Option<Self> {
        let sleep_until = |end_ns: u64| {
            while clock::now_ns() < end_ns && !interrupted.load(Relaxed) {
                let left = Duration::from_nanos(end_ns.saturating_sub(clock::now_ns()));
                std::thread::sleep(left.min(LOOK_INTERVAL));
            }
        };
        sleep_until(window_ns.start);
        if interrupted.load(Relaxed) {
            return None;
        }
        let stopwatch = Stopwatch::start(server);
        sleep_until(window_ns.end);
        Some(stopwatch.lap(server))
    }

    /// What the relay's threads run on, if it tells.
    pub fn driver(&self) -> Option<String> {
        self.after.driver.clone().or_else(|| self.before.driver.clone())
    }

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
    let get = || -> anyhow::Result<String> {
        let answer = minreq::get(url).with_timeout(TIMEOUT_S).send()?;
        if answer.status_code != 200 {
            bail!("{} {}", answer.status_code, answer.reason_phrase);
        }
        Ok(answer.as_str()?.to_owned())
    };
    get().with_context(|| format!("GET {url}"))
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

/// The label of `corelay_driver_info`.
fn driver(text: &str) -> Option<String> {
    let mut labels = text.lines().filter_map(|line| line.strip_prefix("corelay_driver_info{driver=\""));
    Some(labels.next()?.split_once('"')?.0.to_owned())
}

fn process_cpu_s(pid: u32) -> Value {
    let stat = of_process(pid, Process::stat)?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Resident memory of a process of this machine.
pub fn process_rss_bytes(pid: u32) -> Value {
    let kilobytes = of_process(pid, Process::status)?.vmrss;
    kilobytes.map(|kilobytes| kilobytes as f64 * 1024.0).ok_or_else(|| format!("process {pid} has no memory"))
}

fn of_process<T>(pid: u32, read: fn(&Process) -> ProcResult<T>) -> Result<T, String> {
    let process = Process::new(pid.cast_signed());
    process.and_then(|process| read(&process)).map_err(|error| format!("process {pid}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exported_values_are_summed_over_their_labels_and_shards_and_driver_are_known() {
        let sums = parse(
            "# HELP a b\n# TYPE a counter\na{shard=\"0\"} 2\na{shard=\"1\",x=\"} {\"} 3.5\nprocess_cpu_seconds_total 1.25\n\
             b{le=\"+Inf\"} 7 1700000000\n",
        );
        assert_eq!(
            (shards("a{shard=\"0\"} 1\na{x=\"1\",shard=\"1\"} 1\nb{shard=\"1\"} 2\n"), shards("c 3\n")),
            (Some(2), None)
        );
        let info = "# TYPE corelay_driver info\ncorelay_driver_info{driver=\"epoll\"} 1\n";
        assert_eq!((driver(info), driver("a 1\n")), (Some("epoll".to_owned()), None));
        assert_eq!((sums["a"], sums["process_cpu_seconds_total"], sums["b"]), (5.5, 1.25, 7.0));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let own = std::process::id();
        assert!(process_cpu_s(own).is_ok() && process_rss_bytes(own).unwrap() > 100_000.0);
        let server = Server { metrics_url: "http://127.0.0.1:1/metrics".into(), pid: None };
        assert!(server.sample().cpu_s.unwrap_err().contains("http://127.0.0.1:1/metrics"));
        let server = Server { metrics_url: "127.0.0.1/metrics".into(), pid: Some(i32::MAX as u32) };
        let sample = server.sample();
        assert!(sample.rss_bytes.as_ref().unwrap_err().contains("process 2147483647"));
        let lap = Lap { before: sample.clone(), after: sample, own_cpu_ns: 0, length_ns: 1 };
        assert!(lap.growth("x").unwrap_err().contains("GET 127.0.0.1/metrics"));
    }
}
