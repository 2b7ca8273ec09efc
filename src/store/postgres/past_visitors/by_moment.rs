//! Past visitors in the order of a moment, their last view or their first: the index of a community's events is walked
//! backwards until the page is full. Where few have seen much, or fewer are left than the page holds, that would be the whole
//! window, each view of which is looked up: then the moments of all are read at once, which takes a small part of that.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::moment;
use super::Views;
use crate::from_row::from_row;
use crate::store::past_visitors::{PastPlace, PastSort};
use crate::store::schema::{Column, EventTable};

/// Rows that the walk reads first, and then.
const CHUNKS: [i64; 2] = [500, 2_000];

/// The moment of the place in the order.
fn place(timestamp: &Column) -> String {
    moment(
        timestamp,
        "(timestamptz 'epoch' + $5::bigint * interval '1 microsecond')",
    )
}

struct Candidate {
    user_id: String,
    at: i64,
    is_it: bool,
}

from_row!(PgRow => Candidate { user_id, at, is_it });

// Parameters besides those of every statement: $5 and $6 the place in the order.
impl Views<'_> {
    /// Users in the order of their last or first view. Each range is limited, so that the index is walked; the outer query
    /// looks whether a view is its user's last, or first.
    fn chunk(&self, sort: PastSort, limit: i64) -> String {
        let EventTable {
            timestamp,
            table,
            user_id,
            ..
        } = self.event;
        let beyond = if sort == PastSort::LastVisit { ">" } else { "<" };
        let place = place(timestamp);
        let more = format!(
            "AND ($5::bigint IS NULL
                  OR {timestamp} <= {place} AND ({timestamp} < {place} OR {user_id} > $6::text::{key_type}))
             ORDER BY {timestamp} DESC, {user_id} LIMIT {limit}",
            key_type = user_id.type_name,
        );
        format!(
            "SELECT headcount_view.user_id::text AS user_id, {micros} AS at,
                    (SELECT true FROM {table}
                     WHERE {is_view} AND {timestamp} {beyond} headcount_view.at LIMIT 1) IS NULL AS is_it
             FROM (
                 SELECT user_id, at FROM ({ranges}) AS headcount_ranges ORDER BY at DESC, user_id LIMIT {limit}
             ) AS headcount_view
             ORDER BY headcount_view.at DESC, headcount_view.user_id",
            micros = self.micros("headcount_view.at"),
            is_view = self.is_view(&format!("{user_id} = headcount_view.user_id")),
            ranges = self.ranges(&more),
        )
    }

    pub(super) async fn by_moment(
        &self,
        connection: &mut PgConnection,
        sort: PastSort,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut place = after.map(|after| (after.value, self.key_of(after)));
        let mut users: Vec<String> = Vec::new();
        for chunk in CHUNKS {
            let rows: Vec<Candidate> = self
                .bound_as(self.chunk(sort, chunk))
                .bind(place.as_ref().map(|(value, _)| *value))
                .bind(place.as_ref().and_then(|(_, user)| user.as_deref()))
                .fetch_all(&mut *connection)
                .await?;
            let is_last = i64::try_from(rows.len()).is_ok_and(|read| read < chunk);
            place = rows
                .last()
                .map(|row| (row.at, Some(row.user_id.clone())))
                .or(place);
            for row in rows {
                // Two views of one moment are both the last.
                if row.is_it && !users.contains(&row.user_id) {
                    users.push(row.user_id);
                }
            }
            users.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            if is_last || i64::try_from(users.len()).is_ok_and(|found| found == limit) {
                return Ok(users);
            }
        }
        let rows: Vec<Candidate> = self
            .bound_as(self.at_once(sort, &self.all(connection).await?, limit))
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)))
            .fetch_all(connection)
            .await?;
        Ok(rows.into_iter().map(|row| row.user_id).collect())
    }

    /// The same of all views at once.
    fn at_once(&self, sort: PastSort, views: &str, limit: i64) -> String {
        let (timestamp, key_type) = (&self.event.timestamp, &self.event.user_id.type_name);
        let which = if sort == PastSort::LastVisit { "max" } else { "min" };
        format!(
            "SELECT user_id::text, {micros} AS at, true AS is_it FROM (
                 SELECT user_id, {which}(at) AS at FROM ({views}) AS headcount_ranges GROUP BY user_id
             ) AS headcount_moments
             WHERE $5::bigint IS NULL OR at < {place} OR (at = {place} AND user_id > $6::text::{key_type})
             ORDER BY at DESC, headcount_moments.user_id LIMIT {limit}",
            micros = self.micros("at"),
            place = place(timestamp),
        )
    }
}
