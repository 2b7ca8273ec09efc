//! The SQL of past visitors that both databases share, and the rows of its answers. Pure.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::{MOST_PAGES, PastVisitor};
use crate::from_row::from_row;
use crate::ids::UserId;

/// The numbers of one user, as a database answers them; moments in microseconds since 1970.
#[derive(Debug)]
pub(in crate::store) struct Numbers {
    pub user_id: String,
    pub page_views: i64,
    pub visit_count: i64,
    pub first_visit: i64,
    pub last_visit: i64,
}

from_row!(PgRow, SqliteRow => Numbers { user_id, page_views, visit_count, first_visit, last_visit });

/// One of a user's pages.
#[derive(Debug)]
pub(in crate::store) struct VisitedPage {
    pub user_id: String,
    pub url: String,
    pub views: i64,
}

from_row!(PgRow, SqliteRow => VisitedPage { user_id, url, views });

/// Puts numbers and pages together, in the order of `numbers`; `key` reads a user's key.
pub(in crate::store) fn together(
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
/// `user` are the columns of the user, `gap` is the gap that ends a visit as a difference of two `at`.
pub(in crate::store) fn starts(user: &str, gap: &str) -> String {
    format!(
        "headcount_starts AS (
             SELECT {user}, at,
                    CASE WHEN at - lag(at) OVER (PARTITION BY user_id ORDER BY at) <= {gap} THEN 0 ELSE 1 END AS is_start
             FROM headcount_views
         )"
    )
}

/// SQL of the pages of each user, from `headcount_views (user_id, at, url)`; `user` gives the key as it is told, `order` puts
/// URLs in the order of their bytes, `more` says of which users.
pub(in crate::store) fn pages(user: &str, order: &str, more: &str) -> String {
    format!(
        "SELECT {user} AS user_id, url, views FROM (
             SELECT user_id, url, count(*) AS views,
                    row_number() OVER (PARTITION BY user_id ORDER BY count(*) DESC, {order}) AS place
             FROM headcount_views WHERE url IS NOT NULL {more} GROUP BY user_id, url
         ) AS headcount_pages
         WHERE place <= {MOST_PAGES} ORDER BY user_id, place"
    )
}

/// SQL of the numbers of each user, from `headcount_starts`; `user` are the columns of the user, `first` and `last` the moments
/// in microseconds.
pub(in crate::store) fn numbers(user: &str, first: &str, last: &str) -> String {
    format!(
        "SELECT {user}, count(*) AS page_views, sum(is_start) AS visit_count,
                {first} AS first_visit, {last} AS last_visit
         FROM headcount_starts GROUP BY headcount_starts.user_id"
    )
}
