//! The shards' threads: what each loop is made of, and how all of them start.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Context, anyhow};

use super::{Event, panic_text, random};
use crate::config::Config;
use crate::ids::ShardId;
use crate::machine::{self, Machine};
use crate::mailbox::Endpoint;
use crate::metrics::ShardMetrics;
use crate::rim::uring::{RingDriver, RingSettings};
use crate::rim::{self, Clock, Listener, Loop, LoopSettings};
use crate::shard::Shard;
use crate::shard::settings::Settings;

/// What every shard and its loop are made of.
pub(super) struct ShardMaker<'a> {
    machine: &'a Machine,
    clock: Clock,
    metrics: &'a [Arc<ShardMetrics>],
    loops: LoopSettings,
    rings: RingSettings,
    shards: Arc<Settings>,
}

impl<'a> ShardMaker<'a> {
    pub(super) fn new(
        config: Config,
        machine: &'a Machine,
        clock: Clock,
        metrics: &'a [Arc<ShardMetrics>],
    ) -> anyhow::Result<Self> {
        let (queues, descriptors) = (config.capacity.queues, config.capacity.table_entries);
        let loops =
            LoopSettings { descriptors, listen_options: config.listen_options, addresses: Arc::default() };
        let rings = RingSettings {
            descriptors,
            submissions: queues.submissions,
            completions: queues.completions,
            receive_buffers: queues.receive_buffers,
            gather_time: queues.gather_time,
        };
        let mut shards = config.settings;
        shards.placement.seed = [u64::from_le_bytes(random()?), u64::from_le_bytes(random()?)];
        shards.notes = rim::are_notes_wanted(shards.upgrade.development);
        Ok(Self { machine, clock, metrics, loops, rings, shards: Arc::new(shards) })
    }

    /// Makes each loop on the CPU that it will run on.
    pub(super) fn make(
        &self,
        endpoints: Vec<Endpoint>,
        listeners: Vec<Listener>,
    ) -> anyhow::Result<Vec<ShardLoop>> {
        let made = (0..).zip(endpoints).zip(listeners).map(|((shard, endpoint), listener)| {
            machine::on_cpu(self.cpu_of(shard), || self.make_one(ShardId(shard), listener, endpoint))
                .with_context(|| format!("shard {shard}"))
        });
        made.collect()
    }

    fn make_one(&self, id: ShardId, listener: Listener, endpoint: Endpoint) -> anyhow::Result<ShardLoop> {
        let metrics = &self.metrics[usize::from(id.0)];
        let shard = Shard::new(id, self.shards.clone(), metrics.clone(), random()?);
        let driver = RingDriver::new(self.rings)?;
        Ok(Loop::new(self.loops.clone(), driver, listener, endpoint, shard, metrics.clone(), self.clock))
    }

    fn cpu_of(&self, shard: u16) -> usize {
        self.machine.cpus[usize::from(shard) % self.machine.cpus.len()]
    }

    /// Starts a thread for each loop.
    pub(super) fn start(&self, loops: Vec<ShardLoop>, events: &Sender<Event>) -> anyhow::Result<()> {
        let peers: Vec<<RingDriver as crate::rim::driver::Driver>::Peer> =
            loops.iter().map(Loop::peer).collect();
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

type ShardLoop = Loop<RingDriver>;

/// Everything that a shard's thread takes with it.
struct ShardStart {
    id: ShardId,
    cpu: usize,
    shard_loop: ShardLoop,
    peers: Vec<<RingDriver as crate::rim::driver::Driver>::Peer>,
    enabled: Arc<Barrier>,
}

fn spawn_shard(start: ShardStart, events: Sender<Event>) -> anyhow::Result<()> {
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

fn run_shard(start: ShardStart) -> anyhow::Result<()> {
    let ShardStart { id, cpu, shard_loop, peers, enabled } = start;
    if let Err(error) = machine::pin_thread(cpu) {
        tracing::warn!(shard = id.0, cpu, %error, "cannot pin the thread; it stays where the kernel puts it");
    }
    Ok(shard_loop.run(peers, &enabled)?)
}
