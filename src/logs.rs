//! Log lines: for people on a terminal, one JSON object per line otherwise; always on standard error.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::Level;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::config::LogFormat;

/// The variable that says what is logged.
const VARIABLE: &str = "RUST_LOG";

/// From here on `tracing` writes the log, and a panic is a log line instead of a dump. `RUST_LOG` chooses what is logged (default
/// `info`); the log names the parts of it that cannot be read. A thread of its own writes the lines, so a slow reader of standard
/// error costs lines, and no time of a shard. When the guard is dropped, the lines that wait are written.
pub fn start(format: LogFormat) -> WorkerGuard {
    let wanted = std::env::var_os(VARIABLE).unwrap_or_default();
    let (directives, unreadable) = readable(&wanted.to_string_lossy());
    // `parse_lossy` and its like complain to a standard error that may not be writable, which would end the process.
    let filter = EnvFilter::builder().with_default_directive(Level::INFO.into());
    let filter = filter.parse(directives).unwrap_or_else(|_| EnvFilter::new("info"));
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
    if !unreadable.is_empty() {
        tracing::warn!(
            "{VARIABLE}: cannot read {}; write for example info, debug, or corelay=debug",
            unreadable.join(" and ")
        );
    }
    guard
}

/// The directives of `RUST_LOG` that can be read, and those that cannot, in quotes.
fn readable(text: &str) -> (String, Vec<String>) {
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let (readable, unreadable): (Vec<&str>, Vec<&str>) =
        directives.partition(|directive| directive.parse::<Directive>().is_ok());
    (readable.join(","), unreadable.iter().map(|directive| format!("{directive:?}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_left_out_and_named() {
        assert_eq!(readable(""), (String::new(), Vec::new()));
        assert_eq!(readable("debug"), ("debug".into(), Vec::new()));
        let (directives, unreadable) = readable("warn, corelay=loud,corelay::server=debug,[,");
        assert_eq!(directives, "warn,corelay::server=debug");
        assert_eq!(unreadable, ["\"corelay=loud\"", "\"[\""]);
        assert!(EnvFilter::builder().parse(directives).is_ok());
    }
}
