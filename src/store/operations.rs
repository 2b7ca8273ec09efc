//! The operations on the app's database, for either kind: parameters and results. The statements are in `postgres`
//! and `sqlite`; pooling and timeouts are in `connections`.

mod apply;
mod communities;
mod counter_dialect;
mod counters;
mod events;
mod ledger;
mod people;
mod read_connection;
mod rules;
mod sessions;
mod stats;

use std::time::Duration;

use sqlx::{Connection, Database, Transaction};

use super::schema::{AppSchema, LiveSchema, Requirements};
use crate::config;

pub(super) use apply::{AddPages, Apply, InsertEvents, RaiseLastActive, is_tried};
pub(super) use communities::{CommunityCriterion, FindCommunity, FindSlug, ReadKeys};
pub(super) use counter_dialect::{CounterSql, FromAnyRow, Value, runs_statements};
pub(super) use counters::{
    AddDeltas, Compare, ComparePresent, Context, FOLD_COMMUNITIES, FOLD_ROWS, FORGET_ROWS, Fold,
    ForgetAbsent, ForgetOmission, Forgotten, HasViews, IsLeaseHeld, LastPass, NoColumns, NoteChecked,
    NoteOmission, NotePass, NotePending, Pending, Publish, Recount, ReleaseLease, ShownPresent, TakeLease,
    TakeOmissions, TakenOmissions, Unchecked, Uncounted, all_time, definition, deltas, first_possible,
    greatest, greatest_totals, no_columns, no_events, oldest, spellings,
};
pub(super) use events::{FaultyIndexes, FaultyTypes, LookAtEvents, PastVisitors};
pub(super) use ledger::{ForgetOld, MakePartitions, MissingParts, NoteParts};
pub(super) use people::{MarkedOf, Visitors};
pub(super) use read_connection::ReadConnection;
pub(super) use rules::{FIRST_POSSIBLE, Rules};
pub(super) use sessions::{
    AccountProfile, FindProfiles, FindSessions, FindUsers, LookAtSessions, ReadSessions, SampleSessions,
    SessionKey,
};
pub(super) use stats::{NO_SESSIONS, STATS_OF_VIEWS_AND_SESSIONS, StatsOf, user_of_session};

/// One operation, on one connection.
pub(super) trait StoreOperation: Sync {
    /// Its result.
    type Output: Send;

    /// Whether it writes. A write is not repeated when its connection breaks (its COMMIT may have arrived,
    /// W6), and it waits while the schema has a problem that would refuse every row.
    const WRITES: bool = false;

    /// What it is for, as an operator knows it.
    const WHAT: &'static str = "a lookup";
}

/// A database that has the statements of an operation.
pub(super) trait Runs<O: StoreOperation>: Database {
    /// Runs it.
    fn run(
        operation: &O,
        app: &AppSchema,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<O::Output, sqlx::Error>> + Send;
}

/// A database that can hold the app's tables.
pub(super) trait Backend:
    for<'a> Runs<ReadSessions<'a>>
    + for<'a> Runs<FindProfiles<'a>>
    + Runs<SampleSessions>
    + for<'a> Runs<FindCommunity<'a>>
    + for<'a> Runs<FindSlug<'a>>
    + for<'a> Runs<NoteParts<'a>>
    + for<'a> Runs<MissingParts<'a>>
    + for<'a> Runs<ForgetOld<'a>>
    + for<'a> Runs<InsertEvents<'a>>
    + for<'a> Runs<AddPages<'a>>
    + for<'a> Runs<RaiseLastActive<'a>>
    + for<'a> Runs<MakePartitions<'a>>
    + for<'a> Runs<MarkedOf<'a>>
    + for<'a> Runs<Visitors<'a>>
    + for<'a> Runs<StatsOf<'a>>
    + for<'a> Runs<AddDeltas<'a>>
    + for<'a> Runs<TakeLease<'a>>
    + for<'a> Runs<Fold<'a>>
    + for<'a> Runs<Recount<'a>>
    + for<'a> Runs<Publish<'a>>
    + CounterSql
    + for<'a> Runs<PastVisitors<'a>>
    + for<'a> Runs<FaultyTypes<'a>>
    + for<'a> Runs<LookAtEvents<'a>>
    + Runs<FaultyIndexes>
{
    /// The event table that `headcount migrate` makes.
    const OWN_EVENTS: &'static str;

    /// The right to connect, and the role, as in a GRANT; `None` where there are no roles.
    fn right_to_connect(options: &<Self::Connection as Connection>::Options) -> Option<(String, String)>;

    /// Reads the configured tables from the catalogue, and whether the server knows the configured zone.
    fn introspect(
        connection: &mut Self::Connection,
        wanted: &Requirements,
    ) -> impl Future<Output = Result<LiveSchema, sqlx::Error>> + Send;

    /// The version of the ledger's tables, whatever the state of the app's.
    fn ledger_version(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<i64>, sqlx::Error>> + Send;

    /// Begins what reads run in: statements that belong together, each limited by `statement_timeout`.
    fn begin_reading(
        connection: &mut Self::Connection,
        statement_timeout: Duration,
    ) -> impl Future<Output = Result<ReadConnection<'_, Self>, sqlx::Error>> + Send;

    /// Begins a transaction that writes, with the limits of `database`.
    fn begin<'c>(
        connection: &'c mut Self::Connection,
        database: &config::Database,
    ) -> impl Future<Output = Result<Transaction<'c, Self>, sqlx::Error>> + Send;
}
