//! The log: one subscriber on standard error, as configured. Pingora logs through the `log` crate, which
//! `tracing-subscriber` takes in.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Format, Log};

/// Installs the subscriber; a second call in one process changes nothing.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _ = match log.format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
}
