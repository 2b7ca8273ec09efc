//! Panics, as lines of the log: printed, as they are by default, they would wait for whoever reads standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::thread;

use super::COUNTS;

/// From now on panics are logged and counted. What catches them does what is to be done.
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
