//! The operations on the app's database, for either kind: parameters and results. The statements are in `postgres`
//! and `sqlite`; pooling and timeouts are in `connections`.

mod counters;
mod events;
mod sessions;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Database, Transaction};

use super::error::{in_words, is_impossible, is_untranslatable, lacks_counters};
use super::ledger::LedgerProblem;
use super::rows::{EventRow, EventRows};
use super::schema::{
    AppSchema, Column, CommunityTable, EventInsert, EventTable, LiveSchema, Mark, PageCounter, ProfileTable,
    Requirements, TableName,
};
use super::{Applied, Stats, VisitorRow};
use crate::batch::{Batch, BatchKey};
use crate::browser_session::Visibility;
use crate::config::{self, CommunityIdAs, Config, Events, HiddenMembers, OwnPartitions, PageViews};
use crate::from_row::from_row;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::key_type::KeyTypes;
use crate::routes::CountedTypes;

pub(super) use counters::{
    AddDeltas, Compare, Context, FOLD_COMMUNITIES, FOLD_ROWS, FORGET_ROWS, Fold, ForgetAbsent, Forgotten,
    LastPass, NoteChecked, NotePass, Pending, Publish, Recount, ReleaseLease, ShownPresent, TakeLease,
    Unchecked, Uncounted, all_time, definition, deltas, first_possible, greatest, greatest_totals, no_events,
    spellings,
};
pub(super) use events::{EVENT_INDEXES, FaultyTypes, LookAtEvents, MissingIndexes, PastVisitors};
pub(super) use sessions::{
    FindProfiles, FindSessions, FindUsers, LookAtSessions, ReadSessions, SampleSessions, SessionKey,
};

/// One operation, on one connection.
pub(super) trait StoreOperation: Sync {
    /// Its result.
    type Output: Send;

    /// Whether it writes. A write is not repeated when its connection breaks (its COMMIT may have arrived,
    /// W6), and it waits while the schema has a problem that would refuse every row.
    const WRITES: bool = false;
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
    + Runs<ReleaseLease>
    + for<'a> Runs<Fold<'a>>
    + for<'a> Runs<Uncounted<'a>>
    + for<'a> Runs<Recount<'a>>
    + for<'a> Runs<Compare<'a>>
    + for<'a> Runs<NoteChecked<'a>>
    + Runs<ShownPresent>
    + Runs<Pending>
    + for<'a> Runs<Publish<'a>>
    + for<'a> Runs<Unchecked<'a>>
    + for<'a> Runs<ForgetAbsent<'a>>
    + for<'a> Runs<LastPass<'a>>
    + Runs<NotePass>
    + for<'a> Runs<PastVisitors<'a>>
    + for<'a> Runs<FaultyTypes<'a>>
    + for<'a> Runs<LookAtEvents<'a>>
    + Runs<MissingIndexes>
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

    /// Checks the ledger, whatever the state of the app's tables.
    fn ledger(
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<LedgerProblem>, sqlx::Error>> + Send;

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

/// A connection to read from.
pub(super) enum ReadConnection<'c, B: Database> {
    /// Without a transaction.
    Connection(&'c mut B::Connection),
    /// In a transaction, which ends when this is dropped: the driver rolls it back with the next message that it
    /// sends.
    Transaction(Transaction<'c, B>),
}

impl<B: Database> Deref for ReadConnection<'_, B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl<B: Database> DerefMut for ReadConnection<'_, B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        match self {
            Self::Connection(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

/// Notes the parts of a batch as applied; returns those that were not noted before. The first step of `Apply`: a
/// part that is noted already must not be written again.
pub(super) struct NoteParts<'a> {
    pub batch: &'a Batch,
}

impl StoreOperation for NoteParts<'_> {
    type Output = HashSet<BatchKey>;
    const WRITES: bool = true;
}

/// The parts that are not noted.
pub(super) struct MissingParts<'a> {
    pub parts: &'a [BatchKey],
}

impl StoreOperation for MissingParts<'_> {
    type Output = HashSet<BatchKey>;
}

/// Deletes parts that are older than [`RETENTION`](super::ledger::RETENTION), a bounded number of them; returns how many.
///
/// They must be that old by both clocks, the database's and `now`: a server whose clock was put forward, or a new
/// primary whose clock is wrong, would delete parts that spools still keep, and those would be written twice.
pub(super) struct ForgetOld<'a> {
    pub database: &'a config::Database,
    pub now: DateTime<Utc>,
}

impl StoreOperation for ForgetOld<'_> {
    type Output = u64;
    const WRITES: bool = true;
}

/// Makes the partitions of our own event table that will soon be needed, those of late rows in the default partition, and
/// those of `rows`, where the role may; returns how many.
pub(super) struct MakePartitions<'a> {
    pub database: &'a config::Database,
    pub now: DateTime<Utc>,
    /// Times of rows that are to be written.
    pub rows: &'a [DateTime<Utc>],
}

impl StoreOperation for MakePartitions<'_> {
    type Output = usize;
    const WRITES: bool = true;
}

/// The types of the app's keys, which are part of the schema that every operation reads.
pub(super) struct ReadKeys;

impl StoreOperation for ReadKeys {
    type Output = KeyTypes;
}

impl<B: Backend> Runs<ReadKeys> for B {
    async fn run(_: &ReadKeys, app: &AppSchema, _: &mut B::Connection) -> Result<KeyTypes, sqlx::Error> {
        Ok(app.keys())
    }
}

/// A community.
pub(super) enum FindCommunity<'a> {
    /// The one with a slug.
    BySlug(&'a str),
    /// The one with a key; the answer is spelled as its row has it.
    ByKey(&'a CommunityId),
    /// That of a row of another table: the name of the lookup, and the row's key.
    Through(&'a str, &'a str),
}

/// Where a community is looked for.
pub(super) struct CommunityCriterion<'a> {
    pub table: &'a TableName,
    /// The column that is the community's key.
    pub id: &'a Column,
    /// The column to look in, and the value to look for.
    pub column: &'a Column,
    pub value: Cow<'a, str>,
}

impl<'a> FindCommunity<'a> {
    /// None for text that cannot be a key.
    pub(super) fn criterion<'t: 'a>(&self, app: &'t AppSchema) -> Option<CommunityCriterion<'a>> {
        let of = |communities: &'t CommunityTable, column, value| CommunityCriterion {
            table: &communities.table,
            id: &communities.id,
            column,
            value: Cow::Borrowed(value),
        };
        let communities = app.community.as_ref();
        match *self {
            Self::BySlug(slug) => communities.and_then(|table| Some(of(table, table.slug.as_ref()?, slug))),
            Self::ByKey(key) => {
                let table = communities.filter(|table| table.id.is_key(key.as_str()))?;
                Some(of(table, &table.id, key.as_str()))
            }
            Self::Through(lookup, key) => {
                let lookup = app.lookups.get(lookup)?;
                Some(CommunityCriterion {
                    table: &lookup.table,
                    id: &lookup.community,
                    column: &lookup.key,
                    value: lookup.key.key_type().canonical(key)?,
                })
            }
        }
    }
}

impl FindCommunity<'_> {
    /// The answer where the app has no table of communities: any key is that of one, and no slug is.
    pub(super) fn without_table(&self) -> Option<CommunityId> {
        match self {
            Self::ByKey(key) => Some((*key).clone()),
            Self::BySlug(_) | Self::Through(..) => None,
        }
    }
}

/// The slug of a community.
pub(super) struct FindSlug<'a>(pub &'a CommunityId);

impl StoreOperation for FindSlug<'_> {
    type Output = Option<String>;
}

impl StoreOperation for FindCommunity<'_> {
    type Output = Option<CommunityId>;
}

/// What is written and counted, from the configuration.
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that do not depend on each other"
)]
pub(super) struct Rules {
    pub events: bool,
    /// The event table is our own.
    pub own_events: bool,
    /// What is added to counters is noted.
    pub counts: bool,
    /// Our own event table has partitions.
    pub partitions: bool,
    /// What a member whom the app hides is; `None` where it hides nobody.
    pub hidden: Option<Visibility>,
    /// Accounts may be disabled.
    pub disabled: bool,
    pub community_id_as: CommunityIdAs,
    pub page_views: PageViews,
    /// By how much a view must be later than `last_active` to raise it.
    pub last_active_interval: Duration,
    /// The event types that count as page views.
    pub counted: CountedTypes,
    pub database: config::Database,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            events: config.record.events != Events::Off,
            own_events: config.record.events == Events::Own,
            counts: config.counters.enabled && config.counters.of_events(),
            partitions: config.record.events == Events::Own
                && config.record.own_partitions == OwnPartitions::Month,
            hidden: config
                .schema
                .hides_members()
                .then_some(match config.record.hidden {
                    HiddenMembers::Count => Visibility::Hidden,
                    HiddenMembers::Ignore => Visibility::Ignored,
                }),
            disabled: config.schema.disables_accounts(),
            community_id_as: config.record.community_id_as,
            page_views: config.api.page_views,
            last_active_interval: config.record.last_active_interval,
            counted: CountedTypes::without_routes(&config.record),
            database: config.database.clone(),
        }
    }
}

/// Writes a batch, in one transaction.
///
/// Two sidecars, and a sidecar and the app, must never deadlock (W7): tables in fixed order (ledger, events,
/// what is added to counters, sessions, profiles), and the rows of each in the order of their keys.
pub(super) struct Apply<'a> {
    pub batch: &'a Batch,
    pub rules: &'a Rules,
    /// Set when the ledger has noted the parts: nothing of them is in the tables, and no earlier try is still
    /// under way.
    pub noted: &'a AtomicBool,
    /// Set before a COMMIT is sent: before that, nothing of this try is in the database.
    pub committing: &'a AtomicBool,
}

impl StoreOperation for Apply<'_> {
    type Output = Applied;
    const WRITES: bool = true;
}

impl<B: Backend> Runs<Apply<'_>> for B {
    async fn run(
        operation: &Apply<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Applied, sqlx::Error> {
        let (mut form, mut is_ascii): (fn(EventRow) -> EventRow, bool) = (|row| row, false);
        // Each round leaves out one more thing, so this ends.
        loop {
            match operation.attempt::<B>(app, connection, form).await {
                // A batch is tried in smaller parts first, so that only the row at fault loses characters.
                Err((_, error))
                    if is_untranslatable(&error) && operation.batch.views().count() == 1 && !is_ascii =>
                {
                    (form, is_ascii) = (EventRow::in_ascii, true);
                }
                // The events must not wait for what will never be.
                Err((Some(column), error))
                    if (is_impossible(&error) || (column == COUNTERS && lacks_counters(&error)))
                        && !app.left_out.contains(column) =>
                {
                    app.left_out.insert(column, in_words(&error));
                }
                Err((_, error)) => return Err(error),
                Ok(applied) => {
                    return Ok(Applied {
                        left_out: app.left_out.sentences(),
                        ..applied
                    });
                }
            }
        }
    }
}

impl Apply<'_> {
    /// One transaction. `form` changes the events before they are written; updates that are left out are not tried. An error
    /// comes with the update that failed, if it was one.
    async fn attempt<B: Backend>(
        &self,
        app: &AppSchema,
        connection: &mut B::Connection,
        form: fn(EventRow) -> EventRow,
    ) -> Result<Applied, (Option<&'static str>, sqlx::Error)> {
        let other = |error| (None, error);
        let updating = |column: &'static str| move |error| (Some(column), error);
        let Apply {
            batch,
            rules,
            noted,
            committing,
        } = self;
        let mut transaction = B::begin(connection, &rules.database).await.map_err(other)?;
        noted.store(false, Ordering::Relaxed);
        let new = B::run(&NoteParts { batch }, app, &mut transaction)
            .await
            .map_err(other)?;
        noted.store(true, Ordering::Relaxed);
        let known_parts = batch.parts.len() - new.len();
        let batch: Cow<'_, Batch> = if known_parts == 0 {
            Cow::Borrowed(*batch)
        } else {
            Cow::Owned(batch.only(&new))
        };
        let views = batch.views().count();
        let applied = Applied {
            views,
            known_parts,
            left_out: Vec::new(),
        };
        if views == 0 {
            committing.store(true, Ordering::Relaxed);
            transaction.commit().await.map_err(other)?;
            return Ok(applied);
        }
        if let Some(event) = &app.event
            && let Some(columns) = &event.insert
        {
            let rows = EventRows {
                batch: &batch,
                columns,
                key: app.keys().community,
                community_id_as: rules.community_id_as,
                form,
            };
            let insert = InsertEvents { event, columns, rows };
            B::run(&insert, app, &mut transaction).await.map_err(other)?;
        }
        if rules.counts && app.event.is_some() && !app.left_out.contains(COUNTERS) {
            let types = &rules.counted.get();
            let added = AddDeltas { batch: &batch, types };
            B::run(&added, app, &mut transaction)
                .await
                .map_err(updating(COUNTERS))?;
        }
        if app.adds_pages
            && !app.left_out.contains(PAGES_VISITED)
            && let Some(counter) = app.session.page_counter()
        {
            let pages = batch.pages_by_session();
            B::run(&AddPages { counter, pages }, app, &mut transaction)
                .await
                .map_err(updating(PAGES_VISITED))?;
        }
        if let Some(profile) = &app.profile
            && let Some(column) = &profile.last_active
            && !app.left_out.contains(LAST_ACTIVE)
        {
            let moments = batch.last_active_by_user();
            let raise = RaiseLastActive {
                profile,
                column,
                moments,
                interval: rules.last_active_interval,
            };
            B::run(&raise, app, &mut transaction)
                .await
                .map_err(updating(LAST_ACTIVE))?;
        }
        committing.store(true, Ordering::Relaxed);
        transaction.commit().await.map_err(other)?;
        Ok(applied)
    }
}

/// The updates that a batch makes beside its events.
const PAGES_VISITED: &str = "pages_visited";
const LAST_ACTIVE: &str = "last_active";
const COUNTERS: &str = "counters";

/// Inserts page views; a step of [`Apply`].
pub(super) struct InsertEvents<'a> {
    pub event: &'a EventTable,
    pub columns: &'a EventInsert,
    pub rows: EventRows<'a>,
}

impl StoreOperation for InsertEvents<'_> {
    type Output = ();
    const WRITES: bool = true;
}

/// Adds to the sessions' page counters; a step of [`Apply`].
pub(super) struct AddPages<'a> {
    pub counter: PageCounter<'a>,
    pub pages: BTreeMap<BrowserSessionId, i64>,
}

impl StoreOperation for AddPages<'_> {
    type Output = ();
    const WRITES: bool = true;
}

/// S7: raises when the users were last active, never back in time, where that is by more than the interval; a step of
/// [`Apply`].
pub(super) struct RaiseLastActive<'a> {
    pub profile: &'a ProfileTable,
    pub column: &'a Column,
    pub moments: BTreeMap<UserId, DateTime<Utc>>,
    pub interval: Duration,
}

impl StoreOperation for RaiseLastActive<'_> {
    type Output = ();
    const WRITES: bool = true;
}

/// One page of visitors, in one query. A session is valid at `now` as `BrowserSession::is_valid_at` has it:
/// active, not ended and not expired (I3).
pub(super) struct Visitors<'a> {
    pub users: &'a [UserId],
    pub now: DateTime<Utc>,
}

impl StoreOperation for Visitors<'_> {
    type Output = Vec<VisitorRow>;
}

/// Those of the users whose profiles are marked so.
pub(super) struct MarkedOf<'a> {
    pub mark: Mark,
    pub users: &'a [UserId],
}

impl StoreOperation for MarkedOf<'_> {
    type Output = Vec<UserId>;
}

impl MarkedOf<'_> {
    /// As [`Visitors::keys`].
    pub(super) fn keys(&self, key: &Column) -> impl Iterator<Item = &str> {
        keys(self.users, key)
    }
}

fn keys<'u>(users: &'u [UserId], key: &Column) -> impl Iterator<Item = &'u str> {
    let ids = users.iter().map(UserId::as_str);
    ids.filter(|user| key.is_key(user))
}

impl Visitors<'_> {
    /// The users whose ids can be values of the key column at all.
    pub(super) fn keys(&self, key: &Column) -> impl Iterator<Item = &str> {
        keys(self.users, key)
    }
}

/// Statistics of one community over `[from, to)`; [`Stats`] says what each number is.
///
/// The index of `migrations/app` begins with the community and with whether a row is the sidecar's, so that the
/// sidecar's first row is one look, and each part of the window one range.
pub(super) struct StatsOf<'a> {
    pub community: &'a CommunityId,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The app's own page views count only from before the sidecar's first in the community; otherwise all count.
    /// Rows of the sidecar from before [`FIRST_POSSIBLE`] are not taken as the first.
    pub until_ours: bool,
    /// The event types that count.
    pub types: Vec<Arc<str>>,
}

/// No sidecar is older, so that a row of it from before has the time of a clock that was wrong, that of a machine
/// without a battery for one. It would hide all that the app has recorded since.
pub(super) const FIRST_POSSIBLE: &str = "2024-01-01";

/// `headcount_sessions` where the app's sessions have no start or no end: none. Its columns are of the types that
/// [`STATS_OF_VIEWS_AND_SESSIONS`] compares.
pub(super) const NO_SESSIONS: &str = "\
    SELECT user_id, at AS started, at AS ended, CAST(0 AS double precision) AS seconds
    FROM headcount_views WHERE FALSE";

/// The end of the statement for [`Stats`], from `headcount_views (user_id, at)` and `headcount_sessions (user_id,
/// started, ended, seconds)`. S1: a session is one row there, however many events its user has.
pub(super) const STATS_OF_VIEWS_AND_SESSIONS: &str = "\
    headcount_community_sessions AS MATERIALIZED (
        SELECT seconds FROM headcount_sessions AS s
        WHERE EXISTS (SELECT 1 FROM headcount_views AS v
                      WHERE v.user_id = s.user_id AND v.at BETWEEN s.started AND s.ended)
    )
    SELECT (SELECT count(DISTINCT user_id) FROM headcount_views) AS total_visitors,
           (SELECT count(*) FROM headcount_views) AS page_views,
           (SELECT avg(seconds) FROM headcount_sessions) AS avg_session_duration,
           (SELECT count(*) FROM headcount_sessions) AS ended_sessions,
           (SELECT avg(seconds) FROM headcount_community_sessions) AS avg_community_session_duration,
           (SELECT count(*) FROM headcount_community_sessions) AS ended_community_sessions";

from_row!(PgRow, SqliteRow => Stats { total_visitors, page_views, avg_session_duration, ended_sessions, avg_community_session_duration, ended_community_sessions });

impl StoreOperation for StatsOf<'_> {
    /// `None` where there is no event table.
    type Output = Option<Stats>;
}

impl StatsOf<'_> {
    /// Every text that may stand for the community in metadata; none if its id cannot be a key.
    pub(super) fn spellings(&self, app: &AppSchema) -> Vec<String> {
        spellings(self.community, app)
    }
}
