//! The part of the configuration that says what the app's tables must be like. Pure.

use chrono_tz::Tz;

use super::Needs;
use crate::config::{
    Config, Counters, EventTable as EventNames, Events, OwnPartitions, Revocation, Schema, SessionKind,
    TokenHash,
};

/// What of the configuration decides what the tables must be like.
#[derive(Debug, Clone)]
pub(in crate::store) struct Requirements {
    /// Names; `session` is the table of the kind of sessions, and `event` our own where that is used.
    pub names: Schema,
    pub kind: SessionKind,
    pub token_hash: TokenHash,
    pub needs: Needs,
    /// Something is written, so that the ledger is needed.
    pub writes: bool,
    /// Our own event table is to have a partition for each month.
    pub by_month: bool,
    /// How ended sessions become known: a trigger is needed where the database notifies of them.
    pub revocation: Revocation,
    /// The indexes of visits are wanted.
    pub visits_index: bool,
    /// Columns for counts, where they are wanted.
    pub counters: Option<Counters>,
    /// The zone in which the app writes moments without one; UTC if not configured.
    pub time_zone: Option<Tz>,
}

impl Requirements {
    /// `own_events`: the name of our own event table.
    pub(in crate::store) fn new(config: &Config, own_events: &str) -> Self {
        let mut names = config.schema.with_sessions(config.session.kind);
        if config.record.events == Events::Own {
            names.event = EventNames {
                table: own_events.to_owned(),
                ..EventNames::default()
            };
        }
        Self {
            names,
            kind: config.session.kind,
            token_hash: config.session.token_hash,
            needs: Needs::of(config),
            writes: config.record.writes(),
            by_month: config.record.events == Events::Own
                && config.record.own_partitions == OwnPartitions::Month,
            revocation: config.session.revocation,
            visits_index: config.record.visits_index,
            counters: config.counters.enabled.then(|| config.counters.clone()),
            time_zone: config.database.time_zone,
        }
    }
}
