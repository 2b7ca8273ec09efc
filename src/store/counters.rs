//! Counters of communities: what is kept of them beside the app's tables, and what is written to the app's columns.
//!
//! The transaction of a batch only inserts what it adds ([`AddDeltas`]). Whoever holds the lease adds that up ([`Fold`]) and
//! writes the app's columns ([`Publish`]), each in a transaction of its own. [`Recount`] counts a community from its
//! events, in one snapshot with what batches have added: both commit together, so that nothing is missed and nothing
//! counts twice, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::StoreError;
use super::operations::{Backend, FIRST_POSSIBLE, FindCommunity, Operation};
use super::schema::{AppSchema, Column, Dialect, Kind};
use super::sql::SqlStore;
use crate::batch::Batch;
use crate::config;
use crate::from_row::from_row;
use crate::ids::{CommunityId, UserId};
use crate::routes::PAGE_VIEW;

/// Most rows of batches that are added up in one transaction.
pub(super) const FOLD_ROWS: i64 = 5_000;
/// Most communities that are locked in one.
pub(super) const FOLD_COMMUNITIES: i64 = 200;

/// The counters of communities.
#[async_trait]
pub trait CounterStore: Send + Sync + 'static {
    /// Takes the lease if it is free or held by `holder`, for `ttl` from now by the database's clock; `None` while another
    /// holds it.
    async fn take_lease(&self, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Gives the lease up. Nothing if another has it.
    async fn release_lease(&self, holder: Uuid) -> Result<(), StoreError>;

    /// Adds up what batches have added, a bounded number of rows; `None` if `holder` has not the lease.
    async fn fold(&self, holder: Uuid) -> Result<Option<Folded>, StoreError>;

    /// Communities whose numbers must be counted from the events, at most `limit`.
    async fn uncounted(&self, limit: i64) -> Result<Vec<CommunityId>, StoreError>;

    /// Counts a community from its events. The app's columns are then to be written.
    async fn recount(&self, community: &CommunityId) -> Result<Totals, StoreError>;

    /// Compares a community's counters with its events.
    async fn compare(&self, community: &CommunityId) -> Result<Comparison, StoreError>;

    /// Notes that a community's counters agreed with its events.
    async fn note_checked(&self, community: &CommunityId) -> Result<(), StoreError>;

    /// Communities whose written `current_visitors` is not zero, with it; at most `limit`.
    async fn shown_present(&self, limit: i64) -> Result<Vec<(CommunityId, i64)>, StoreError>;

    /// Communities of which the app's columns are to be written, at most `limit`.
    async fn pending(&self, limit: i64) -> Result<Vec<CommunityId>, StoreError>;

    /// Writes the app's columns where they differ; `None` if `holder` has not the lease. Rows that the app has locked are
    /// left for the next time. With each community comes who is there now, where that is known.
    async fn publish(
        &self,
        holder: Uuid,
        communities: &[(CommunityId, Option<i64>)],
    ) -> Result<Option<Published>, StoreError>;

    /// The app's communities behind `after`, in the order of their keys, that were not compared since `since`; at most
    /// `limit` are looked at. The second value is the last one that was looked at; `None` at the end.
    async fn unchecked(
        &self,
        after: Option<&CommunityId>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), StoreError>;

    /// Deletes the counters of communities that the app has deleted; returns how many.
    async fn forget_absent(&self) -> Result<u64, StoreError>;

    /// When all counters had last been compared; `None` if they never were, or what counts was configured in another way
    /// then.
    async fn last_pass(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Notes that all counters have been compared.
    async fn note_pass(&self) -> Result<(), StoreError>;

    /// The community with this key; as [`super::Store::community_by_key`].
    async fn known(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError>;

    /// Closes all connections.
    async fn disconnect(&self);
}

/// A lease that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Time since columns were last written, by any holder.
    pub since_round: Option<Duration>,
}

/// Result of adding up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Folded {
    /// Rows of batches that are added up now.
    pub rows: u64,
}

/// Result of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Rows of the app's that were changed.
    pub written: u64,
    /// Communities that are still to be written: the app has their rows locked.
    pub left: u64,
}

/// All-time counts of one community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// As in [`super::Stats`], over all time.
    pub page_views: i64,
    /// The same.
    pub total_visitors: i64,
}

from_row!(PgRow, SqliteRow => Totals { page_views, total_visitors });

impl Totals {
    /// Sum of the differences.
    pub fn distance(self, other: Self) -> u64 {
        self.page_views.abs_diff(other.page_views) + self.total_visitors.abs_diff(other.total_visitors)
    }
}

/// Counters beside the events, of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Counted from the events.
    pub counted: Totals,
    /// As they are kept, with what batches have added; `None` where they are to be counted anew in any case.
    pub kept: Option<Totals>,
    /// As the app's columns have them, those that there are; `None` where these are to be written, or there is no such
    /// community.
    pub shown: Option<(Option<i64>, Option<i64>)>,
}

impl Comparison {
    /// How far the counters are from the events, in page views and visitors.
    pub fn drift(&self) -> u64 {
        self.kept.map_or(0, |kept| kept.distance(self.counted))
    }

    /// Whether the counters and the app's columns are as the events have it.
    pub fn agrees(&self) -> bool {
        let shows = |(page_views, total_visitors): (Option<i64>, Option<i64>)| {
            page_views.is_none_or(|shown| shown == self.counted.page_views)
                && total_visitors.is_none_or(|shown| shown == self.counted.total_visitors)
        };
        self.kept == Some(self.counted) && self.shown.is_none_or(shows)
    }
}

/// A comparison as the statements answer it.
pub(super) struct ComparisonRow {
    pub counted_views: i64,
    pub counted_visitors: i64,
    pub kept_views: Option<i64>,
    pub kept_visitors: Option<i64>,
    pub is_settled: bool,
    pub is_written: bool,
    pub shown_views: Option<i64>,
    pub shown_visitors: Option<i64>,
}

from_row!(PgRow, SqliteRow => ComparisonRow { counted_views, counted_visitors, kept_views, kept_visitors, is_settled, is_written, shown_views, shown_visitors });

impl From<ComparisonRow> for Comparison {
    fn from(row: ComparisonRow) -> Self {
        let kept = row.kept_views.zip(row.kept_visitors).filter(|_| row.is_settled);
        Self {
            counted: Totals {
                page_views: row.counted_views,
                total_visitors: row.counted_visitors,
            },
            kept: kept.map(|(page_views, total_visitors)| Totals {
                page_views,
                total_visitors,
            }),
            shown: row.is_written.then_some((row.shown_views, row.shown_visitors)),
        }
    }
}

/// What a batch adds to a community for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delta {
    /// Page views that count.
    pub views: i64,
    /// The first of them, where it may be the sidecar's first of the community.
    pub first: Option<DateTime<Utc>>,
}

/// Sorted by community and user.
pub(super) fn deltas<'b>(
    batch: &'b Batch,
    types: &[Arc<str>],
) -> BTreeMap<(&'b CommunityId, &'b UserId), Delta> {
    let first_possible = first_possible();
    let mut deltas: BTreeMap<_, Delta> = BTreeMap::new();
    for recorded in batch.views() {
        let Some(community) = &recorded.community else {
            continue;
        };
        let event_type = recorded.view.event.event_type.as_deref().unwrap_or(PAGE_VIEW);
        if !types.iter().any(|counted| **counted == *event_type) {
            continue;
        }
        let at = Some(recorded.view.at).filter(|at| *at >= first_possible);
        let delta = deltas
            .entry((community, &recorded.user_id))
            .or_insert(Delta { views: 0, first: at });
        delta.views += 1;
        delta.first = [delta.first, at].into_iter().flatten().min();
    }
    deltas
}

/// [`FIRST_POSSIBLE`] as a moment.
pub(super) fn first_possible() -> DateTime<Utc> {
    let day = FIRST_POSSIBLE
        .parse()
        .map(|day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN));
    day.map(|at| at.and_utc()).unwrap_or_default()
}

/// All time, as bounds of a window.
pub(super) fn all_time() -> (DateTime<Utc>, DateTime<Utc>) {
    let year = |year| chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default();
    let at = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    (at(year(1)), at(year(9999)) + TimeDelta::days(365))
}

/// Every text that may stand for a community in metadata; none if its id cannot be a key.
pub(super) fn spellings(community: &CommunityId, app: &AppSchema) -> Vec<String> {
    let kind = app.keys().community;
    let key = kind.canonical(community.as_str());
    key.map(|key| kind.spellings(&key)).unwrap_or_default()
}

/// The greatest count that a column holds.
pub(super) fn greatest(column: &Column) -> i64 {
    match column.kind {
        // Whatever is declared, it is 64 bits there.
        _ if column.dialect == Dialect::Sqlite => i64::MAX,
        Kind::SmallInt => i16::MAX.into(),
        Kind::Integer => i32::MAX.into(),
        _ => i64::MAX,
    }
}

/// What every operation on counters knows.
#[derive(Debug, Clone)]
pub(super) struct Context<'a> {
    pub database: &'a config::Database,
    /// As [`StatsOf::until_ours`](super::operations::StatsOf::until_ours).
    pub until_ours: bool,
    /// The event types that count.
    pub types: Vec<Arc<str>>,
}

/// Inserts what a batch adds; a step of [`Apply`](super::operations::Apply).
pub(super) struct AddDeltas<'a> {
    pub batch: &'a Batch,
    /// The event types that count.
    pub types: &'a [Arc<str>],
}

/// Takes or renews the lease.
pub(super) struct TakeLease<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
    pub ttl: Duration,
}

/// Gives the lease up.
pub(super) struct ReleaseLease(pub Uuid);

/// Adds up rows of batches, of communities that are counted and that nobody counts now.
pub(super) struct Fold<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
}

/// Communities to be counted.
pub(super) struct Uncounted(pub i64);

/// Counts one community.
pub(super) struct Recount<'a> {
    pub context: Context<'a>,
    pub community: &'a CommunityId,
}

/// Compares one community.
pub(super) struct Compare<'a> {
    pub context: Context<'a>,
    pub community: &'a CommunityId,
}

/// Notes that one community was compared.
pub(super) struct NoteChecked<'a>(pub &'a CommunityId);

/// Communities with a written `current_visitors`.
pub(super) struct ShownPresent(pub i64);

/// Communities to be written.
pub(super) struct Pending(pub i64);

/// Writes the app's columns.
pub(super) struct Publish<'a> {
    pub context: Context<'a>,
    pub holder: Uuid,
    pub communities: &'a [(CommunityId, Option<i64>)],
}

/// Communities to be compared.
pub(super) struct Unchecked<'a> {
    pub after: Option<&'a CommunityId>,
    pub since: DateTime<Utc>,
    pub limit: i64,
}

/// Deletes counters without a community.
pub(super) struct ForgetAbsent<'a>(pub Context<'a>);

/// When all counters were compared.
pub(super) struct LastPass<'a>(pub Context<'a>);

/// Notes that they were.
pub(super) struct NotePass;

/// Declares the operations' results: `Operation: Output, writes;`.
macro_rules! operations {
    ($($operation:ty => $output:ty, $writes:literal;)+) => {
        $(impl Operation for $operation {
            type Output = $output;
            const WRITES: bool = $writes;
        })+
    };
}

operations! {
    AddDeltas<'_> => (), true;
    TakeLease<'_> => Option<Lease>, true;
    ReleaseLease => (), true;
    Fold<'_> => Option<Folded>, true;
    Uncounted => Vec<CommunityId>, false;
    Recount<'_> => Totals, true;
    Compare<'_> => Comparison, false;
    NoteChecked<'_> => (), true;
    ShownPresent => Vec<(CommunityId, i64)>, false;
    Pending => Vec<CommunityId>, false;
    Publish<'_> => Option<Published>, true;
    Unchecked<'_> => (Vec<CommunityId>, Option<CommunityId>), false;
    ForgetAbsent<'_> => u64, true;
    LastPass<'_> => Option<DateTime<Utc>>, true;
    NotePass => (), true;
}

/// The error of counting where there is no event table.
pub(super) fn no_events() -> sqlx::Error {
    sqlx::Error::Configuration("there is no event table to count from".into())
}

/// What counts, as the lease's row has it: another configuration has another text.
pub(super) fn definition(context: &Context<'_>) -> String {
    let of = if context.until_ours { "ours" } else { "all" };
    format!("{of}: {}", context.types.join(", "))
}

#[async_trait]
impl<B: Backend> CounterStore for SqlStore<B> {
    async fn take_lease(&self, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let context = self.counter_context();
        self.connections().run(&TakeLease { context, holder, ttl }).await
    }

    async fn release_lease(&self, holder: Uuid) -> Result<(), StoreError> {
        self.connections().run(&ReleaseLease(holder)).await
    }

    async fn fold(&self, holder: Uuid) -> Result<Option<Folded>, StoreError> {
        let context = self.counter_context();
        self.connections().run(&Fold { context, holder }).await
    }

    async fn uncounted(&self, limit: i64) -> Result<Vec<CommunityId>, StoreError> {
        self.connections().run(&Uncounted(limit)).await
    }

    async fn recount(&self, community: &CommunityId) -> Result<Totals, StoreError> {
        let context = self.counter_context();
        self.connections().run(&Recount { context, community }).await
    }

    async fn compare(&self, community: &CommunityId) -> Result<Comparison, StoreError> {
        let context = self.counter_context();
        self.connections().run(&Compare { context, community }).await
    }

    async fn note_checked(&self, community: &CommunityId) -> Result<(), StoreError> {
        self.connections().run(&NoteChecked(community)).await
    }

    async fn shown_present(&self, limit: i64) -> Result<Vec<(CommunityId, i64)>, StoreError> {
        self.connections().run(&ShownPresent(limit)).await
    }

    async fn pending(&self, limit: i64) -> Result<Vec<CommunityId>, StoreError> {
        self.connections().run(&Pending(limit)).await
    }

    async fn publish(
        &self,
        holder: Uuid,
        communities: &[(CommunityId, Option<i64>)],
    ) -> Result<Option<Published>, StoreError> {
        let context = self.counter_context();
        self.connections()
            .run(&Publish {
                context,
                holder,
                communities,
            })
            .await
    }

    async fn unchecked(
        &self,
        after: Option<&CommunityId>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), StoreError> {
        self.connections().run(&Unchecked { after, since, limit }).await
    }

    async fn forget_absent(&self) -> Result<u64, StoreError> {
        self.connections()
            .run(&ForgetAbsent(self.counter_context()))
            .await
    }

    async fn last_pass(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.connections().run(&LastPass(self.counter_context())).await
    }

    async fn note_pass(&self) -> Result<(), StoreError> {
        self.connections().run(&NotePass).await
    }

    async fn known(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        self.connections().run(&FindCommunity::ByKey(key)).await
    }

    async fn disconnect(&self) {
        self.connections().close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_agree_only_where_counter_and_column_do() {
        let totals = |page_views, total_visitors| Totals {
            page_views,
            total_visitors,
        };
        let comparison = |kept, shown| Comparison {
            counted: totals(5, 2),
            kept,
            shown,
        };
        assert!(comparison(Some(totals(5, 2)), Some((Some(5), None))).agrees());
        assert!(comparison(Some(totals(5, 2)), None).agrees());
        assert!(!comparison(Some(totals(5, 2)), Some((Some(4), Some(2)))).agrees());
        let drifted = comparison(Some(totals(3, 3)), None);
        assert!(!drifted.agrees());
        assert_eq!(drifted.drift(), 3);
        assert_eq!(comparison(None, None).drift(), 0);
    }
}
