//! Panics as lines of the log: by default they are printed, which would wait for the reader of standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::thread;

use super::COUNTS;

/// Logs and counts panics from now on. Handling them is left to the code that catches them.
pub(super) fn log_them() {
    set_hook(Box::new(log));
}

fn log(info: &PanicHookInfo<'_>) {
    COUNTS.panics.inc();
    let thread = thread::current();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let message = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("no message");
    // With RUST_BACKTRACE=1, as usual.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread = thread.name(), place, backtrace, "panic: {message}");
}
