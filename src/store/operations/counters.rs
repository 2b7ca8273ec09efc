//! The operations on counters, and what both databases need for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{FIRST_POSSIBLE, StoreOperation};
use crate::batch::{Batch, RecordedView};
use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::routes::PAGE_VIEW;
use crate::store::counters::{Comparison, Folded, Lease, Omission, PresentComparison, Published, Totals};
use crate::store::schema::{AppSchema, Column, CounterColumns, Dialect, Kind};

/// Most rows of batches that are added up in one transaction.
pub(in crate::store) const FOLD_ROWS: i64 = 5_000;
/// Most communities that are locked in one.
pub(in crate::store) const FOLD_COMMUNITIES: i64 = 200;
/// Most rows of each table that are deleted in one.
pub(in crate::store) const FORGET_ROWS: i64 = 5_000;

/// What a batch adds to a community for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Delta {
    /// Page views that count.
    pub views: i64,
    /// The first of them, where it may be the sidecar's first of the community.
    pub first: Option<DateTime<Utc>>,
}

/// Sorted by community and user.
pub(in crate::store) fn deltas<'b>(
    batch: &'b Batch,
    types: &[Arc<str>],
) -> BTreeMap<(&'b CommunityId, &'b UserId), Delta> {
    let first_possible = first_possible();
    let mut deltas: BTreeMap<_, Delta> = BTreeMap::new();
    for (community, recorded) in counted(batch, types) {
        let at = Some(recorded.view.at).filter(|at| *at >= first_possible);
        let delta = deltas
            .entry((community, &recorded.user_id))
            .or_insert(Delta { views: 0, first: at });
        delta.views += 1;
        delta.first = [delta.first, at].into_iter().flatten().min();
    }
    deltas
}

/// The moment of the oldest view that counts.
pub(in crate::store) fn oldest(batch: &Batch, types: &[Arc<str>]) -> Option<DateTime<Utc>> {
    counted(batch, types).map(|(_, recorded)| recorded.view.at).min()
}

/// The views that count, each with its community.
fn counted<'b>(
    batch: &'b Batch,
    types: &[Arc<str>],
) -> impl Iterator<Item = (&'b CommunityId, &'b RecordedView)> {
    batch.views().filter_map(move |recorded| {
        let event_type = recorded.view.event.event_type.as_deref().unwrap_or(PAGE_VIEW);
        let counts = types.iter().any(|counted| **counted == *event_type);
        Some((recorded.community.as_ref().filter(|_| counts)?, recorded))
    })
}

/// [`FIRST_POSSIBLE`] as a moment.
pub(in crate::store) fn first_possible() -> DateTime<Utc> {
    let day = FIRST_POSSIBLE
        .parse()
        .map(|day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN));
    day.map(|at| at.and_utc()).unwrap_or_default()
}

/// All time, as bounds of a window.
pub(in crate::store) fn all_time() -> (DateTime<Utc>, DateTime<Utc>) {
    let year = |year| chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
    let at = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    (at(year(1)), at(year(9999)) + TimeDelta::days(365))
}

/// Every text that may stand for a community in metadata; none if its id cannot be a key.
pub(in crate::store) fn spellings(community: &CommunityId, app: &AppSchema) -> Vec<String> {
    let kind = app.keys().community;
    let key = kind.canonical(community.as_str());
    key.map(|key| kind.spellings(&key)).unwrap_or_default()
}

/// The greatest count that a column holds.
pub(in crate::store) fn greatest(column: &Column) -> i64 {
    match column.kind {
        // Whatever is declared, it is 64 bits there.
        _ if column.dialect == Dialect::Sqlite => i64::MAX,
        Kind::SmallInt => i16::MAX.into(),
        Kind::Integer => i32::MAX.into(),
        _ => i64::MAX,
    }
}

/// The greatest counts that the app's columns hold.
pub(in crate::store) fn greatest_totals(app: &AppSchema) -> Totals {
    let counters = app.counters.as_ref();
    let of =
        |pick: fn(&CounterColumns) -> Option<&Column>| counters.and_then(pick).map_or(i64::MAX, greatest);
    Totals {
        page_views: of(|columns| columns.page_views.as_ref()),
        total_visitors: of(|columns| columns.total_visitors.as_ref()),
    }
}

/// What every operation on counters knows.
#[derive(Debug, Clone)]
pub(in crate::store) struct Context<'a> {
    pub database: &'a config::Database,
    /// As [`StatsOf::until_ours`](super::StatsOf::until_ours).
    pub until_ours: bool,
    /// Whether the counters write who is there.
    pub writes_presence: bool,
    /// The event types that count.
    pub types: Vec<Arc<str>>,
}

/// Inserts what a batch adds; a step of [`Apply`](super::Apply).
pub(in crate::store) struct AddDeltas<'a> {
    pub batch: &'a Batch,
    /// The event types that count.
    pub types: &'a [Arc<str>],
}

/// Notes that the counters lack what a batch adds, in the batch's transaction and in the ledger, where whoever writes page
/// views may write: of several, each is a row of its own, so that none is lost where others are taken meanwhile.
pub(in crate::store) struct NoteOmission<'a> {
    pub batch: &'a Batch,
    /// The event types that count.
    pub types: &'a [Arc<str>],
}

/// Makes one of all such notes that are committed; at most [`FORGET_ROWS`] at a time. `None` if there is none.
pub(in crate::store) struct TakeOmissions<'a>(pub Context<'a>);

/// Result of [`TakeOmissions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct TakenOmissions {
    pub omission: Omission,
    /// There are more.
    pub is_part: bool,
}

/// Forgets one.
pub(in crate::store) struct ForgetOmission(pub Omission);

/// Whether a community has a view that counts, since then.
pub(in crate::store) struct HasViews<'a> {
    pub context: Context<'a>,
    pub community: &'a CommunityId,
    pub since: DateTime<Utc>,
}

/// The app's columns for counts, or the tables of counters, cannot be used now.
pub(in crate::store) struct NoColumns;

/// The error of reading or writing the app's columns where they cannot be used now. The schema is read again for it.
pub(in crate::store) fn no_columns() -> sqlx::Error {
    sqlx::Error::Configuration(
        "the columns for counts, or the tables of counters, cannot be used: headcount check says why".into(),
    )
}

/// Takes or renews the lease; neither where the columns cannot be written. That is no error of a statement: it is asked
/// every few seconds, and the schema is read again in its own time.
pub(in crate::store) struct TakeLease<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
    pub ttl: Duration,
}

/// Gives the lease up.
pub(in crate::store) struct ReleaseLease(pub Uuid);

/// Adds up rows of batches, of communities that are counted and that nobody counts now.
pub(in crate::store) struct Fold<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
}

/// Communities to be counted.
pub(in crate::store) struct Uncounted<'a> {
    /// Those that are left alone.
    pub postponed: &'a [CommunityId],
    pub limit: i64,
}

/// Counts one community.
pub(in crate::store) struct Recount<'a> {
    pub context: Context<'a>,
    pub community: &'a CommunityId,
}

/// Compares one community.
pub(in crate::store) struct Compare<'a> {
    pub context: Context<'a>,
    pub community: &'a CommunityId,
}

/// Compares `current_visitors` of one community.
pub(in crate::store) struct ComparePresent<'a>(pub &'a CommunityId);

/// Notes that a community's columns are to be written; whether that was not noted before.
pub(in crate::store) struct NotePending<'a>(pub &'a CommunityId);

/// Whether anybody has the lease.
pub(in crate::store) struct IsLeaseHeld;

/// Notes that one community was compared.
pub(in crate::store) struct NoteChecked<'a>(pub &'a CommunityId);

/// Communities with a written `current_visitors`.
pub(in crate::store) struct ShownPresent(pub i64);

/// Communities to be written.
pub(in crate::store) struct Pending<'a> {
    pub after: Option<&'a CommunityId>,
    pub limit: i64,
}

/// Writes the app's columns.
pub(in crate::store) struct Publish<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
    pub communities: &'a [(CommunityId, Option<i64>)],
}

/// Communities to be compared.
pub(in crate::store) struct Unchecked<'a> {
    pub after: Option<&'a CommunityId>,
    pub since: DateTime<Utc>,
    pub limit: i64,
}

/// Deletes some of the counters without a community.
pub(in crate::store) struct ForgetAbsent<'a>(pub Context<'a>);

/// Result of [`ForgetAbsent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::store) struct Forgotten {
    /// Communities of which nothing is left.
    pub communities: u64,
    /// Rows that were deleted; where there are none, nothing is left to be deleted now.
    pub rows: u64,
}

/// When all counters were compared.
pub(in crate::store) struct LastPass<'a>(pub Context<'a>);

/// Notes that they were.
pub(in crate::store) struct NotePass;

/// Declares the operations' results: `StoreOperation: Output, writes;`.
macro_rules! operations {
    ($($operation:ty => $output:ty, $writes:literal;)+) => {
        $(impl StoreOperation for $operation {
            type Output = $output;
            const WRITES: bool = $writes;
            const WHAT: &'static str = "a step of the counters";
        })+
    };
}

operations! {
    AddDeltas<'_> => (), true;
    NoteOmission<'_> => (), true;
    TakeOmissions<'_> => Option<TakenOmissions>, true;
    ForgetOmission => (), true;
    HasViews<'_> => bool, false;
    TakeLease<'_> => Result<Option<Lease>, NoColumns>, true;
    ReleaseLease => (), true;
    Fold<'_> => Option<Folded>, true;
    Uncounted<'_> => Vec<CommunityId>, false;
    Recount<'_> => Totals, true;
    Compare<'_> => Comparison, false;
    ComparePresent<'_> => Option<PresentComparison>, false;
    NotePending<'_> => bool, true;
    IsLeaseHeld => bool, false;
    NoteChecked<'_> => (), true;
    ShownPresent => Vec<(CommunityId, i64)>, false;
    Pending<'_> => Vec<CommunityId>, false;
    Publish<'_> => Option<Published>, true;
    Unchecked<'_> => (Vec<CommunityId>, Option<CommunityId>), false;
    ForgetAbsent<'_> => Forgotten, true;
    LastPass<'_> => Option<DateTime<Utc>>, true;
    NotePass => (), true;
}

/// The error of counting where there is no event table.
pub(in crate::store) fn no_events() -> sqlx::Error {
    sqlx::Error::Configuration("there is no event table to count from".into())
}

/// What counts, as the lease's row has it: another configuration has another text.
pub(in crate::store) fn definition(context: &Context<'_>) -> String {
    let of = if context.until_ours { "ours" } else { "all" };
    format!("{of}: {}", context.types.join(", "))
}
