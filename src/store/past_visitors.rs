//! Who was in a community, over a window of days: what is asked and answered, for either database. Pure.
//!
//! A *visit* is a run of page views of one user in one community: a view more than [`GAP`] after the user's former one in
//! the window begins another.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::from_row::from_row;
use crate::ids::{CommunityId, UserId};

/// A longer time between two views of a user begins another visit.
pub const GAP: TimeDelta = TimeDelta::minutes(30);
/// Most pages of a visitor that are told.
pub const MOST_PAGES: i64 = 5;

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

/// The numbers of one user, as a database answers them; moments in microseconds since 1970.
#[derive(Debug)]
pub(super) struct Numbers {
    pub user_id: String,
    pub page_views: i64,
    pub visit_count: i64,
    pub first_visit: i64,
    pub last_visit: i64,
}

from_row!(PgRow, SqliteRow => Numbers { user_id, page_views, visit_count, first_visit, last_visit });

/// One of a user's pages.
#[derive(Debug)]
pub(super) struct VisitedPage {
    pub user_id: String,
    pub url: String,
    pub views: i64,
}

from_row!(PgRow, SqliteRow => VisitedPage { user_id, url, views });

/// Puts numbers and pages together, in the order of `numbers`; `key` reads a user's key.
pub(super) fn together(
    numbers: Vec<Numbers>,
    pages: Vec<VisitedPage>,
    key: impl Fn(String) -> Result<String, sqlx::Error>,
) -> Result<Vec<PastVisitor>, sqlx::Error> {
    let mut by_user: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for page in pages {
        by_user
            .entry(page.user_id)
            .or_default()
            .push((page.url, page.views));
    }
    let visitors = numbers.into_iter().map(|numbers| {
        let pages = by_user.remove(&numbers.user_id).unwrap_or_default();
        Ok(PastVisitor {
            user_id: UserId::new(key(numbers.user_id)?),
            page_views: numbers.page_views,
            visit_count: numbers.visit_count,
            first_visit: at(numbers.first_visit)?,
            last_visit: at(numbers.last_visit)?,
            pages,
        })
    });
    visitors.collect()
}

fn at(micros: i64) -> Result<DateTime<Utc>, sqlx::Error> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| sqlx::Error::Decode("a moment is out of range".into()))
}

/// SQL of `headcount_starts (user_id, at, is_start)` from `headcount_views (user_id, at, url)`: whether a view begins a visit.
/// `user` are the columns of the user, `gap` is [`GAP`] as a difference of two `at`.
pub(super) fn starts(user: &str, gap: &str) -> String {
    format!(
        "headcount_starts AS (
             SELECT {user}, at,
                    CASE WHEN at - lag(at) OVER (PARTITION BY user_id ORDER BY at) <= {gap} THEN 0 ELSE 1 END AS is_start
             FROM headcount_views
         )"
    )
}

/// SQL of the pages of each user, from `headcount_views (user_id, at, url)`; `user` gives the key as text, `order` puts
/// URLs in the order of their bytes.
pub(super) fn pages(user: &str, order: &str) -> String {
    format!(
        "SELECT {user} AS user_id, url, views FROM (
             SELECT user_id, url, count(*) AS views,
                    row_number() OVER (PARTITION BY user_id ORDER BY count(*) DESC, {order}) AS place
             FROM headcount_views WHERE url IS NOT NULL GROUP BY user_id, url
         ) AS headcount_pages
         WHERE place <= {MOST_PAGES} ORDER BY user_id, place"
    )
}
