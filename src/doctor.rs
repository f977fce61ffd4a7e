//! `corelay doctor`: whether and how well the relay can run on a machine, and what each limit means for the number of
//! connections.

use std::fmt;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::config::Loaded;
use crate::config::capacity::{self, Queues};
use crate::config::certificates::{Lifetime, expiries};
use crate::config::draft::Draft;
use crate::config::error::ConfigError;
use crate::driver_choice::{self, Choice, ChoiceError, DriverKind};
use crate::limits::{CONNECTION_KERNEL_BYTES, CONNECTIONS_RESERVE, RECEIVE_BUFFER_BYTES};
use crate::machine::{self, Machine};
use crate::rim::uring::Probe;
use crate::rim::{self, Clock, ListenOptions};
use crate::server;
use crate::tls::certificates::Certificate;

/// What was found, a line each.
#[derive(Debug)]
pub struct Report {
    findings: Vec<Finding>,
    /// Connections that fit, by the tightest limit; `None`: the relay cannot run.
    connections: Option<(u64, &'static str)>,
    shards: u16,
}

#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    name: String,
    value: String,
    meaning: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Note,
    Wrong,
}

impl Report {
    /// Whether all is there that the relay cannot do without.
    pub fn can_run(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Wrong)
    }

    fn add(&mut self, verdict: Verdict, name: &str, value: impl fmt::Display, meaning: impl Into<String>) {
        let finding =
            Finding { verdict, name: name.into(), value: value.to_string(), meaning: meaning.into() };
        self.findings.push(finding);
    }

    /// Adds a kernel setting, if this kernel has it.
    fn add_sysctl(&mut self, name: &str, judge: impl FnOnce(&str) -> (Verdict, String)) {
        let Some(value) = machine::sysctl(name) else { return };
        let (verdict, meaning) = judge(&value);
        self.add(verdict, name, value, meaning);
    }
}

/// Looks at everything that a relay with this configuration needs here.
pub fn examine(machine: &Machine, loaded: Loaded) -> Report {
    let Draft { listen, listen_tls, admin, .. } = loaded.draft;
    let wanted = loaded.draft.capacity_wanted();
    let chosen = driver_choice::choose(loaded.draft.driver, wanted.shards_at_least(machine.resources()));
    let driver = chosen.as_ref().map_or(DriverKind::IoUring, Choice::kind);
    // If no capacity can be planned, the finding on memory or descriptors says why; the others are for as many shards as there
    // would be.
    let planned = capacity::plan(wanted, machine.resources(), driver);
    let shards = match &planned {
        Ok(capacity) => capacity.shards,
        Err(_) => wanted.shards.unwrap_or_else(|| capacity::shards_of_cpus(machine.cpus.len())),
    };
    let mut report = Report { findings: Vec::new(), connections: None, shards };
    let cpus = machine.cpus.len();
    report.add(
        Verdict::Fine,
        "kernel",
        &machine.kernel,
        "with io_uring 6.1 or newer is needed, 6.12 or newer saves CPU",
    );
    report.add(
        Verdict::Fine,
        "CPUs",
        cpus,
        format!("the default number of shards; with this configuration {shards}"),
    );
    if rustix::process::geteuid().is_root() {
        let meaning = "files and ports were tried as root: the relay's own user may be allowed less";
        report.add(Verdict::Note, "user", "root", meaning);
    }
    add_driver(&mut report, chosen);
    let (memory_refused, descriptors_refused) = match planned {
        Err(error @ ConfigError::TooLittleMemory { .. }) => (Some(error), None),
        planned => (None, planned.err()),
    };
    let by_descriptors = add_descriptors(&mut report, machine, driver, descriptors_refused);
    let by_memory = add_memory(&mut report, cpus, wanted.has_tls, memory_refused);
    add_network(&mut report);
    add_store(&mut report, loaded.draft.store.directory());
    add_configuration(&mut report, loaded, machine, driver);
    add_addresses(&mut report, listen, listen_tls, admin);
    if report.can_run() {
        let limits = [(by_descriptors, descriptors_name(driver)), (by_memory, "memory")];
        report.connections = limits.into_iter().min_by_key(|(connections, _)| *connections);
    }
    report
}

/// Adds what the shards run on, and why.
fn add_driver(report: &mut Report, chosen: Result<Choice, ChoiceError>) {
    let switched_off = if chosen.is_ok() { Verdict::Note } else { Verdict::Wrong };
    report.add_sysctl("kernel.io_uring_disabled", |value| match value {
        "0" => (Verdict::Fine, "io_uring is switched on for everybody".into()),
        "1" => (
            Verdict::Note,
            "io_uring is for privileged users and the group kernel.io_uring_group only".into(),
        ),
        _ => (switched_off, "io_uring is switched off: `sysctl -w kernel.io_uring_disabled=0`".into()),
    });
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => return report.add(Verdict::Wrong, "driver", "none", error.to_string()),
    };
    let name = chosen.kind().name();
    match chosen {
        Choice::IoUring(Probe { features, .. }) => {
            report.add(Verdict::Fine, "driver", name, "rings like those of the shards can be made");
            for feature in features {
                let (verdict, value) = match (feature.available, feature.required) {
                    (true, _) => (Verdict::Fine, "yes"),
                    (false, false) => (Verdict::Note, "no"),
                    (false, true) => (Verdict::Wrong, "no"),
                };
                report.add(verdict, &format!("io_uring {}", feature.name), value, feature.meaning);
            }
        }
        Choice::Epoll => {
            report.add(
                Verdict::Fine,
                "driver",
                name,
                "as configured; io_uring takes less CPU where it is allowed",
            );
        }
        Choice::EpollInstead(error) => {
            let meaning = format!("takes more CPU than io_uring, which is not usable: {error}");
            report.add(Verdict::Note, "driver", name, meaning);
        }
    }
}

fn descriptors_name(driver: DriverKind) -> &'static str {
    match driver {
        DriverKind::IoUring => "descriptor tables",
        DriverKind::Epoll => "RLIMIT_NOFILE",
    }
}

/// Returns the number of connections that fit.
fn add_descriptors(
    report: &mut Report,
    machine: &Machine,
    driver: DriverKind,
    refused: Option<ConfigError>,
) -> u64 {
    let (shards, reserve) = (report.shards, u64::from(CONNECTIONS_RESERVE));
    let per_shard = capacity::table_entries_available(machine.descriptors).saturating_sub(reserve);
    let together = capacity::sockets_max(driver, machine.descriptors, shards).saturating_sub(reserve);
    let fitting = together.min(per_shard * u64::from(shards));
    let value = grouped(machine.descriptors);
    let meaning = match driver {
        DriverKind::IoUring => format!(
            "slots of one shard's descriptor table, {reserve} of them reserved: {shards} shard(s) hold {} connections; each \
             further shard adds {}",
            grouped(fitting),
            grouped(per_shard)
        ),
        DriverKind::Epoll => format!(
            "descriptors of the process: beside its own, and {reserve} for refusals, {} connections on all shards together",
            grouped(fitting)
        ),
    };
    match refused {
        None => report.add(Verdict::Fine, "RLIMIT_NOFILE", value, meaning),
        Some(error) => report.add(Verdict::Wrong, "RLIMIT_NOFILE", value, with_remedy(&error)),
    }
    report.add_sysctl("fs.nr_open", |_| {
        (
            Verdict::Fine,
            "RLIMIT_NOFILE cannot be raised beyond this; a ring's table ends at 1,048,576 anyway".into(),
        )
    });
    report.add_sysctl("fs.file-max", |value| match value.parse::<u64>() {
        Ok(files) if files < fitting => {
            (Verdict::Note, "files and sockets of the whole machine: fewer than the tables hold".into())
        }
        Ok(_) | Err(_) => (Verdict::Fine, "files and sockets of the whole machine".into()),
    });
    let memlock = getrlimit(Resource::Memlock).current;
    let value = memlock.map_or("unlimited".into(), |bytes| format!("{} KiB", grouped(bytes / 1024)));
    report.add(
        Verdict::Fine,
        "RLIMIT_MEMLOCK",
        value,
        "rings are not counted against it since Linux 5.12; nothing here is pinned",
    );
    fitting
}

fn with_remedy(error: &ConfigError) -> String {
    let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    format!("{error}{remedy}")
}

/// Returns the number of connections that fit.
fn add_memory(report: &mut Report, cpus: usize, has_tls: bool, refused: Option<ConfigError>) -> u64 {
    let user = capacity::user_bytes(has_tls);
    let per_connection = CONNECTION_KERNEL_BYTES + user;
    let Some(available) = machine::memory_available() else {
        report.add(Verdict::Note, "memory available", "?", "/proc/meminfo cannot be read");
        return u64::MAX;
    };
    let buffers = u64::from(report.shards)
        * u64::from(Queues::new(report.shards, cpus).receive_buffers)
        * u64::from(RECEIVE_BUFFER_BYTES);
    let fitting = available.saturating_sub(buffers) / per_connection;
    let mib = |bytes: u64| format!("{} MiB", grouped(bytes >> 20));
    let (verdict, meaning) = match refused {
        Some(error) => (Verdict::Wrong, with_remedy(&error)),
        None => (
            Verdict::Fine,
            format!(
                "an idle player takes about {} bytes, {} of them the relay's and the rest the kernel's: {} connections",
                grouped(per_connection),
                grouped(user),
                grouped(fitting)
            ),
        ),
    };
    report.add(verdict, "memory available", mib(available), meaning);
    match machine::cgroup_memory_left() {
        Some(left) => report.add(
            Verdict::Note,
            "control group memory",
            mib(left),
            "left for this control group or container; sockets and their buffers count",
        ),
        None => report.add(
            Verdict::Fine,
            "control group memory",
            "no limit",
            "only the machine's memory bounds the relay",
        ),
    }
    fitting
}

fn add_network(report: &mut Report) {
    report.add_sysctl("net.core.somaxconn", |value| match value.parse::<u32>() {
        Ok(waiting) if waiting < 1_024 => (
            Verdict::Note,
            "clients that may wait to be accepted, per shard: raise it to 4096 for bursts of connects".into(),
        ),
        Ok(_) | Err(_) => (Verdict::Fine, "clients that may wait to be accepted, per shard".into()),
    });
    report.add_sysctl("net.ipv4.tcp_mem", |value| {
        let pages = value.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let mib = (pages * rustix::param::page_size() as u64) >> 20;
        (
            Verdict::Fine,
            format!(
                "in pages; from {} MiB of buffered data on, the kernel shrinks TCP buffers",
                grouped(mib)
            ),
        )
    });
    report.add_sysctl("net.ipv4.tcp_max_syn_backlog", |_| {
        (Verdict::Fine, "half-open connections; SYN cookies take over beyond it".into())
    });
    report.add_sysctl("net.ipv4.ip_local_port_range", |value| {
        let mut ports = value.split(' ').filter_map(|port| port.parse::<u64>().ok());
        let count = match (ports.next(), ports.next()) {
            (Some(first), Some(last)) => last.saturating_sub(first) + 1,
            _ => 0,
        };
        let meaning = format!(
            "a load test opens at most {} connections from one source address to the relay",
            grouped(count)
        );
        (Verdict::Fine, meaning)
    });
}

/// Adds what keeps the relay from starting with this configuration, and what it would warn about.
fn add_configuration(report: &mut Report, loaded: Loaded, machine: &Machine, driver: DriverKind) {
    let file = loaded.file.as_ref().map_or("no file".to_owned(), |file| file.display().to_string());
    match loaded.resolve(machine.resources(), driver) {
        Ok(config) => {
            let tokens = match &config.settings.verifier {
                Some(verifier) => format!("{} key(s) of tokens can be used", verifier.keys().len()),
                None => "no key: development mode, everybody is a guest".to_owned(),
            };
            report.add(Verdict::Fine, "configuration", file, tokens);
            let (now_unix_s, tls) = (Clock::start().now().unix_s(), config.tls.map(|(_, tls)| tls));
            for certificate in tls.iter().flat_map(|tls| tls.certificates()) {
                add_certificate(report, certificate, now_unix_s);
            }
            let told = tls.map(|tls| expiries(&tls, now_unix_s)).unwrap_or_default();
            for warning in config.warnings.into_iter().filter(|warning| !told.contains(warning)) {
                report.add(Verdict::Note, "configuration", "warning", warning);
            }
        }
        // These were reported above, with the limits of the machine.
        Err(
            ConfigError::TooManyConnections { .. }
            | ConfigError::TooManySockets { .. }
            | ConfigError::TooLittleMemory { .. }
            | ConfigError::TooFewDescriptors { .. },
        ) => {}
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let remedy = error.remedy().map(|remedy| format!("; {remedy}")).unwrap_or_default();
            report.add(Verdict::Wrong, "configuration", file, format!("{error}{cause}{remedy}"));
        }
    }
}

/// Adds a certificate that can be used. With one that has expired the relay would start, and nobody could come.
fn add_certificate(report: &mut Report, certificate: &Certificate, now_unix_s: u64) {
    let names = match certificate.names.as_slice() {
        [] => "has no host names: it is only good as the first".to_owned(),
        names => format!("for {}", names.join(", ")),
    };
    let lifetime = Lifetime::of(certificate, now_unix_s);
    let verdict = match lifetime {
        Lifetime::Over { .. } => Verdict::Wrong,
        Lifetime::Short { .. } => Verdict::Note,
        Lifetime::Long { .. } => Verdict::Fine,
    };
    report.add(verdict, "certificate", &certificate.file, format!("{names}; {lifetime}"));
}

/// Tries whether the store could be written to: in its directory, or in the one in which that would be made.
fn add_store(report: &mut Report, directory: Option<&Path>) {
    let Some(directory) = directory else {
        return report.add(Verdict::Fine, "store", "in memory", "what is said ends with the process");
    };
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let probe = existing.join(format!(".corelay-doctor-{}", std::process::id()));
    let written = File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
    let place = directory.display();
    match written {
        Ok(()) if existing == absolute => report.add(Verdict::Fine, "store", place, "can be written to"),
        Ok(()) => report.add(Verdict::Fine, "store", place, "is not there yet, and can be made"),
        Err(error) => {
            let meaning = format!(
                "nothing can be written in {}: {error}; name a directory of the relay's user with --data-dir, or say --ephemeral",
                existing.display()
            );
            report.add(Verdict::Wrong, "store", place, meaning);
        }
    }
}

/// Tries the addresses: binds them, and closes them at once.
fn add_addresses(report: &mut Report, listen: SocketAddr, listen_tls: Option<SocketAddr>, admin: SocketAddr) {
    let listens = [("listen", Some(listen)), ("listen_tls", listen_tls)];
    for (name, address) in listens {
        let Some(address) = address else { continue };
        let bound = rim::bind(address, 1, ListenOptions::default());
        let bound = bound.map(drop).map_err(|error| error.to_string());
        add_address(report, name, address, bound, "players can connect here");
    }
    let bound = server::bind_admin(admin).map(drop).map_err(|error| format!("{error:#}"));
    add_address(report, "admin", admin, bound, "the admin pages can be here");
}

fn add_address(
    report: &mut Report,
    name: &str,
    address: SocketAddr,
    bound: Result<(), String>,
    meaning: &str,
) {
    match bound {
        Ok(()) => report.add(Verdict::Fine, name, address, meaning),
        Err(error) => report.add(Verdict::Wrong, name, address, error),
    }
}

/// `1048576` as `1,048,576`.
fn grouped(number: u64) -> String {
    if number == u64::MAX {
        return "unlimited".into();
    }
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Finding) -> &str| {
            self.findings.iter().map(|finding| of(finding).chars().count()).max().unwrap_or(0)
        };
        let (names, values) = (width(|finding| &finding.name), width(|finding| &finding.value));
        for Finding { verdict, name, value, meaning } in &self.findings {
            let mark = match verdict {
                Verdict::Fine => "ok  ",
                Verdict::Note => "note",
                Verdict::Wrong => "FAIL",
            };
            writeln!(f, "{mark}  {name:names$}  {value:values$}  {meaning}")?;
        }
        match self.connections {
            Some((connections, limit)) => writeln!(
                f,
                "\nThe relay can run here: up to {} connections on {} shard(s), bounded by {limit}.",
                grouped(connections),
                self.shards
            ),
            None => writeln!(f, "\nThe relay cannot run here: see FAIL above."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::capacity::Wanted;
    use crate::driver_choice::DriverWish;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_048_576].map(grouped), ["0", "999", "1,000", "1,048,576"]);
    }

    /// A configuration that works on any machine, after `change`.
    fn loaded(change: impl FnOnce(&mut Draft)) -> Loaded {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut loaded = Loaded::default();
        (loaded.draft.listen, loaded.draft.admin) = (any_port, any_port);
        change(&mut loaded.draft);
        loaded
    }

    #[test]
    fn ports_that_are_taken_and_keys_that_are_missing_are_failures() {
        let machine = Machine { cpus: vec![0], kernel: "6.18".into(), descriptors: 1_024 };
        let fine = examine(&machine, loaded(|_| {}));
        assert!(fine.can_run() && fine.to_string().contains("development mode"), "{fine}");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        for (flag, change) in [
            ("--listen", (|draft, address| draft.listen = address) as fn(&mut Draft, SocketAddr)),
            ("--admin", |draft, address| draft.admin = address),
        ] {
            let report = examine(&machine, loaded(|draft| change(draft, address)));
            assert!(!report.can_run(), "{report}");
            let text = report.to_string();
            assert!(
                text.contains("FAIL") && text.contains("another process") && text.contains(flag),
                "{text}"
            );
        }
        let report =
            examine(&machine, loaded(|draft| draft.jwt_key_file = Some("/nowhere/corelay.key".into())));
        let text = report.to_string();
        assert!(
            !report.can_run() && text.contains("cannot read the key file /nowhere/corelay.key: No such file"),
            "{text}"
        );
    }

    #[test]
    fn too_many_connections_are_a_failure_with_a_remedy() {
        let machine = Machine { cpus: vec![0], kernel: "6.18".into(), descriptors: 1_024 };
        let report = examine(
            &machine,
            loaded(|draft| {
                draft.wanted = Wanted { connections_max: Some(100_000), shards: Some(2), has_tls: false }
            }),
        );
        assert!(!report.can_run());
        let text = report.to_string();
        assert!(text.contains("FAIL  RLIMIT_NOFILE") && text.contains("--shards 131"), "{text}");
        assert!(text.ends_with("The relay cannot run here: see FAIL above.\n"));
    }

    #[test]
    fn a_player_with_tls_takes_more_memory() {
        let machine = Machine { cpus: vec![0], kernel: "6.18".into(), descriptors: 1_024 };
        for (listen_tls, takes) in [(None, "320 of them"), (Some("127.0.0.1:0"), "3,920 of them")] {
            let listen_tls = listen_tls.map(|address| address.parse().unwrap());
            let text = examine(&machine, loaded(|draft| draft.listen_tls = listen_tls)).to_string();
            assert!(text.contains(takes), "{text}");
        }
    }

    #[test]
    fn with_epoll_the_limit_of_the_process_is_for_all_shards() {
        let machine = Machine { cpus: vec![0, 1], kernel: "6.18".into(), descriptors: 1_064 };
        let epoll = |draft: &mut Draft| draft.driver = DriverWish::Epoll;
        let text = examine(&machine, loaded(epoll)).to_string();
        assert!(text.contains("driver ") && !text.contains("io_uring pbuf_ring"), "{text}");
        assert!(text.ends_with("up to 894 connections on 2 shard(s), bounded by RLIMIT_NOFILE.\n"), "{text}");
        let wanted = Wanted { connections_max: Some(900), shards: None, has_tls: false };
        let text =
            examine(&machine, loaded(|draft| (draft.driver, draft.wanted) = (DriverWish::Epoll, wanted)));
        assert!(!text.can_run() && text.to_string().contains("ulimit -n 1070"), "{text}");
    }

    #[test]
    fn the_tightest_limit_is_the_answer() {
        let machine = Machine { cpus: vec![0, 1], kernel: "6.18".into(), descriptors: 1_064 };
        let report = examine(&machine, loaded(|_| {}));
        assert!(report.can_run(), "{report}");
        assert!(
            report
                .to_string()
                .ends_with("up to 2,000 connections on 2 shard(s), bounded by descriptor tables.\n")
        );
    }
}
