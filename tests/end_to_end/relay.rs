//! The relay under test: a process, its log, its admin pages.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for what must come. Long enough for a busy machine; nothing waits so long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Rates so high that no test runs into them.
pub const NO_RATES: &str = "
    [rates]
    move_per_s = 100000
    move_burst = 100000
    object_per_s = 100000
    object_burst = 100000
    event_per_s = 100000
    event_burst = 100000
    bytes_per_s = 100000000
    bytes_burst = 100000000
";

/// No test takes so long, unless it waits for what does not come.
const TEST_TIME_MAX: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A directory that ends with its test.
pub struct Place {
    directory: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("corelay-end-to-end-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left over is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts a process.
pub type Spawn = fn(&mut Command) -> io::Result<Child>;

pub struct Setup {
    pub spawn: Spawn,
    /// In front of the relay's own command line: `ulimit -n 200;`.
    pub shell_prefix: &'static str,
    pub arguments: Vec<String>,
    /// Content of `corelay.toml`.
    pub toml: String,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// Files beside `corelay.toml`: name and content.
    pub files: Vec<(&'static str, String)>,
    /// An error that the test provokes: lines of the log that have this text are fine.
    pub expected_error: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            spawn: Command::spawn,
            shell_prefix: "",
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            arguments: vec!["--shards".into(), "1".into()],
            toml: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            files: Vec::new(),
            expected_error: None,
        }
    }
}

/// The variable that says which driver the relays of all tests run on, for them as for any relay.
const DRIVER_VARIABLE: &str = "CORELAY_DRIVER";

/// The corelay binary, without the environment of the test but `DRIVER_VARIABLE`.
pub fn corelay(place: &Place, shell_prefix: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = format!("{shell_prefix} exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_corelay")]).env_clear().current_dir(place.path());
    command.envs(std::env::var_os(DRIVER_VARIABLE).map(|driver| (DRIVER_VARIABLE, driver)));
    command
}

/// A running relay. It is killed when the test ends, or does not end; if the test failed, its log is printed.
pub struct Relay {
    child: Arc<Mutex<Child>>,
    /// Says that the test is over; dropped with the relay.
    _test: Sender<()>,
    log: Arc<Log>,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    /// What its shards run on.
    pub driver: String,
    pub place: Place,
    expected_error: Option<&'static str>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Relay {
    /// A relay of one shard, with this configuration.
    pub fn start(toml: &str) -> Self {
        Self::set_up(Setup { toml: toml.into(), ..Setup::default() })
    }

    /// A relay of so many shards, with this configuration.
    pub fn start_shards(shards: u16, toml: &str) -> Self {
        let arguments = vec!["--shards".into(), shards.to_string()];
        Self::set_up(Setup { arguments, toml: toml.into(), ..Setup::default() })
    }

    /// Starts a relay on free ports, and waits until it is ready.
    pub fn set_up(setup: Setup) -> Self {
        let place = Place::new();
        let config = place.file("corelay.toml", &setup.toml);
        let mut command = corelay(&place, setup.shell_prefix);
        for (name, content) in &setup.files {
            place.file(name, content);
        }
        command.args(["--config", &config, "--listen", &setup.listen.to_string()]);
        command.args(["--admin", &setup.admin.to_string()]);
        command.args(["--log-format", "json"]).args(setup.arguments);
        let mut child = (setup.spawn)(command.stdin(Stdio::null()).stderr(Stdio::piped())).unwrap();

        let log = Arc::new(Log::default());
        let (lines, writer) = (BufReader::new(child.stderr.take().unwrap()).lines(), log.clone());
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                writer.lines.lock().unwrap().push(line);
                writer.grown.notify_all();
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let child = Arc::new(Mutex::new(child));
        let test = watch(child.clone());
        let expected_error = setup.expected_error;
        let (listen, admin, driver) = (nowhere, nowhere, String::new());
        let mut relay = Self { child, _test: test, log, listen, admin, driver, place, expected_error };
        let ready = relay.await_log("\"message\":\"ready\"");
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let address = |key: &str| ready[key].as_str().unwrap().parse().unwrap();
        (relay.listen, relay.admin) = (address("listen"), address("admin"));
        relay.driver = ready["driver"].as_str().unwrap().to_owned();
        assert_eq!(relay.fetch("/readyz"), (200, "ok\n".into()));
        relay
    }

    /// Asks for an admin page: status and body.
    pub fn fetch(&self, path: &str) -> (u16, String) {
        self.ask_admin(&format!("GET {path}"), "Host: localhost")
    }

    /// Any request to the admin pages, with these header lines: status and body.
    pub fn ask_admin(&self, request: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
    }

    /// A metric, summed over the shards and over all label values that are not named in `labels` (as `reason="slow"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        sum(&self.fetch("/metrics").1, name, labels) as u64
    }

    /// Waits until a metric is as it should be.
    #[track_caller]
    pub fn await_metric(&self, name: &str, labels: &[&str], fits: impl Fn(u64) -> bool) -> u64 {
        let started = Instant::now();
        loop {
            let value = self.metric(name, labels);
            if fits(value) {
                return value;
            }
            assert!(started.elapsed() < PATIENCE, "{name} {labels:?} is {value} and stays so");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until this many refusals with this label are counted.
    #[track_caller]
    pub fn await_refusals(&self, reason: &str, count: u64) {
        let label = format!("reason=\"{reason}\"");
        self.await_metric("corelay_refusals_total", &[&label], |value| value == count);
    }

    /// Waits until this many closes with this label are counted.
    #[track_caller]
    pub fn await_closes(&self, reason: &str, count: u64) {
        let label = format!("reason=\"{reason}\"");
        self.await_metric("corelay_closes_total", &[&label], |value| value == count);
    }

    /// Waits until every connection that was handed over is counted on both sides; there must be some.
    #[track_caller]
    pub fn await_hand_overs(&self) {
        let taken = self.await_metric("corelay_hand_overs_in_total", &[], |taken| taken > 0);
        self.await_metric("corelay_hand_overs_out_total", &[], |sent| sent == taken);
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn await_log(&self, text: &str) -> String {
        let lines = self.log.lines.lock().unwrap();
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let missing = |lines: &mut Vec<String>| find(lines).is_none();
        let (lines, _) = self.log.grown.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        find(&lines).unwrap_or_else(|| panic!("no line of the log says {text:?}:\n{}", lines.join("\n")))
    }

    /// How many lines have this text by now.
    pub fn log_count(&self, text: &str) -> usize {
        self.log.lines.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.lock().unwrap()), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn exit_status(&self) -> ExitStatus {
        exit_status(&mut self.child.lock().unwrap(), Duration::from_secs(30))
    }
}

/// Kills the relay of a test that has not ended after `TEST_TIME_MAX`: whatever it waits for, it gets an end instead.
fn watch(child: Arc<Mutex<Child>>) -> Sender<()> {
    let (test, end) = mpsc::channel();
    thread::spawn(move || {
        if end.recv_timeout(TEST_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a test takes more than {TEST_TIME_MAX:?}: its relay is killed");
            // The test itself says what it missed.
            let _ = child.lock().unwrap().kill();
        }
    });
    test
}

/// Waits for the end of a process.
#[track_caller]
pub fn exit_status(child: &mut Child, patience: Duration) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(started.elapsed() < patience, "the process does not end");
        thread::sleep(POLL_INTERVAL);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let failed = thread::panicking();
        let mut child = self.child.lock().unwrap();
        let running = matches!(child.try_wait(), Ok(None));
        let metrics = if running && !failed { self.fetch("/metrics").1 } else { String::new() };
        // The process may have ended by itself since.
        let _ = child.kill();
        let _ = child.wait();
        let log = self.log.lines.lock().unwrap().join("\n");
        if failed {
            eprintln!("── log of the relay ──\n{log}\n──");
            return;
        }
        // Whatever a test does to it, the relay keeps its own promises.
        let expected = |line: &str| self.expected_error.is_some_and(|text| line.contains(text));
        // A disk of the machine that stands still is not the relay's fault.
        let is_fine = |line: &str| expected(line) || line.contains("the store hangs");
        let errors = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"") && !is_fine(line));
        assert_eq!(errors.count(), 0, "errors in the log:\n{log}");
        for promise in ["corelay_completion_overflows_total", "corelay_receives_lost_total"] {
            assert_eq!(sum(&metrics, promise, &[]), 0.0, "{promise}");
        }
    }
}

fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let samples = samples.filter(|sample| sample.starts_with(['{', ' ']));
    let fitting = samples.filter(|sample| labels.iter().all(|label| sample.contains(label)));
    fitting.map(|sample| sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
