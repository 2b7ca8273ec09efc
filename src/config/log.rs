//! `[log]`: level and format of the log on standard error.

use serde::Deserialize;

use super::rules::{Checked, Section};

/// Level and format of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A `tracing` filter: `info`, or `info,headcount::writer=debug`.
    pub filter: String,
    /// One line of text or one JSON object per event.
    pub format: Format,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info,pingora_core=warn,pingora_proxy=off".into(),
            format: Format::Text,
        }
    }
}

impl Section for Log {
    fn check(&self) -> Checked {
        match tracing_subscriber::EnvFilter::try_new(&self.filter) {
            Ok(_) => Ok(()),
            Err(error) => Err((
                "log.filter".into(),
                format!(
                    "\"{}\" is not a filter ({error}); write for example \"info\"",
                    self.filter
                ),
            )),
        }
    }
}
