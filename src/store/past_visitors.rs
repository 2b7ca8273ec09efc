//! Who was in a community, over a window of days: what is asked and answered, for either database. Pure.
//!
//! A *visit* is a run of page views of one user in one community: a view more than [`GAP`] after the user's former one in
//! the window begins another.

pub(super) mod statements;

use chrono::{DateTime, TimeDelta, Utc};

use crate::ids::{CommunityId, UserId};

/// A longer time between two views of a user begins another visit.
pub const GAP: TimeDelta = TimeDelta::minutes(30);
/// Most pages of a visitor that are read; which of them are told, the caller decides.
pub const MOST_PAGES: i64 = 25;

/// A community over the half-open window `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PastWindow {
    /// The community.
    pub community: CommunityId,
    /// Start, included.
    pub from: DateTime<Utc>,
    /// End, excluded.
    pub to: DateTime<Utc>,
}

/// What past visitors are sorted by, the greatest first; equal ones by their key, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PastSort {
    /// Their last view.
    LastVisit,
    /// Their number of visits.
    VisitCount,
    /// Their first view in the window.
    FirstVisit,
}

/// A place in the order: behind the visitor with this value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PastPlace {
    /// What is sorted by: visits, or microseconds since 1970.
    pub value: i64,
    /// The visitor.
    pub user: UserId,
}

/// Which past visitors are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PastAsked {
    /// At most `limit` from a place in the order on.
    Page {
        /// The order.
        sort: PastSort,
        /// Where the page before ended.
        after: Option<PastPlace>,
        /// Length of the page.
        limit: usize,
    },
    /// One.
    One(UserId),
}

/// What one user did in a community in the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVisitor {
    /// The user.
    pub user_id: UserId,
    /// Page views: rows of counted event types.
    pub page_views: i64,
    /// Visits.
    pub visit_count: i64,
    /// The first view in the window.
    pub first_visit: DateTime<Utc>,
    /// The last.
    pub last_visit: DateTime<Utc>,
    /// The pages seen most, with their views, at most [`MOST_PAGES`]: the most views first, equal ones by their URL.
    pub pages: Vec<(String, i64)>,
}

impl PastVisitor {
    /// What a page is sorted by.
    pub fn value(&self, sort: PastSort) -> i64 {
        match sort {
            PastSort::LastVisit => self.last_visit.timestamp_micros(),
            PastSort::FirstVisit => self.first_visit.timestamp_micros(),
            PastSort::VisitCount => self.visit_count,
        }
    }
}
