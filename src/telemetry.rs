//! The log: one subscriber on standard error, as configured. Pingora logs through the `log` crate, which
//! `tracing-subscriber` takes in.
//!
//! Whoever logs never waits for whoever reads, and never fails with it: lines go through a bounded queue that a
//! thread of its own writes out, what cannot be written is lost and counted, and panics are logged the same way
//! instead of being printed. What may be logged at all is `visible`'s to say, whatever the filter.

mod panics;
mod queue;
mod visible;

use std::error::Error;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use prometheus::core::{AtomicU64, GenericCounter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::config::{Format, Log};
use queue::{Queue, StandardError};
use visible::Visible;

/// Longest time that the end of the process waits for its last lines to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// What becomes of the log, over the whole process: there is one standard error, and one panic hook.
pub struct Counts {
    /// Lines that could not be written, or had no room to wait.
    pub lines_lost: GenericCounter<AtomicU64>,
    /// Panics, on any thread.
    pub panics: GenericCounter<AtomicU64>,
}

static COUNTS: LazyLock<Counts> = LazyLock::new(|| {
    let counter = |name, help| GenericCounter::new(name, help).expect("a valid metric");
    Counts {
        lines_lost: counter(
            "headcount_log_lines_lost_total",
            "Lines of the log that could not be written: the disk is full, or whoever reads standard error has gone or \
             does not keep up",
        ),
        panics: counter(
            "headcount_panics_total",
            "Panics, each logged with its place: a mistake in the sidecar that cost a request or restarted a task",
        ),
    }
});

/// Where the lines of the one subscriber wait.
static LINES: OnceLock<&'static Queue> = OnceLock::new();

/// For the metrics.
pub fn counts() -> &'static Counts {
    &COUNTS
}

/// Installs the subscriber and the panic hook; a second call in one process changes nothing. `coloured` is for lines
/// that a terminal shows.
///
/// # Errors
/// No thread can be started.
pub fn init(log: &Log, coloured: bool) -> io::Result<()> {
    if LINES.get().is_some() {
        return Ok(());
    }
    let lines = Queue::start(StandardError, &COUNTS.lines_lost)?;
    if LINES.set(lines).is_err() {
        return Ok(());
    }
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = registry().with(filter).with(Visible);
    let layer = fmt::layer()
        .with_ansi(coloured)
        .with_writer(Lines(lines))
        // It would be printed, and a failed print is a panic.
        .log_internal_errors(false);
    let _ = match log.format {
        Format::Text => subscriber.with(layer).try_init(),
        Format::Json => subscriber.with(layer.json()).try_init(),
    };
    panics::log_them();
    Ok(())
}

/// Waits until the log is written out, for a second at most: whoever reads it may have stopped.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FAREWELL);
    }
}

/// Goes on with the log elsewhere. Standard error is replaced, so that whoever waits for its end gets it; lines logged
/// before this are still written there, unless nobody reads them within a second.
///
/// # Errors
/// The system's; the log stays where it is.
pub fn move_to(log: impl AsFd) -> io::Result<()> {
    flush();
    Ok(rustix::stdio::dup2_stderr(log)?)
}

/// Writes a line to standard error as the last thing that the process says. A failure of that is nobody's to hear.
pub fn last_words(line: &str) {
    match LINES.get() {
        Some(lines) => {
            lines.push(format!("{line}\n").as_bytes());
            lines.flush(FAREWELL);
        }
        None => {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Gives the subscriber somewhere to write each line to.
struct Lines(&'static Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Queue;

    fn make_writer(&'a self) -> Self::Writer {
        self.0
    }
}

/// An error with its causes in one line. Many errors tell their cause themselves; it is not told twice.
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
