//! Log: one subscriber that writes to standard error, as configured. It also receives Pingora's log, which uses the
//! `log` crate.
//!
//! Logging never waits for the reader of standard error, and never fails with it: lines go through a bounded queue that
//! a separate thread writes out, lines that cannot be written are lost and counted, and panics are logged the same way
//! instead of being printed. `visible` decides what may be logged at all, whatever the filter.

mod fields;
mod panics;
mod queue;
mod visible;

use std::error::Error;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{Format, Log};
use crate::metrics::{Counter, Registry, metrics};
use fields::ErrorLast;
use queue::{LineQueue, StandardError};
use visible::Visible;

/// Longest time for the last lines to be written at shutdown.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

metrics! {
    /// Counters of the log, for the whole process: there is one standard error, and one panic hook.
    pub struct LogCounters {
        /// Log lines that could not be written: the disk is full, or the reader of standard error has gone or does not
        /// keep up
        lines_lost: Counter = "log_lines_lost_total",
        /// Panics, each logged with its place: a bug in the sidecar that failed a request or restarted a task
        panics: Counter = "panics_total",
    }
}

static COUNTS: LazyLock<LogCounters> = LazyLock::new(LogCounters::default);

/// The queue of the one subscriber.
static LINES: OnceLock<&'static LineQueue> = OnceLock::new();

/// Adds the counters to a registry.
pub fn add_counts(registry: &Registry) {
    for counter in [&COUNTS.lines_lost, &COUNTS.panics] {
        registry.add(Ok(counter.clone()));
    }
}

/// Installs the subscriber and the panic hook; a second call in one process changes nothing. `coloured` is for a
/// terminal.
///
/// # Errors
/// No thread can be started.
pub fn init(log: &Log, coloured: bool) -> io::Result<()> {
    if LINES.get().is_some() {
        return Ok(());
    }
    let lines = LineQueue::start(StandardError, &COUNTS.lines_lost)?;
    if LINES.set(lines).is_err() {
        return Ok(());
    }
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = registry().with(filter).with(Visible);
    let layer = fmt::layer()
        .with_ansi(coloured)
        .with_writer(Lines(lines))
        // They would be printed, and a failed print is a panic.
        .log_internal_errors(false);
    let _ = match log.format {
        Format::Text => subscriber.with(layer.fmt_fields(ErrorLast)).try_init(),
        Format::Json => subscriber.with(layer.json()).try_init(),
    };
    panics::log_them();
    Ok(())
}

/// Waits until the log is written out, for a second at most: its reader may have stopped.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_LIMIT);
    }
}

/// Moves the log elsewhere. Standard error is replaced, so that its reader sees its end; lines logged before this are
/// still written there, unless they are not read within a second.
///
/// # Errors
/// The system's error; the log stays where it is.
pub fn move_to(log: impl AsFd) -> io::Result<()> {
    flush();
    Ok(rustix::stdio::dup2_stderr(log)?)
}

/// Writes a line to standard error as the process' last output. A failure to write it is ignored.
pub fn write_last_line(line: &str) {
    match LINES.get() {
        Some(lines) => {
            lines.push(format!("{line}\n").as_bytes());
            lines.flush(FLUSH_LIMIT);
        }
        None => {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Makes the queue the subscriber's writer.
struct Lines(&'static LineQueue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a LineQueue;

    fn make_writer(&'a self) -> Self::Writer {
        self.0
    }
}

/// An error with its causes in one line. A cause that the error's own text ends with is not repeated.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("refused")
            .context("connecting: refused")
            .context("the database");
        assert_eq!(chain(error.as_ref()), "the database: connecting: refused");
    }
}
