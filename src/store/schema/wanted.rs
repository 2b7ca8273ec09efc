//! The part of the configuration that says what the app's tables must be like. Pure.

use chrono_tz::Tz;

use crate::config::{Config, Record, Schema, SessionKind, TokenHash};

/// What of the configuration decides what the tables must be like.
#[derive(Debug, Clone)]
pub(in crate::store) struct Wanted {
    /// Names; `session` is the table of the kind of sessions.
    pub names: Schema,
    pub kind: SessionKind,
    pub token_hash: TokenHash,
    pub record: Record,
    /// The zone in which the app writes moments without one; UTC if not configured.
    pub time_zone: Option<Tz>,
}

impl Wanted {
    pub(in crate::store) fn new(config: &Config) -> Self {
        Self {
            names: config.schema.with_sessions(config.session.kind),
            kind: config.session.kind,
            token_hash: config.session.token_hash,
            record: config.record.clone(),
            time_zone: config.database.time_zone,
        }
    }
}
