//! The shards' threads: what each loop is made of, and how all of them start.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Context, anyhow};

use super::{Event, panic_text, random};
use crate::config::Config;
use crate::config::capacity::Capacity;
use crate::driver_choice::DriverKind;
use crate::ids::ShardId;
use crate::machine::{self, Machine};
use crate::mailbox::Endpoint;
use crate::metrics::ShardMetrics;
use crate::rim::driver::Driver;
use crate::rim::epoll::{EpollDriver, EpollSettings, SocketBudget};
use crate::rim::uring::{RingDriver, RingSettings};
use crate::rim::{self, Clock, Listeners, Loop, LoopSettings};
use crate::shard::Shard;
use crate::shard::settings::Settings;

/// What every shard and its loop are made of.
pub(super) struct ShardMaker<'a> {
    machine: &'a Machine,
    clock: Clock,
    metrics: &'a [Arc<ShardMetrics>],
    loops: LoopSettings,
    capacity: Capacity,
    shards: Arc<Settings>,
}

impl<'a> ShardMaker<'a> {
    pub(super) fn new(
        config: Config,
        machine: &'a Machine,
        clock: Clock,
        metrics: &'a [Arc<ShardMetrics>],
    ) -> anyhow::Result<Self> {
        let capacity = config.capacity;
        let loops = LoopSettings {
            descriptors: capacity.table_entries,
            listen_options: config.listen_options,
            addresses: Arc::default(),
            tls: config.tls.map(|(_, tls)| tls),
        };
        let mut shards = config.settings;
        shards.placement.seed = [u64::from_le_bytes(random()?), u64::from_le_bytes(random()?)];
        shards.notes = rim::are_notes_wanted(shards.upgrade.development);
        Ok(Self { machine, clock, metrics, loops, capacity, shards: Arc::new(shards) })
    }

    /// Makes all loops, with drivers of this kind, and starts a thread for each.
    pub(super) fn start(
        &self,
        driver: DriverKind,
        endpoints: Vec<Endpoint>,
        listeners: Vec<Listeners>,
        events: &Sender<Event>,
    ) -> anyhow::Result<()> {
        let Capacity { table_entries, queues, sockets_max, .. } = self.capacity;
        match driver {
            DriverKind::IoUring => {
                let settings = RingSettings {
                    descriptors: table_entries,
                    submissions: queues.submissions,
                    completions: queues.completions,
                    receive_buffers: queues.receive_buffers,
                    gather_time: queues.gather_time,
                };
                let loops = self.make(endpoints, listeners, || RingDriver::new(settings))?;
                self.start_threads(loops, events)
            }
            DriverKind::Epoll => {
                let settings = EpollSettings {
                    descriptors: table_entries,
                    sockets: Arc::new(SocketBudget::new(sockets_max)),
                    receive_buffers: queues.receive_buffers,
                    gather_time: queues.gather_time,
                };
                let loops = self.make(endpoints, listeners, || EpollDriver::new(settings.clone()))?;
                self.start_threads(loops, events)
            }
        }
    }

    /// Makes each loop on the CPU that it will run on.
    fn make<D: Startable>(
        &self,
        endpoints: Vec<Endpoint>,
        listeners: Vec<Listeners>,
        make_driver: impl Fn() -> Result<D, D::Error>,
    ) -> anyhow::Result<Vec<Loop<D>>> {
        let made = (0..).zip(endpoints).zip(listeners).map(|((shard, endpoint), listeners)| {
            let make = || self.make_one(ShardId(shard), listeners, endpoint, &make_driver);
            machine::on_cpu(self.cpu_of(shard), make).with_context(|| format!("shard {shard}"))
        });
        made.collect()
    }

    fn make_one<D: Startable>(
        &self,
        id: ShardId,
        listeners: Listeners,
        endpoint: Endpoint,
        make_driver: impl Fn() -> Result<D, D::Error>,
    ) -> anyhow::Result<Loop<D>> {
        let metrics = &self.metrics[usize::from(id.0)];
        let shard = Shard::new(id, self.shards.clone(), metrics.clone(), random()?);
        let driver = make_driver()?;
        Ok(Loop::new(self.loops.clone(), driver, listeners, endpoint, shard, metrics.clone(), self.clock))
    }

    fn cpu_of(&self, shard: u16) -> usize {
        self.machine.cpus[usize::from(shard) % self.machine.cpus.len()]
    }

    fn start_threads<D: Startable>(&self, loops: Vec<Loop<D>>, events: &Sender<Event>) -> anyhow::Result<()> {
        let peers: Vec<D::Peer> = loops.iter().map(Loop::peer).collect();
        let enabled = Arc::new(Barrier::new(loops.len()));
        for (shard, shard_loop) in (0..).zip(loops) {
            let start = ShardStart {
                id: ShardId(shard),
                cpu: self.cpu_of(shard),
                shard_loop,
                peers: peers.clone(),
                enabled: enabled.clone(),
            };
            spawn_shard(start, events.clone())?;
        }
        Ok(())
    }
}

/// A driver that may go to the thread of its shard, and says what is wrong with it.
trait Startable: Driver<Error: std::error::Error + Send + Sync> + Send + 'static {}

impl<D: Driver<Error: std::error::Error + Send + Sync> + Send + 'static> Startable for D {}

/// Everything that a shard's thread takes with it.
struct ShardStart<D: Driver> {
    id: ShardId,
    cpu: usize,
    shard_loop: Loop<D>,
    peers: Vec<D::Peer>,
    enabled: Arc<Barrier>,
}

fn spawn_shard<D: Startable>(start: ShardStart<D>, events: Sender<Event>) -> anyhow::Result<()> {
    let id = start.id;
    let body = move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run_shard(start)));
        let outcome = outcome.unwrap_or_else(|panic| Err(anyhow!("panic: {}", panic_text(&*panic))));
        // When the process is ending, nobody listens any more.
        let _ = events.send(Event::ShardEnded(id, outcome));
    };
    let spawned = thread::Builder::new().name(format!("shard-{}", id.0)).spawn(body);
    spawned.with_context(|| format!("cannot start the thread of shard {}", id.0))?;
    Ok(())
}

fn run_shard<D: Startable>(start: ShardStart<D>) -> anyhow::Result<()> {
    let ShardStart { id, cpu, shard_loop, peers, enabled } = start;
    if let Err(error) = machine::pin_thread(cpu) {
        tracing::warn!(shard = id.0, cpu, %error, "cannot pin the thread; it stays where the kernel puts it");
    }
    Ok(shard_loop.run(peers, &enabled)?)
}
