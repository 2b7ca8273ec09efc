//! The app's schema: table and column names from configuration, types from the live database.
//!
//! A database describes the configured tables in a `LiveSchema` (`postgres::introspect`, `sqlite::introspect`);
//! `resolve`, which is pure, checks it against what the sidecar does and gives an [`AppSchema`] that the
//! statements are built from. Identifiers print quoted, so that they can be used in SQL as they are.

mod check;
mod column;
mod counter_fault;
mod counters;
mod events;
mod left_out;
mod live_table;
mod lookup_fault;
mod lookups;
mod needs;
mod problem;
mod profile;
mod requirements;
mod resolve;
mod resolved;
pub(super) mod right;
mod rights;
mod sessions;

use std::collections::BTreeMap;

use crate::key_type::{KeyType, KeyTypes};

pub use column::{Column, Dialect, Kind, TableName};
pub use counter_fault::CounterFault;
pub use counters::CounterColumns;
pub use events::{EventInsert, EventTable};
pub use left_out::LeftOut;
pub(super) use live_table::{Fixed, LiveColumn, LiveTable, Reference};
pub use lookup_fault::LookupFault;
pub(super) use lookups::LiveLookup;
pub use lookups::LookupTable;
pub(super) use needs::Needs;
pub use problem::SchemaProblem;
pub(super) use problem::{NOT_PARTITIONED, SchemaProblems};
pub(super) use profile::Mark;
pub use profile::{Join, ProfileTable, ProfileValue};
pub(super) use requirements::Requirements;
pub(super) use resolve::resolve;
pub(super) use resolved::ResolvedSchema;
pub(super) use right::{Effect, OwnTables, Privilege, Right};
pub(super) use rights::{GrantedRight, Rights, TableRights};
pub(super) use sessions::{DurationColumns, PageCounter, all};
pub use sessions::{SessionTable, SessionUser};

/// The tables that are used, with the columns that are used. What nothing needs may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSchema {
    /// Browser sessions.
    pub session: SessionTable,
    /// `pages_visited` is counted, and can be.
    pub adds_pages: bool,
    /// Events; `None` where none are written and there is no such table.
    pub event: Option<EventTable>,
    /// User profiles; `None` where the app has none, or nothing needs them.
    pub profile: Option<ProfileTable>,
    /// Communities; `None` where the app has no table of them: then any text is the key of one.
    pub community: Option<CommunityTable>,
    /// Tables that lead to a community, by their names in routes.
    pub lookups: BTreeMap<String, LookupTable>,
    /// What cannot be updated, as far as it was tried.
    pub left_out: LeftOut,
    /// Batches leave behind what they add to counters, and can.
    pub adds_deltas: bool,
    /// Columns of communities for counts; `None` where none are written, or one cannot be.
    pub counters: Option<CounterColumns>,
}

impl AppSchema {
    /// The types of the keys that other modules use.
    pub(super) fn keys(&self) -> KeyTypes {
        let community = self.community.as_ref();
        KeyTypes {
            community: community.map_or(KeyType::Text(None), |community| community.id.key_type()),
            user: self.user_key().key_type(),
        }
    }

    /// The profiles, and SQL for whether the one called `profile` is marked so, where any may be.
    pub(super) fn marked(&self, mark: Mark, profile: &str) -> Option<(&ProfileTable, String)> {
        let profiles = self.profile.as_ref()?;
        Some((profiles, profiles.marked(mark, profile)?))
    }

    /// The profiles and their accounts, where sessions name the account.
    pub(super) fn accounts(&self) -> Option<(&ProfileTable, &Column)> {
        let profile = self.profile.as_ref()?;
        Some((profile, profile.account.as_ref()?))
    }

    /// The profiles and the column by which JWTs name them, where it is another than that of sessions.
    pub(super) fn jwt_accounts(&self) -> Option<(&ProfileTable, &Column)> {
        let profile = self.profile.as_ref()?;
        Some((profile, profile.jwt_account.as_ref()?))
    }

    /// The column that sessions refer to: the profile's, or else their own.
    pub(super) fn referred(&self) -> &Column {
        let own = self.session.user.column();
        self.profile.as_ref().map_or(own, ProfileTable::referred)
    }

    /// The column that has the key of a user: of the profile, or else of the session.
    pub(super) fn user_key(&self) -> &Column {
        self.profile
            .as_ref()
            .map_or(self.session.user.column(), |profile| &profile.id)
    }
}

/// Communities.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::CommunityColumns")]
pub struct CommunityTable {
    pub table: TableName,
    pub id: Column,
    /// `None` where communities have no slugs.
    pub slug: Option<Column>,
}

/// The configured tables as the catalogue has them. A table is `None` if it does not exist, or none is configured.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct LiveSchema {
    pub dialect: Dialect,
    /// The current role, for the GRANT in a problem's sentence.
    pub user: String,
    /// Name of the database; empty on SQLite.
    pub database: String,
    pub session: Option<LiveTable>,
    /// The server takes no writes: a replica.
    pub read_only: bool,
    /// The server does not know the configured time zone.
    pub lacks_zone: bool,
    /// Whether the trigger that notifies of ended sessions is on the session table; not looked for where none is wanted.
    pub session_trigger: bool,
    /// What identifies the site: how it was told, and what.
    pub site: Option<(&'static str, String)>,
    pub event: Option<LiveTable>,
    pub profile: Option<LiveTable>,
    /// The tables that columns of the profile are in, by their configured names, where they exist.
    pub joined: BTreeMap<String, LiveTable>,
    pub community: Option<LiveTable>,
    /// The partition of the next month that our own event table lacks.
    pub lacks_partition: Option<String>,
    /// Our own event table is partitioned.
    pub has_own_partitions: bool,
    /// As configured in `schema.lookup`.
    pub lookups: BTreeMap<String, LiveLookup>,
    /// The tables of the ledger, where something is written.
    pub ledger_tables: OwnTables,
    /// The sidecar's own tables of counters, where these are wanted.
    pub counter_tables: OwnTables,
    /// Columns of `schema.event.constants` whose constant is not of the column's type.
    pub bad_constants: Vec<String>,
}
