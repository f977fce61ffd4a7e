//! Log lines: for people on a terminal, one JSON object per line otherwise; always on standard error.

use std::io::{self, IsTerminal};
use std::panic;

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// From here on `tracing` writes, and a panic is a log line instead of a dump. `RUST_LOG` chooses what is logged (default
/// `info`). A thread of its own writes the lines: whoever reads them slowly costs lines, not time of a shard. They are written to
/// the end when the guard is dropped.
pub fn start(format: LogFormat) -> WorkerGuard {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let (writer, guard) = NonBlocking::new(io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    let pretty = match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    if pretty {
        lines.with_ansi(io::stderr().is_terminal()).init();
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("?");
        tracing::error!(thread, place, "panic: {}", panic.payload_as_str().unwrap_or("?"));
    }));
    guard
}
