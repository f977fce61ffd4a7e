//! Where io_uring is refused, as Docker's default profile does: a filter for system calls stands in front of the relay.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::player::Player;
use crate::relay::{Place, Relay, Setup, Spawn, corelay};

/// From its start on a machine that is idle the relay is ready in some 20 ms.
const READY_TIME_MAX: Duration = Duration::from_secs(1);

/// Starts a process for which a system call fails.
fn spawn_without(call: i64, errno: Errno, command: &mut Command) -> io::Result<Child> {
    let refuse = SeccompAction::Errno(errno.raw_os_error() as u32);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let calls = BTreeMap::from([(call, Vec::new())]);
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, refuse, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // A filter is of a thread, and of what that starts.
    let spawn = || {
        apply_filter(&program).unwrap();
        command.spawn()
    };
    thread::scope(|scope| scope.spawn(spawn).join().unwrap())
}

fn spawn_forbidden(command: &mut Command) -> io::Result<Child> {
    spawn_without(libc::SYS_io_uring_setup, Errno::PERM, command)
}

#[test]
fn where_io_uring_is_refused_the_relay_is_soon_ready_on_epoll_and_says_why() {
    let refusals: [(Spawn, &str); 4] = [
        (spawn_forbidden, "io_uring is forbidden here"),
        (
            |command| spawn_without(libc::SYS_io_uring_setup, Errno::NOSYS, command),
            "has no io_uring, or a seccomp profile hides it",
        ),
        (
            |command| spawn_without(libc::SYS_io_uring_register, Errno::PERM, command),
            "setting the ring up failed",
        ),
        (|command| spawn_without(libc::SYS_io_uring_enter, Errno::PERM, command), "io_uring_enter failed"),
    ];
    for (spawn, reason) in refusals {
        let arguments = ["--shards", "2", "--driver", "auto"].map(String::from).to_vec();
        let started = Instant::now();
        let relay = Relay::set_up(Setup { spawn, arguments, ..Setup::default() });
        assert!(started.elapsed() < READY_TIME_MAX, "{:?}", started.elapsed());
        let warning = relay.await_log("the relay runs on epoll");
        assert!(warning.contains("\"level\":\"WARN\"") && warning.contains(reason), "{warning}");
        assert_eq!(relay.log_count("io_uring"), 1, "it is told once");
        assert_eq!(relay.driver, "epoll");
        assert!(relay.fetch("/version").1.contains("\"driver\":\"epoll\""));
        assert_eq!(relay.metric("corelay_driver_info", &["driver=\"epoll\""]), 1);

        let mut players: Vec<Player> =
            (0..16).map(|number| Player::join(&relay, &format!("/play/game-{}", number % 4))).collect();
        players.iter_mut().for_each(Player::catch_up);
        relay.await_hand_overs();
    }
}

#[test]
fn whoever_insists_on_io_uring_is_told_what_to_do_where_it_is_refused() {
    let place = Place::new();
    let mut command = corelay(&place, "");
    command.args(["--driver", "io_uring", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let relay = spawn_forbidden(command.args(["--log-format", "json"]).stderr(Stdio::piped())).unwrap();
    let output = relay.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    let remedies =
        ["--security-opt seccomp=deploy/seccomp.json", "set `driver` to \\\"auto\\\" or \\\"epoll\\\""];
    assert!(remedies.iter().all(|remedy| error.contains(remedy)), "{error}");
}

#[test]
fn the_doctor_says_what_the_relay_would_run_on() {
    let place = Place::new();
    for (driver, code, finding) in [
        ("auto", 0, "takes more CPU than io_uring, which is not usable: io_uring is forbidden here"),
        ("epoll", 0, "as configured"),
        ("io_uring", 1, "set `driver` to \"auto\" or \"epoll\""),
    ] {
        let mut command = corelay(&place, "");
        command.args(["doctor", "--driver", driver, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let doctor = spawn_forbidden(command.stdout(Stdio::piped())).unwrap();
        let output = doctor.wait_with_output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{report}");
        let line = report.lines().find(|line| line.contains("driver ")).unwrap();
        assert!(line.contains(finding), "{line}");
    }
}
