//! Counters of communities: what is kept of them beside the app's tables, and what is written to the app's columns.
//!
//! The transaction of a batch only inserts what it adds. Whoever holds the lease adds that up ([`CounterStore::fold`]) and
//! writes the app's columns ([`CounterStore::publish`]), each in a transaction of its own. [`CounterComparisons::recount`] counts
//! a community from its events, in one snapshot with what batches have added: both commit together, so that nothing is
//! missed and nothing counts twice, whatever happens meanwhile.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::StoreError;
use crate::config::CommunityKey;
use crate::from_row::from_row;
use crate::ids::CommunityId;

/// The counters of communities.
#[async_trait]
pub trait CounterStore: CounterComparisons {
    /// What keeps the counters from being written, a sentence each: columns, tables, rights.
    async fn faults(&self) -> Result<Vec<String>, StoreError>;

    /// Takes the lease if it is free or held by `holder`, for `ttl` from now by the database's clock; `None` while another
    /// holds it. An error [of the configuration](StoreError::is_of_the_configuration) where what it is for cannot be
    /// written: it is neither taken nor renewed.
    async fn take_lease(&self, holder: Uuid, ttl: Duration) -> Result<Option<Lease>, StoreError>;

    /// Gives the lease up. Nothing if another has it.
    async fn release_lease(&self, holder: Uuid) -> Result<(), StoreError>;

    /// Adds up what batches have added, a bounded number of rows; `None` if `holder` has not the lease.
    async fn fold(&self, holder: Uuid) -> Result<Option<Folded>, StoreError>;

    /// Communities whose numbers must be counted from the events, but for `postponed`; at most `limit`.
    async fn uncounted(&self, postponed: &[CommunityId], limit: i64) -> Result<Vec<CommunityId>, StoreError>;

    /// Whether anybody has the lease.
    async fn is_lease_held(&self) -> Result<bool, StoreError>;

    /// Communities whose written `current_visitors` is not zero, with it; at most `limit`.
    async fn shown_present(&self, limit: i64) -> Result<Vec<(CommunityId, i64)>, StoreError>;

    /// Communities behind `after` of which the app's columns are to be written, at most `limit`, in an order of their own.
    async fn pending(&self, after: Option<&CommunityId>, limit: i64) -> Result<Vec<CommunityId>, StoreError>;

    /// Writes the app's columns where they differ; `None` if `holder` has not the lease. Rows that the app has locked are
    /// left for the next time. With each community comes who is there now, where that is known; where it is not,
    /// `current_visitors` is left as it is, and for the next time if somebody else has written it. An error where the columns
    /// cannot be used.
    async fn publish(
        &self,
        holder: Uuid,
        communities: &[(CommunityId, Option<i64>)],
    ) -> Result<Option<Published>, StoreError>;

    /// The community that somebody means by its key, in any spelling, or by its slug. A text that is both stands for what
    /// `key` names first.
    async fn find(&self, named: &str, key: CommunityKey) -> Result<Option<CommunityId>, StoreError>;

    /// Closes all connections.
    async fn disconnect(&self);
}

/// What a comparison of the counters with the events reads, and what it notes.
#[async_trait]
pub trait CounterComparisons: Send + Sync + 'static {
    /// Counts a community from its events. The app's columns are then to be written, whatever they show, so that it has been
    /// compared as by [`CounterComparisons::note_checked`].
    async fn recount(&self, community: &CommunityId) -> Result<Totals, StoreError>;

    /// Compares a community's counters with its events. An error where the app's columns cannot be used.
    async fn compare(&self, community: &CommunityId) -> Result<Comparison, StoreError>;

    /// Compares a community's `current_visitors` with what was written last; `None` where no such column is wanted, or there
    /// is no such community. An error where the app's columns cannot be used.
    async fn compare_present(&self, community: &CommunityId)
    -> Result<Option<PresentComparison>, StoreError>;

    /// Notes that a community's columns are to be written, `current_visitors` by the first round that knows who is there. Whether
    /// that was not noted before.
    async fn note_pending(&self, community: &CommunityId) -> Result<bool, StoreError>;

    /// Notes that a community's counters, and what the app's columns show of them, agreed with its events.
    async fn note_checked(&self, community: &CommunityId) -> Result<(), StoreError>;

    /// The app's communities behind `after`, in the order of their keys, that were neither compared nor counted since
    /// `since`; at most `limit` are looked at. The second value is the last one that was looked at; `None` at the end.
    async fn unchecked(
        &self,
        after: Option<&CommunityId>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), StoreError>;

    /// Deletes the counters of communities that the app has deleted, in transactions of a bounded number of rows; returns how
    /// many communities these were.
    async fn forget_absent(&self) -> Result<u64, StoreError>;

    /// When all counters had last been compared; `None` if they never were, or what counts was configured in another way
    /// then.
    async fn last_pass(&self) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Notes that all counters have been compared.
    async fn note_pass(&self) -> Result<(), StoreError>;

    /// Page views that were written without what they add to counters, since the last [`CounterComparisons::forget_omission`] of
    /// them: the role of whoever wrote them lacked a right, or the tables of counters were not there.
    async fn omission(&self) -> Result<Option<Omission>, StoreError>;

    /// Whether a community has a view that counts, since then.
    async fn has_views(&self, community: &CommunityId, since: DateTime<Utc>) -> Result<bool, StoreError>;

    /// Notes that the counters of all communities that it may concern agree with their events. Nothing of what has been
    /// omitted since [`CounterComparisons::omission`] is forgotten.
    async fn forget_omission(&self, omission: Omission) -> Result<(), StoreError>;
}

/// A lease that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Time since columns were last written, by any holder.
    pub since_round: Option<Duration>,
}

/// Page views that the counters lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Omission {
    /// By which it is noted.
    pub id: Uuid,
    /// None of them is older. Taken from the view, not from its row, which may be rounded or of another hour of a zone.
    pub since: DateTime<Utc>,
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
    /// Communities whose `current_visitors` is still to be written: somebody else has written it, and who is there is not known.
    pub unknown: u64,
}

/// All-time counts of one community, of the events that are kept.
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
    /// The greatest page views and visitors that the app's columns hold: more is written as that.
    pub greatest: Totals,
}

impl Comparison {
    /// How far the counters are from the events, in page views and visitors.
    pub fn drift(&self) -> u64 {
        self.kept.map_or(0, |kept| kept.distance(self.counted))
    }

    /// Whether the counters and the app's columns are as the events have it.
    pub fn agrees(&self) -> bool {
        let shows = |(page_views, total_visitors): (Option<i64>, Option<i64>)| {
            let Totals {
                page_views: views,
                total_visitors: visitors,
            } = self.counted;
            page_views.is_none_or(|shown| shown == views.min(self.greatest.page_views))
                && total_visitors.is_none_or(|shown| shown == visitors.min(self.greatest.total_visitors))
        };
        self.kept == Some(self.counted) && self.shown.is_none_or(shows)
    }
}

/// `current_visitors` of one community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresentComparison {
    /// As the app's column has it.
    pub shown: Option<i64>,
    /// As it was written last; 0 where it never was.
    pub noted: i64,
    /// The greatest count that the column holds: more is written as that.
    pub greatest: i64,
}

impl PresentComparison {
    /// Whether the column says that so many are there. No number is taken as none.
    pub fn shows(&self, present: i64) -> bool {
        self.shown.unwrap_or_default() == present.min(self.greatest)
    }

    /// Whether somebody else has written the column since.
    pub fn is_overwritten(&self) -> bool {
        !self.shows(self.noted)
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

impl ComparisonRow {
    /// With the greatest counts that the app's columns hold.
    pub(super) fn compared(self, greatest: Totals) -> Comparison {
        let row = self;
        let kept = row.kept_views.zip(row.kept_visitors).filter(|_| row.is_settled);
        Comparison {
            counted: Totals {
                page_views: row.counted_views,
                total_visitors: row.counted_visitors,
            },
            greatest,
            kept: kept.map(|(page_views, total_visitors)| Totals {
                page_views,
                total_visitors,
            }),
            shown: row.is_written.then_some((row.shown_views, row.shown_visitors)),
        }
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
            greatest: totals(i64::MAX, i64::MAX),
        };
        assert!(comparison(Some(totals(5, 2)), Some((Some(5), None))).agrees());
        assert!(comparison(Some(totals(5, 2)), None).agrees());
        assert!(!comparison(Some(totals(5, 2)), Some((Some(4), Some(2)))).agrees());
        // A column that holds no more than that.
        let full = Comparison {
            greatest: totals(4, i64::MAX),
            ..comparison(Some(totals(5, 2)), Some((Some(4), Some(2))))
        };
        assert!(full.agrees());
        let drifted = comparison(Some(totals(3, 3)), None);
        assert!(!drifted.agrees());
        assert_eq!(drifted.drift(), 3);
        assert_eq!(comparison(None, None).drift(), 0);
    }
}
