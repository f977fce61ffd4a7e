//! A server that is started for a run: in a session of its own, with a log, and ended with this value.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::clock;
use crate::uring::in_own_session;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of the log that an error shows.
const LOG_LINES_SHOWN: usize = 8;

/// A process of ours.
pub struct Process {
    child: Child,
    exit: Option<ExitStatus>,
    /// How long it may take to end after SIGTERM.
    end_time: Duration,
    /// Removed with it, if no error has named it.
    log: NamedTempFile,
}

impl Process {
    /// Starts `command`; what it prints goes to a log in the temporary folder.
    pub fn start(command: &mut Command, end_time: Duration) -> anyhow::Result<Self> {
        let log = tempfile::Builder::new().prefix("corelay-loadtest-").suffix(".log").tempfile()?;
        let output = log.reopen()?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = in_own_session(command).spawn();
        let child =
            child.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        Ok(Self { child, exit: None, end_time, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.exit = self.exit.or_else(|| self.child.try_wait().ok().flatten());
        self.exit
    }

    /// Waits until `ready`, which is given the log so far, says that it is.
    pub fn await_ready<T>(
        &mut self,
        limit: Duration,
        interrupted: &AtomicBool,
        mut ready: impl FnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline_ns = clock::now_ns() + limit.as_nanos() as u64;
        loop {
            if let Some(ready) = ready(&self.log()) {
                return Ok(ready);
            }
            if let Some(status) = self.exit() {
                bail!("it ended with {status} before it was ready; {}", self.log_excerpt());
            }
            if interrupted.load(Relaxed) {
                bail!("interrupted before the server was ready");
            }
            if clock::now_ns() > deadline_ns {
                bail!("it was not ready after {} s; {}", limit.as_secs(), self.log_excerpt());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Where its log is, and the end of it.
    pub fn log_excerpt(&mut self) -> String {
        let text = self.log();
        if text.is_empty() {
            return "it has logged nothing".to_owned();
        }
        self.log.disable_cleanup(true);
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        let shown: String = last.iter().map(|line| format!("\n  {line}")).collect();
        format!("its log is {}{shown}", self.log.path().display())
    }

    /// Ends it as an operator would, and after a while with SIGKILL; `None`: that was needed.
    pub fn end(&mut self) -> Option<ExitStatus> {
        self.terminate();
        self.await_end()
    }

    /// Tells it to end, by SIGTERM.
    pub fn terminate(&mut self) {
        if self.exit().is_none() {
            // One that has just gone is only to be waited for.
            let _ = Pid::from_raw(self.child.id().cast_signed()).map(|pid| kill_process(pid, Signal::TERM));
        }
    }

    /// Waits for its end; `None`: it was killed, because it took too long.
    pub fn await_end(&mut self) -> Option<ExitStatus> {
        let deadline_ns = clock::now_ns() + self.end_time.as_nanos() as u64;
        while clock::now_ns() < deadline_ns {
            if self.exit().is_some() {
                return self.exit;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.kill();
        None
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.exit = self.child.wait().ok();
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(command: &mut Command) -> String {
        let process = Process::start(command, Duration::from_secs(1));
        let never = |_: &str| None::<()>;
        let mut process = process.unwrap();
        format!(
            "{:#}",
            process.await_ready(Duration::from_secs(5), &AtomicBool::new(false), never).unwrap_err()
        )
    }

    #[test]
    fn a_program_that_ends_at_once_is_told_with_what_it_printed() {
        let error = failure(Command::new("/bin/echo").arg("no such flag"));
        let log = error.split_whitespace().find(|word| word.ends_with(".log")).unwrap();
        std::fs::remove_file(log).unwrap();
        assert!(error.contains("exit status: 0") && error.ends_with("\n  no such flag"), "{error}");
        let error = failure(&mut Command::new("/bin/false"));
        assert!(error.contains("exit status: 1") && error.ends_with("logged nothing"), "{error}");
    }

    #[test]
    fn it_is_ready_when_the_log_says_so_and_ended_when_dropped() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo ready; sleep 60"]);
        let mut process = Process::start(&mut command, Duration::from_secs(5)).unwrap();
        let ready = |log: &str| log.contains("ready").then_some(());
        process.await_ready(Duration::from_secs(5), &AtomicBool::new(false), ready).unwrap();
        assert!(process.exit().is_none());
        assert!(process.end().is_some_and(|status| !status.success()));
        let log = process.log.path().to_owned();
        drop(process);
        assert!(!log.exists());
    }
}
