//! Configuration: load → parse (unknown keys refused) → validate. Errors name file, line, key and remedy.
//!
//! One file per section under `config/`: its keys, their defaults, and its rules; `validate` has the rules between sections.
//! The request path never reads configuration: `app` passes each part its own.

mod api;
mod api_keys;
mod certificate_dates;
mod counters;
mod database;
mod environment;
mod error;
mod files;
mod jwt;
mod key_pair;
mod keyed;
mod limits;
mod listen;
mod live;
mod load;
mod log;
mod misplaced;
mod networks;
mod privacy;
mod record;
mod redis;
mod routes;
mod rules;
mod schema;
mod secret;
mod session;
mod source;
mod spool;
#[cfg(test)]
mod tests;
mod upstream;
mod validate;
mod widget;

use serde::Deserialize;

pub use api::{Access, Api, CommunityKey, PageViews, Pages};
pub use api_keys::{
    ApiKey, KEY_PREFIX, KeyHash, KeyScope, PlacedKeys, check_communities, is_api_key_name, read_api_keys,
};
pub use certificate_dates::Validity;
pub use counters::{Counters, TimeOfDay};
pub use database::Database;
pub(crate) use database::for_driver;
pub use environment::{misspelt, variables};
pub use error::{ConfigError, SetBy};
pub use jwt::{Algorithm, Jwt, JwtKey, JwtKeys, KeyFingerprint};
pub use key_pair::read_key_pair;
pub use limits::Limits;
pub use listen::{Listen, TlsListener};
pub use live::Live;
pub use log::{Format, Log};
pub use misplaced::{IN_ROUTE_FILE, Misplaced};
pub use privacy::{IpPrecision, Privacy, RecentPrecision, ReferrerPrecision};
pub use record::event_type_fault;
pub use record::{
    BotPatterns, CommunityIdAs, EventTypes, Events, HiddenMembers, OwnPartitions, Patterns, Record,
};
pub use redis::Redis;
pub use routes::Routes;
pub use schema::{
    CommunityColumns, CommunityTable, DjangoSessionColumns, DjangoSessionTable, EventColumns, EventTable,
    JoinedColumn, Lookup, ProfileColumn, ProfileColumns, ProfileTable, Schema, SessionColumns, SessionFacts,
    SessionTable,
};
pub use secret::Secret;
pub use session::{Revocation, Session, SessionKind, TokenHash};
pub use spool::Spool;
pub use upstream::Upstream;
pub use widget::Widget;

/// The whole configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the sidecar listens.
    pub listen: Listen,
    /// The app behind it.
    pub upstream: Upstream,
    /// The app's database.
    pub database: Database,
    /// Shared presence.
    pub redis: Redis,
    /// The app's session cookie.
    pub session: Session,
    /// Names of the app's tables and columns.
    pub schema: Schema,
    /// Where the route files are.
    pub routes: Routes,
    /// What is recorded.
    pub record: Record,
    /// The folder in which page views wait for the database.
    pub spool: Spool,
    /// Counts in the app's community table.
    pub counters: Counters,
    /// The visitors API.
    pub api: Api,
    /// Connections over which counts are pushed.
    pub live: Live,
    /// Counts in the app's own pages.
    pub widget: Widget,
    /// Limits of clients.
    pub limits: Limits,
    /// What may be stored.
    pub privacy: Privacy,
    /// Format and level of the log.
    pub log: Log,
}
