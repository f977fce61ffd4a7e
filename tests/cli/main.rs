//! The binary as an operator meets it: what it says to wrong input, what it prints, how it starts and ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tokens expire on the real clock")]

mod running;
mod words;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corelay::ids::{Topic, TopicName};
use corelay::wire::token::{Algorithm, Verifier, VerifyingKey};
use rustix::process::{Pid, Signal, kill_process};

/// A folder of its own for each test: no `corelay.toml` of somebody else is read.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelay-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    /// The binary in this folder, without variables of the machine's.
    fn corelay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelay"));
        command.current_dir(&self.0).args(arguments).stdin(Stdio::null());
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("CORELAY_") || variable == "RUST_LOG" {
                command.env_remove(variable);
            }
        }
        command
    }

    /// Runs the binary to its end; one that would run on for ever is ended after a while, and fails.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.corelay(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for _ in 0..1_000 {
            if child.try_wait().unwrap().is_some() {
                return child.wait_with_output().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        let log = text(&child.wait_with_output().unwrap().stderr);
        panic!("{arguments:?} still runs after 10 s:\n{log}");
    }

    /// Exit code and standard error of a run that must fail and print nothing.
    fn failure(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        (output.status.code().unwrap(), text(&output.stderr))
    }

    fn start(&self, arguments: &[&str]) -> Relay {
        Relay::start(self.corelay(arguments))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.into()).unwrap()
}

/// A running relay on ports that the kernel chose.
struct Relay {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    ready: serde_json::Value,
}

impl Relay {
    fn start(mut command: Command) -> Self {
        command.args(["--log-format", "json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut relay = Self { child, log, ready: serde_json::Value::Null };
        relay.ready = relay.log_until("ready");
        relay
    }

    /// The log line with this message; panics when the log ends before.
    fn log_until(&mut self, message: &str) -> serde_json::Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "no {message:?} in the log:\n{seen}");
            seen += &line;
            let line: serde_json::Value = serde_json::from_str(&line).expect("every line is JSON");
            if line["message"].as_str().unwrap().starts_with(message) {
                return line;
            }
        }
    }

    /// How many lines begin with `message` before the one that begins with `last`.
    fn log_count_until(&mut self, message: &str, last: &str) -> usize {
        let mut count = 0;
        loop {
            let line = self.log_until("");
            let text = line["message"].as_str().unwrap();
            if text.starts_with(last) {
                return count;
            }
            count += usize::from(text.starts_with(message));
        }
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.ready[name].as_str().unwrap().parse().unwrap()
    }

    fn fetch(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
