//! What systemd is told, if it has started the relay: when players may come, that it ends, and that all loops turn (`WatchdogSec=`).
//! Elsewhere nothing is told.

use std::sync::Arc;

use sd_notify::NotifyState;

use crate::admin::{Phase, PhaseCell, silent_loops};
use crate::metrics::ShardMetrics;
use crate::service::ReadClock;

pub(super) fn ready() {
    tell(NotifyState::Ready);
}

pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells that the relay is well, twice as often as is asked for, as long as `/livez` would say so: by the thread that serves that
/// page.
pub(super) async fn feed_watchdog(shards: Vec<Arc<ShardMetrics>>, phase: Arc<PhaseCell>, clock: ReadClock) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    loop {
        if phase.phase() != Phase::Ready || silent_loops(&shards, clock()).is_empty() {
            tell(NotifyState::Watchdog);
        }
        tokio::time::sleep(interval / 2).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot tell systemd: {error}");
    }
}
