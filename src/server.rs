//! Wires everything together: a pinned thread per shard, the service thread, and the main thread that watches both and the
//! signals. Whatever ends first, on purpose or not, ends the process: a relay without one of its threads is none.

mod documents;
mod exports;
mod renewal;
mod shards;
mod systemd;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;

pub use self::renewal::ReadAgain;
use self::renewal::{Renewal, log_expiries};
use self::shards::ShardMaker;
use crate::admin::access::Access;
use crate::admin::certificates::Certificates;
use crate::admin::export::Exports;
use crate::admin::{self, About, Admin, Phase, PhaseCell};
use crate::config::Config;
use crate::config::secrets::AdminToken;
use crate::driver_choice::{Choice, DriverKind};
use crate::ids::ShardId;
use crate::impossible::{self, Place};
use crate::limits::DRAIN_DEADLINE;
use crate::machine::Machine;
use crate::mailbox;
use crate::metrics::{ShardMetrics, StoreMetrics};
use crate::rim::{self, Clock, Listeners};
use crate::service::{ReadClock, Runtime, Service, ServiceHandle};
use crate::store::Draining;
use crate::store::file::StoreFile;
use crate::store::{GUESTS_AT_ONCE, Guests, Store};
use crate::time::Instant;
use crate::tls::ServerConfig;

/// How often the main thread looks whether the loops have begun to turn.
const START_LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// After so many looks, some 10 s, the start of a loop that does not turn has failed. Looks are counted instead of time, so that
/// a process that stands still meanwhile is not late.
const START_LOOKS_MAX: u32 = 5_000;

/// How often the service thread looks for what has to be logged: places of `impossible!`, a store that hangs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How a run ended after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All connections were drained, or `DRAIN_DEADLINE` was over.
    Drained,
    /// A second signal came.
    Interrupted(Signal),
}

/// The signals that ask the relay to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGTERM`: what service managers send.
    Terminate,
}

impl Signal {
    /// Exit code of a process that this signal ended, as shells count it: 128 + its number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// What the other threads tell the main thread.
enum Event {
    /// A shard's loop is over, by itself after a drain or by an error.
    ShardEnded(ShardId, anyhow::Result<()>),
    /// The service thread has ended, which it never does on purpose.
    ServiceEnded(anyhow::Error),
    /// The store's thread is over: by itself when every shard is, or by a panic.
    StoreEnded(anyhow::Result<()>),
    /// Somebody wants the relay to end.
    Signalled(Signal),
}

/// Runs until told to end. An error means that the relay could not start or could not go on.
pub fn run(
    mut config: Config,
    machine: &Machine,
    driver: &Choice,
    read_again: ReadAgain,
) -> anyhow::Result<Ended> {
    // In huge pages a table that is touched entry by entry takes 2 MiB at a time, and what a burst of joins needed is never
    // given back: at 2,000 players one shard's process held 31 MiB with them and 22 MiB without.
    if let Err(errno) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%errno, "huge pages stay on: memory is counted in steps of 2 MiB");
    }
    let clock = Clock::start();
    let (shards, driver_name) = (config.settings.placement.shards, driver.kind().name());
    let (file, before, taken) = open_store(&config)?;
    config.settings.guests_before = before;
    let listeners = bind(&config, shards)?;
    let first = listeners.first().context("no listener")?;
    let (listen, listen_tls) =
        (first.plain.local_addr(), first.secure.as_ref().map(|listener| listener.local_addr()));
    let admin_listener = bind_admin(config.admin)?;
    let admin = admin_listener.local_addr().context("cannot read the address of the admin listener")?;
    if let Choice::IoUring(probe) = driver {
        tracing::debug!(kernel = machine.kernel, "{probe}");
    }

    let connections_max = config.capacity.connections_max;
    let (endpoints, [mailbox, of_store]) = mailbox::mesh(shards, config.capacity.queues.letters)?;
    let (service, handle) = Service::new(mailbox, Arc::new(move || clock.instant()));
    let metrics: Vec<Arc<ShardMetrics>> = (0..shards).map(|_| Arc::default()).collect();
    let store_metrics: Arc<StoreMetrics> = Arc::default();
    let guests = Guests { named: guests_named(metrics.clone()), before, taken };
    let read_clock: ReadClock = Arc::new(move || clock.instant());
    let exports = Exports::new(exports::begin(file.reader()));
    let documents = documents::of(file.reader(), clock);
    let store = Store::new(of_store, file, store_metrics.clone(), read_clock, guests);
    let phase = Arc::new(PhaseCell::default());
    let certificates = Certificates::new(config.tls.as_ref().map(|(_, tls)| tls.clone()));
    let (events, inbox) = mpsc::channel();
    spawn_store(store, events.clone())?;
    let pages = Admin {
        shards: metrics.clone(),
        store: store_metrics,
        phase: phase.clone(),
        about: About {
            version: env!("CARGO_PKG_VERSION"),
            kernel: machine.kernel.clone(),
            driver: driver_name,
            started_at_unix_s: clock.now().unix_us as f64 / 1e6,
        },
        relay: listen,
        relay_tls: listen_tls,
        is_development: config.settings.upgrade.development,
        certificates: certificates.clone(),
        clock: Arc::new(move || clock.instant()),
        access: Access::new(config.admin_token.as_ref().map(AdminToken::as_bytes)),
        service: handle.clone(),
        exports,
        documents,
    };
    let renewal = Renewal {
        read: read_again,
        keys_needed: config.settings.verifier.is_some(),
        certificates: certificates.clone(),
        service: handle.clone(),
    };
    let runtime = match driver.kind() {
        DriverKind::IoUring => Runtime::IoUring,
        DriverKind::Epoll => Runtime::Epoll,
    };
    spawn_service(
        runtime,
        ServiceParts { listener: admin_listener, pages, renewal, service },
        events.clone(),
    )?;

    ShardMaker::new(config, machine, clock, &metrics)?.start(driver.kind(), endpoints, listeners, &events)?;
    let mut supervisor = Supervisor { clock, inbox, phase, service: handle, metrics, running: shards + 1 };
    if let Some(ended) = supervisor.await_loops()? {
        return Ok(ended);
    }
    let ready = Ready { listen, listen_tls, admin, shards, connections_max, driver: driver_name };
    ready.log(&certificates);
    systemd::ready();
    supervisor.watch()
}

/// What the log says when players may come.
struct Ready {
    listen: SocketAddr,
    listen_tls: Option<SocketAddr>,
    admin: SocketAddr,
    shards: u16,
    connections_max: u64,
    driver: &'static str,
}

impl Ready {
    fn log(&self, certificates: &Certificates) {
        let &Self { listen, listen_tls, admin, shards, connections_max, driver } = self;
        let (players, pages) = (reachable(listen), reachable(admin));
        tracing::info!(
            %listen,
            %admin,
            shards,
            connections_max,
            driver,
            games = format!("ws://{players}/play/{{game}}"),
            phoenix = format!("ws://{players}/socket"),
            playground = format!("http://{pages}/"),
            listen_tls = listen_tls.map(|at| at.to_string()),
            games_tls = listen_tls.map(|at| format!("{}/play/{{game}}", secure_url(at, certificates.now().as_deref()))),
            "ready"
        );
    }
}

/// Where clients connect by TLS: under a name of the first certificate that has one, because they compare it.
pub fn secure_url(at: SocketAddr, tls: Option<&ServerConfig>) -> String {
    let certificates = tls.map_or(&[][..], ServerConfig::certificates);
    let mut names = certificates.iter().flat_map(|certificate| &certificate.names);
    match names.find(|name| !name.starts_with("*.")) {
        Some(name) => format!("wss://{name}:{}", at.port()),
        None => format!("wss://{}", reachable(at)),
    }
}

/// What each shard listens on.
fn bind(config: &Config, shards: u16) -> anyhow::Result<Vec<Listeners>> {
    let plain = rim::bind(config.listen, shards, config.listen_options)?;
    let mut secure = Vec::new();
    if let Some((listen_tls, _)) = &config.tls {
        secure = rim::bind(*listen_tls, shards, config.listen_options)?;
    }
    let mut secure = secure.into_iter();
    let both = |plain| Listeners { plain: Arc::new(plain), secure: secure.next().map(Arc::new) };
    Ok(plain.into_iter().map(both).collect())
}

/// The store, the highest number of a guest that others have taken, and how many are taken for this process.
fn open_store(config: &Config) -> anyhow::Result<(StoreFile, u64, u64)> {
    let file = StoreFile::open(config.store.clone())?;
    if let Some(Draining { process, guests }) = file.held_by() {
        tracing::info!(process, "a relay that is draining still has the data directory: rooms wait for it");
        return Ok((file, guests, 0));
    }
    let before = file.take_guests(GUESTS_AT_ONCE).map_err(|error| file.explain(error))?;
    Ok((file, before, GUESTS_AT_ONCE))
}

/// Bytes that nobody can predict.
fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("cannot get random bytes for secrets")?;
    Ok(bytes)
}

/// Where to connect to for a listener at `address`: nobody can connect to "any address".
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The listener of the admin pages, or why there can be none and what to do.
pub fn bind_admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => anyhow!(
            "another process serves on {address} already, perhaps another corelay; stop it, or choose another address for the \
             admin pages with --admin (`ss -tlnp` shows who)"
        ),
        Some(Errno::ACCESS | Errno::PERM) => anyhow!(
            "no permission to serve the admin pages on {address}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a port \
             above with --admin"
        ),
        Some(Errno::ADDRNOTAVAIL) => anyhow!(
            "cannot serve the admin pages on {address}: it is not an address of this machine; choose one of its own with --admin"
        ),
        _ => anyhow::Error::new(error)
            .context(format!("cannot serve the admin pages on {address} (another address: --admin 127.0.0.1:4001)")),
    })?;
    listener.set_nonblocking(true).context("cannot make the admin listener non-blocking")?;
    Ok(listener)
}

fn spawn_store(store: Store, events: Sender<Event>) -> anyhow::Result<()> {
    let body = move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| store.run()));
        let outcome = outcome.map_err(|panic| anyhow!("panic: {}", panic_text(&*panic)));
        // Nobody listens any more when the process is ending.
        let _ = events.send(Event::StoreEnded(outcome));
    };
    thread::Builder::new().name("store".into()).spawn(body).context("cannot start the store's thread")?;
    Ok(())
}

/// What the service thread looks after.
struct ServiceParts {
    listener: TcpListener,
    pages: Admin,
    renewal: Renewal,
    service: Service,
}

/// The service thread: its mail, the admin pages and the signals.
fn spawn_service(runtime: Runtime, parts: ServiceParts, events: Sender<Event>) -> anyhow::Result<()> {
    let body = move || {
        let serve = || {
            let served = runtime.run(run_service(runtime, parts, events.clone()));
            served.context("cannot make its runtime").flatten()
        };
        let outcome = panic::catch_unwind(AssertUnwindSafe(serve));
        let error = match outcome {
            Ok(Ok(())) => anyhow!("it stopped"),
            Ok(Err(error)) => error,
            Err(panic) => anyhow!("panic: {}", panic_text(&*panic)),
        };
        let _ = events.send(Event::ServiceEnded(error));
    };
    thread::Builder::new().name("service".into()).spawn(body).context("cannot start the service thread")?;
    Ok(())
}

async fn run_service(runtime: Runtime, parts: ServiceParts, events: Sender<Event>) -> anyhow::Result<()> {
    let ServiceParts { listener, pages, renewal, service } = parts;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    spawn_local(async move {
        loop {
            let received = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
            if events.send(Event::Signalled(received)).is_err() {
                return;
            }
        }
    });
    spawn_local(log_expiries(renewal.certificates.clone()));
    spawn_local(async move {
        while hangup.recv().await.is_some() {
            renewal.renew().await;
        }
    });
    let (phase, clock) = (pages.phase.clone(), pages.clock.clone());
    spawn_local(systemd::feed_watchdog(pages.shards.clone(), phase, clock));
    spawn_local(log_impossible());
    spawn_local(log_store_hangs(pages.store.clone(), pages.clock.clone()));
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot use the admin listener")?;
    tokio::select! {
        never = admin::serve(listener, pages) => match never {},
        failed = service.run(runtime) => match failed.context("cannot wait for mail of the shards")? {},
    }
}

/// Logs each place of `impossible!` that was reached, once.
async fn log_impossible() {
    let mut logged = 0;
    loop {
        while let Some(Place { invariant, file, line, .. }) = impossible::reached(logged) {
            tracing::error!(
                place = format!("{file}:{line}"),
                "broken invariant: {invariant} (a bug; the relay goes on without)"
            );
            logged += 1;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Says when the store has worked on one batch for too long, and when that is over.
async fn log_store_hangs(store: Arc<StoreMetrics>, clock: ReadClock) {
    let mut hangs = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match store.hangs_for(clock()) {
            Some(time) if !hangs => {
                tracing::error!(
                    ?time,
                    "the store hangs: rooms wait for the disk, and refuse what is too much; games go on"
                );
                hangs = true;
            }
            None if hangs => {
                tracing::info!("the store goes on");
                hangs = false;
            }
            Some(_) | None => {}
        }
    }
}

/// What the main thread knows of a run.
struct Supervisor {
    clock: Clock,
    inbox: Receiver<Event>,
    phase: Arc<PhaseCell>,
    service: ServiceHandle,
    metrics: Vec<Arc<ShardMetrics>>,
    /// Shards and the store.
    running: u16,
}

impl Supervisor {
    /// Waits until every loop turns. A signal that is seen meanwhile ends the process at once: nobody plays yet.
    fn await_loops(&mut self) -> anyhow::Result<Option<Ended>> {
        let mut looks = 0;
        while !self.metrics.iter().all(|metrics| metrics.loop_turned_at_us.value() > 0) {
            match self.inbox.recv_timeout(START_LOOK_INTERVAL) {
                Ok(Event::ShardEnded(shard, outcome)) => return Err(shard_failure(shard, outcome)),
                Ok(Event::ServiceEnded(error)) => return Err(service_failure(error)),
                Ok(Event::StoreEnded(outcome)) => return Err(store_failure(outcome)),
                Ok(Event::Signalled(_)) => return Ok(Some(Ended::Drained)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("all threads are gone"),
            }
            looks += 1;
            if looks > START_LOOKS_MAX {
                bail!("not every shard's loop turned within {:?}", START_LOOK_INTERVAL * START_LOOKS_MAX);
            }
        }
        self.phase.enter(Phase::Ready);
        Ok(None)
    }

    /// Waits until the relay has ended, and drains it after the first signal.
    fn watch(mut self) -> anyhow::Result<Ended> {
        let mut drain_deadline = None;
        while self.running > 0 {
            match self.next_event(drain_deadline)? {
                Some(Event::Signalled(signal)) if drain_deadline.is_some() => {
                    tracing::warn!(?signal, "second signal: leaving at once");
                    return Ok(Ended::Interrupted(signal));
                }
                Some(Event::Signalled(signal)) => {
                    drain_deadline = Some(self.clock.now().instant + DRAIN_DEADLINE);
                    self.drain(signal);
                }
                Some(Event::ShardEnded(_, Ok(())) | Event::StoreEnded(Ok(())))
                    if drain_deadline.is_some() =>
                {
                    self.running -= 1;
                }
                Some(Event::ShardEnded(shard, outcome)) => return Err(shard_failure(shard, outcome)),
                Some(Event::ServiceEnded(error)) => return Err(service_failure(error)),
                Some(Event::StoreEnded(outcome)) => return Err(store_failure(outcome)),
                None => {
                    tracing::warn!(
                        connections = self.connections(),
                        "the drain took too long: leaving without the rest"
                    );
                    return Ok(Ended::Drained);
                }
            }
        }
        tracing::info!("drained");
        Ok(Ended::Drained)
    }

    /// The next event; `None` when the deadline has passed.
    fn next_event(&self, deadline: Option<Instant>) -> anyhow::Result<Option<Event>> {
        let Some(deadline) = deadline else { return Ok(Some(self.inbox.recv()?)) };
        match self.inbox.recv_timeout(deadline.since(self.clock.now().instant)) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all threads are gone"),
        }
    }

    fn drain(&mut self, signal: Signal) {
        // Whoever reads the line and then asks `/readyz` is told the same.
        self.phase.enter(Phase::Draining);
        systemd::stopping();
        tracing::info!(
            ?signal,
            connections = self.connections(),
            "draining; a second signal ends the process at once"
        );
        if let Err(busy) = self.service.drain() {
            tracing::warn!("cannot tell the shards to drain: {busy}");
        }
    }

    fn connections(&self) -> u64 {
        let of = |metrics: &Arc<ShardMetrics>| {
            metrics.connections_open.value() + metrics.connections_closing.value()
        };
        self.metrics.iter().map(of).sum()
    }
}

fn shard_failure(shard: ShardId, outcome: anyhow::Result<()>) -> anyhow::Error {
    match outcome {
        Ok(()) => anyhow!("shard {} stopped without being told to", shard.0),
        Err(error) => error.context(format!("shard {} cannot go on", shard.0)),
    }
}

fn service_failure(error: anyhow::Error) -> anyhow::Error {
    error.context("the service thread (admin pages, signals) cannot go on")
}

fn store_failure(outcome: anyhow::Result<()>) -> anyhow::Error {
    let error = outcome.err().unwrap_or_else(|| anyhow!("it stopped without being told to"));
    error.context("the store's thread cannot go on")
}

/// How many guests have been named at most. Each shard has its own share of the numbers: the highest given is the busiest's.
fn guests_named(shards: Vec<Arc<ShardMetrics>>) -> Box<dyn Fn() -> u64 + Send> {
    Box::new(move || {
        let most = shards.iter().map(|metrics| metrics.guests.value()).max().unwrap_or(0);
        most * shards.len() as u64
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::Endpoint;

    /// A service thread, not run, and one shard's end.
    fn service() -> (Service, ServiceHandle, Vec<Endpoint>) {
        let (endpoints, [mailbox, _store]) = mailbox::mesh(1, 16).unwrap();
        let (service, handle) = Service::new(mailbox, Arc::new(Instant::default));
        (service, handle, endpoints)
    }

    /// How a process of one shard ends that is ready and meets these events.
    fn watch(events: impl IntoIterator<Item = Event>) -> Result<Ended, String> {
        let (sender, inbox) = mpsc::channel();
        events.into_iter().for_each(|event| sender.send(event).unwrap());
        let (_service, handle, _endpoints) = service();
        let supervisor = Supervisor {
            clock: Clock::start(),
            inbox,
            phase: Arc::default(),
            service: handle,
            metrics: vec![Arc::default()],
            running: 1,
        };
        supervisor.watch().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_drain_ends_when_every_shard_has() {
        let events = [Event::Signalled(Signal::Terminate), Event::ShardEnded(ShardId(0), Ok(()))];
        assert_eq!(watch(events), Ok(Ended::Drained));
    }

    #[test]
    fn a_second_signal_does_not_wait() {
        let events = [Event::Signalled(Signal::Terminate), Event::Signalled(Signal::Interrupt)];
        assert_eq!(watch(events), Ok(Ended::Interrupted(Signal::Interrupt)));
    }

    #[test]
    fn half_a_relay_is_none() {
        let stopped = watch([Event::ShardEnded(ShardId(0), Ok(()))]);
        assert_eq!(stopped, Err("shard 0 stopped without being told to".into()));
        let failed = watch([Event::ShardEnded(ShardId(0), Err(anyhow!("no memory")))]);
        assert_eq!(failed, Err("shard 0 cannot go on: no memory".into()));
        let while_draining = watch([
            Event::Signalled(Signal::Terminate),
            Event::ShardEnded(ShardId(0), Err(anyhow!("no memory"))),
        ]);
        assert_eq!(while_draining, Err("shard 0 cannot go on: no memory".into()));
        let service = watch([Event::ServiceEnded(anyhow!("it stopped"))]);
        assert!(service.is_err_and(|error| error.ends_with("cannot go on: it stopped")));
    }
}
