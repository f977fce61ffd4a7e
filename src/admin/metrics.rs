//! `/metrics`: one row per metric, one sample per shard.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::certificates::Certificates;
use super::{About, Admin, process};
use crate::impossible;
use crate::metrics::{Counter, DurationHistogram, Gauge, ShardMetrics, StoreMetrics};
use crate::reasons::{CloseReason, CorrectionReason, ErrorCode, JoinRefusal, RateClass, RefusalReason};
use crate::time::Instant;

/// The media type of the text that the encoder writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric. The encoder adds `_total` to the name of a counter.
struct Row<M: 'static> {
    name: &'static str,
    help: &'static str,
    source: Source<M>,
}

/// Where a metric's values are: of `ShardMetrics`, with the label `shard`, or of `StoreMetrics`.
enum Source<M: 'static> {
    Counter(fn(&M) -> &Counter),
    Gauge(fn(&M) -> &Gauge),
    Histogram(fn(&M) -> &DurationHistogram),
    /// Several gauges, told apart by a label.
    States(&'static str, &'static [State<M>]),
    /// A counter per variant of a closed set, and the labels of the variant at an index.
    Variants(fn(&M) -> &[Counter], fn(usize) -> Labels),
}

type LabelSlice<'a> = &'a [(&'static str, String)];
type Labels = Vec<(&'static str, String)>;
type State<M> = (&'static str, fn(&M) -> &Gauge);

const fn row<M>(name: &'static str, help: &'static str, source: Source<M>) -> Row<M> {
    Row { name, help, source }
}

use Source::{Counter as C, Gauge as G, Histogram as H, States as S, Variants as V};

#[rustfmt::skip]
const ROWS: &[Row<ShardMetrics>] = &[
    row("corelay_connections", "Connections by state", S("state", &[
        ("upgrading", |m| &m.connections_upgrading), ("open", |m| &m.connections_open), ("closing", |m| &m.connections_closing)])),
    row("corelay_connections_parked", "Open connections that wait on a poll, because they are quiet", G(|m| &m.connections_parked)),
    row("corelay_games", "Games with at least one seat", G(|m| &m.games)),
    row("corelay_seats", "Players in games, held seats included", G(|m| &m.seats)),
    row("corelay_seats_held", "Seats held for players that lost their connection", G(|m| &m.seats_held)),
    row("corelay_guests", "Guests that were given a number", C(|m| &m.guests)),
    row("corelay_resumes", "Seats given back to a client that resumed", C(|m| &m.resumes)),

    row("corelay_accepts", "Connections accepted", C(|m| &m.accepts)),
    row("corelay_accept_failures", "Accepts that failed for want of a descriptor or memory", C(|m| &m.accept_failures)),
    row("corelay_accept_paused", "1 while accepting is stopped because the descriptor table is nearly full", G(|m| &m.accept_paused)),
    row("corelay_refusals", "Upgrades refused before any WebSocket frame", V(|m| &m.refusals, refusal_labels)),
    row("corelay_closes", "Connections ended, with the code of the close frame", V(|m| &m.closes, close_labels)),

    row("corelay_frames_in", "WebSocket messages received, control frames included", C(|m| &m.frames_in)),
    row("corelay_frames_out", "WebSocket messages handed to the kernel", C(|m| &m.frames_out)),
    row("corelay_bytes_in", "Bytes received", C(|m| &m.bytes_in)),
    row("corelay_bytes_out", "Bytes the kernel took", C(|m| &m.bytes_out)),

    row("corelay_moves", "Moves applied", C(|m| &m.moves)),
    row("corelay_objects", "Object records applied", C(|m| &m.objects)),
    row("corelay_events_in", "Events received and accepted", C(|m| &m.events_in)),
    row("corelay_events_out", "Events queued for members", C(|m| &m.events_out)),
    row("corelay_deltas", "Deltas queued for members", C(|m| &m.deltas)),
    row("corelay_keyframes", "Keyframes queued for members", C(|m| &m.keyframes)),
    row("corelay_frames_skipped", "Tick frames a member did not get because its socket was busy", C(|m| &m.frames_skipped)),
    row("corelay_frames_encoded", "Tick frames encoded: at most one Delta and one Keyframe per game and tick", C(|m| &m.frames_encoded)),
    row("corelay_rate_limited", "Records over a rate limit; of the class bytes: receives over the budget", V(|m| &m.rate_limited, |index| label("class", RateClass::ALL[index].label()))),
    row("corelay_errors", "Error records sent", V(|m| &m.errors, |index| label("code", ErrorCode::ALL[index].label()))),
    row("corelay_corrections", "Correction records sent", V(|m| &m.corrections, |index| label("reason", CorrectionReason::ALL[index].label()))),

    row("corelay_channels", "Topics joined by connections, or being joined or left", G(|m| &m.channels)),
    row("corelay_rooms", "Chat rooms", G(|m| &m.rooms)),
    row("corelay_documents", "Documents that somebody is in", G(|m| &m.documents)),
    row("corelay_joins", "Joins of topics that were answered ok", C(|m| &m.joins)),
    row("corelay_joins_refused", "Joins of topics that were answered error", V(|m| &m.joins_refused, |index| label("reason", JoinRefusal::ALL[index].label()))),
    row("corelay_token_signatures", "Signatures of tokens checked: for each token one, or more where it names no key", C(|m| &m.token_signatures)),
    row("corelay_messages_in", "Phoenix messages received", C(|m| &m.messages_in)),
    row("corelay_messages_stale", "Phoenix messages dropped because their channel had gone meanwhile", C(|m| &m.messages_stale)),
    row("corelay_messages_malformed", "Phoenix messages whose head could not be read", C(|m| &m.messages_malformed)),
    row("corelay_broadcasts_encoded", "Broadcasts of topics encoded: once per message and serializer", C(|m| &m.broadcasts_encoded)),
    row("corelay_broadcasts_out", "Broadcasts of topics queued for members", C(|m| &m.broadcasts_out)),
    row("corelay_letters_waited", "Messages and connections that waited for room in another shard's mailbox", C(|m| &m.letters_waited)),
    row("corelay_forwards_refused", "Messages between shards that were not taken because too many wait", C(|m| &m.forwards_refused)),

    row("corelay_outbox_bytes", "Bytes that wait in reliable lanes, with what each frame costs beyond its own", G(|m| &m.outbox_bytes)),
    row("corelay_memory_bytes", "User memory by what it is for, counted every 10 s", S("part", &[
        ("sessions", |m| &m.memory_sessions), ("outboxes", |m| &m.memory_outboxes), ("games", |m| &m.memory_games), ("rooms", |m| &m.memory_rooms), ("documents", |m| &m.memory_documents),
        ("presence", |m| &m.memory_presence), ("frames", |m| &m.memory_frames), ("tls", |m| &m.memory_tls), ("rings", |m| &m.memory_rings), ("mailboxes", |m| &m.memory_mailboxes)])),
    row("corelay_tick_lateness_seconds", "From the time a tick was due to the time it ran", H(|m| &m.tick_lateness)),
    row("corelay_standstills", "How often the process or its machine stood still for longer than 250 ms: that time counts for no deadline", C(|m| &m.standstills)),
    row("corelay_loop_turn_seconds", "Length of a turn of the loop, waiting excluded", H(|m| &m.loop_turn)),

    row("corelay_hand_overs_out", "Connections handed to another shard", C(|m| &m.hand_overs_out)),
    row("corelay_hand_overs_in", "Connections taken from another shard", C(|m| &m.hand_overs_in)),
    row("corelay_tls_handshakes", "Handshakes that were completed", C(|m| &m.tls_handshakes)),
    row("corelay_tls_failures", "Connections on listen_tls that ended because of what their client sent, or began with", C(|m| &m.tls_failures)),
    row("corelay_tls_handshakes_waiting", "Connections that wait for the next step of their handshake", G(|m| &m.tls_handshakes_waiting)),
    row("corelay_hand_overs_refused", "Handovers that the target could not take", C(|m| &m.hand_overs_refused)),
    row("corelay_enters", "Waits of the loops: calls of io_uring_enter, or waits for epoll", C(|m| &m.enters)),
    row("corelay_completions", "Completions of operations, or of calls where they are made at once", C(|m| &m.completions)),
    row("corelay_completions_stale", "Completions of a connection that was already gone", C(|m| &m.completions_stale)),
    row("corelay_completion_overflows", "Overflows of the completion queue: a bug, or a queue sized wrong", C(|m| &m.completion_overflows)),
    row("corelay_receive_buffers_exhausted", "Receives that ended because no buffer was free", C(|m| &m.receive_buffers_exhausted)),
    row("corelay_receives_lost", "Live connections found with no receive in flight: a bug, repaired by the sweeper", C(|m| &m.receives_lost)),
];

fn label(name: &'static str, value: &'static str) -> Labels {
    vec![(name, value.into())]
}

fn refusal_labels(index: usize) -> Labels {
    let reason = RefusalReason::ALL[index];
    vec![("status", reason.status().to_string()), ("reason", reason.label().into())]
}

fn close_labels(index: usize) -> Labels {
    let reason = CloseReason::ALL[index];
    vec![("code", reason.code().to_string()), ("reason", reason.label().into())]
}

#[rustfmt::skip]
const STORE_ROWS: &[Row<StoreMetrics>] = &[
    row("corelay_store_commits", "Batches that the store has put on disk", C(|m| &m.commits)),
    row("corelay_store_appends", "What was in them: the messages of one room each", C(|m| &m.appends)),
    row("corelay_store_reads", "Rooms and pages of history that were read", C(|m| &m.reads)),
    row("corelay_store_refused", "What the store could not do; who asked was told so", C(|m| &m.refused)),
    row("corelay_store_failing", "1 from a failure of the file to the next write that succeeds: rooms refuse what is said", G(|m| &m.failing)),
    row("corelay_store_commit_seconds", "From the begin of a commit to its end", H(|m| &m.commit_time)),
];

/// Reads the shards' metrics when `/metrics` is asked for; between two requests it costs nothing.
pub(super) struct RelayCollector {
    shards: Vec<Arc<ShardMetrics>>,
    store: Arc<StoreMetrics>,
    certificates: Certificates,
    about: About,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl RelayCollector {
    pub(super) fn new(admin: &Admin) -> Self {
        let store = admin.store.clone();
        Self {
            shards: admin.shards.clone(),
            store,
            certificates: admin.certificates.clone(),
            about: admin.about.clone(),
            clock: admin.clock.clone(),
        }
    }

    fn of_shards(&self) -> impl Iterator<Item = (Labels, &ShardMetrics)> {
        self.shards
            .iter()
            .enumerate()
            .map(|(shard, metrics)| (vec![("shard", shard.to_string())], &**metrics))
    }

    fn encode_store_busy(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) =
            ("corelay_store_busy_seconds", "For how long the store has worked on what it does now");
        let busy = self.store.busy_for((self.clock)()).as_secs_f64();
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&busy)
    }

    fn encode_expiries(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(config) = self.certificates.now() else { return Ok(()) };
        let (name, help) =
            ("corelay_certificate_expires_at_seconds", "When a certificate expires, in seconds since 1970");
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for certificate in config.certificates() {
            let labels = [("file", certificate.file.clone())];
            encoder.encode_family(&labels)?.encode_gauge(&certificate.expires_at_unix_s)?;
        }
        Ok(())
    }

    fn encode_loop_silence(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("corelay_loop_silence_seconds", "Time since the shard's loop last turned");
        let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let now = (self.clock)();
        for (shard, metrics) in self.shards.iter().enumerate() {
            let silence = now.since(Instant::from_micros(metrics.loop_turned_at_us.value()));
            let labels = [("shard", shard.to_string())];
            encoder.encode_family(&labels)?.encode_gauge(&silence.as_secs_f64())?;
        }
        Ok(())
    }

    fn encode_process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(
                "process_cpu_seconds",
                "CPU time of all threads, user and kernel",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, f64>(&process::cpu_time().as_secs_f64(), None)?;
        if let Some(bytes) = process::resident_memory_bytes() {
            encoder
                .encode_descriptor(
                    "process_resident_memory_bytes",
                    "Resident memory",
                    None,
                    MetricType::Gauge,
                )?
                .encode_gauge(&bytes)?;
        }
        let help = "When the process started, in seconds since 1970";
        encoder
            .encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?
            .encode_gauge(&self.about.started_at_unix_s)?;
        encoder
            .encode_descriptor(
                "corelay_impossible",
                "Times that a table of the relay was found broken: a bug, whose place the log names once",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<NoLabelSet, _, u64>(&impossible::times(), None)?;
        encoder
            .encode_descriptor("corelay_driver", "What the shards run on", None, MetricType::Info)?
            .encode_info(&[("driver", self.about.driver)].as_slice())?;
        let labels = [("version", self.about.version), ("kernel", self.about.kernel.as_str())];
        encoder
            .encode_descriptor("corelay_build", "What runs here", None, MetricType::Info)?
            .encode_info(&labels.as_slice())
    }
}

/// A row, with a sample of each of `sources`, which its labels tell apart.
fn encode_row<'a, M: 'static>(
    row: &Row<M>,
    sources: impl IntoIterator<Item = (Labels, &'a M)>,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let metric_type = match row.source {
        C(_) | V(..) => MetricType::Counter,
        G(_) | S(..) => MetricType::Gauge,
        H(_) => MetricType::Histogram,
    };
    let mut encoder = encoder.encode_descriptor(row.name, row.help, None, metric_type)?;
    for (labels, metrics) in sources {
        match row.source {
            C(counter) => encode_counter(&mut encoder, &labels, counter(metrics).value())?,
            G(gauge) => encode_gauge(&mut encoder, &labels, gauge(metrics).value())?,
            H(histogram) => encode_histogram(&mut encoder, &labels, histogram(metrics))?,
            S(label, states) => {
                for (state, gauge) in states {
                    let labels = [&labels[..], &[(label, (*state).into())]].concat();
                    encode_gauge(&mut encoder, &labels, gauge(metrics).value())?;
                }
            }
            V(counters, labels_of) => {
                for (index, counter) in counters(metrics).iter().enumerate() {
                    let labels = [&labels[..], &labels_of(index)].concat();
                    encode_counter(&mut encoder, &labels, counter.value())?;
                }
            }
        }
    }
    Ok(())
}

impl Collector for RelayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for row in ROWS {
            encode_row(row, self.of_shards(), &mut encoder)?;
        }
        for row in STORE_ROWS {
            encode_row(row, [(Labels::new(), &*self.store)], &mut encoder)?;
        }
        self.encode_store_busy(&mut encoder)?;
        self.encode_expiries(&mut encoder)?;
        self.encode_loop_silence(&mut encoder)?;
        self.encode_process(&mut encoder)
    }
}

impl fmt::Debug for RelayCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayCollector").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

fn encode_counter(encoder: &mut MetricEncoder<'_>, labels: LabelSlice<'_>, value: u64) -> fmt::Result {
    encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn encode_gauge(encoder: &mut MetricEncoder<'_>, labels: LabelSlice<'_>, value: u64) -> fmt::Result {
    encoder.encode_family(&labels)?.encode_gauge(&value)
}

fn encode_histogram(
    encoder: &mut MetricEncoder<'_>,
    labels: LabelSlice<'_>,
    histogram: &DurationHistogram,
) -> fmt::Result {
    let seconds = |us: u64| us as f64 / 1e6;
    let counts = histogram.counts();
    let bounds = (0..counts.len())
        .map(|index| DurationHistogram::upper_bound_us(index).map_or(f64::INFINITY, seconds));
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
        seconds(histogram.sum_us()),
        counts.iter().sum(),
        &buckets,
        None,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::memory::MemoryByPart;

    fn exposition(shards: Vec<Arc<ShardMetrics>>) -> String {
        let about =
            About { version: "1.2.3", kernel: "6.18".into(), driver: "epoll", started_at_unix_s: 12.5 };
        let clock = Arc::new(|| Instant::from_micros(3_000_000));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RelayCollector {
            shards,
            store: Arc::default(),
            certificates: Certificates::new(None),
            about,
            clock,
        }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_sample_per_shard_with_its_labels() {
        let shards: Vec<Arc<ShardMetrics>> = (0..2).map(|_| Arc::default()).collect();
        shards[0].connections_open.set(3);
        shards[1].frames_in.add(41);
        shards[1].set_memory(&MemoryByPart { games: 300, rings: 8, ..MemoryByPart::default() });
        shards[1].closes[CloseReason::Slow.index()].add(2);
        shards[1].refusals[RefusalReason::Origin.index()].increment();
        shards[1].rate_limited[RateClass::Event.index()].add(5);
        shards[1].loop_turned_at_us.set(1_000_000);
        let text = exposition(shards);
        for line in [
            "# HELP corelay_frames_in WebSocket messages received, control frames included",
            "# TYPE corelay_frames_in counter",
            "corelay_connections{shard=\"0\",state=\"open\"} 3",
            "corelay_frames_in_total{shard=\"0\"} 0",
            "corelay_memory_bytes{shard=\"1\",part=\"games\"} 300",
            "corelay_memory_bytes{shard=\"1\",part=\"rings\"} 8",
            "corelay_frames_in_total{shard=\"1\"} 41",
            "corelay_closes_total{shard=\"1\",code=\"1013\",reason=\"slow\"} 2",
            "corelay_refusals_total{shard=\"1\",status=\"403\",reason=\"origin\"} 1",
            "corelay_rate_limited_total{shard=\"1\",class=\"event\"} 5",
            "corelay_loop_silence_seconds{shard=\"1\"} 2.0",
            "process_start_time_seconds 12.5",
            "corelay_impossible_total 0",
            "corelay_driver_info{driver=\"epoll\"} 1",
            "corelay_build_info{version=\"1.2.3\",kernel=\"6.18\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_in_seconds() {
        let shard = ShardMetrics::default();
        for us in [1, 3, 4, 60_000_000] {
            shard.tick_lateness.record(Duration::from_micros(us));
        }
        let text = exposition(vec![Arc::new(shard)]);
        for line in [
            "corelay_tick_lateness_seconds_bucket{le=\"0.000001\",shard=\"0\"} 1",
            "corelay_tick_lateness_seconds_bucket{le=\"0.000004\",shard=\"0\"} 3",
            "corelay_tick_lateness_seconds_bucket{le=\"+Inf\",shard=\"0\"} 4",
            "corelay_tick_lateness_seconds_count{shard=\"0\"} 4",
            "corelay_tick_lateness_seconds_sum{shard=\"0\"} 60.000008",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }

    /// A counter that a shard keeps and nobody can see would be a counter in vain.
    #[test]
    fn every_field_of_the_metrics_is_shown() {
        for (holder, least) in [("ShardMetrics", 30), ("StoreMetrics", 6)] {
            let head = format!("pub struct {holder} {{");
            let fields =
                include_str!("../metrics.rs").split_once(&head).unwrap().1.split_once("\n}").unwrap().0;
            let names = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
            let shown = include_str!("metrics.rs").split_once("#[cfg(test)]").unwrap().0;
            let (count, missing) = names.fold((0, BTreeSet::new()), |(count, mut missing), (name, _)| {
                if !shown.contains(&format!("m.{name}")) && !shown.contains(&format!("metrics.{name}")) {
                    missing.insert(name);
                }
                (count + 1, missing)
            });
            assert!(count >= least, "found only {count} fields of {holder}");
            assert!(missing.is_empty(), "not in /metrics: {missing:?} of {holder}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }
}
