//! Past visitors in the order of a moment, their last view or their first: the index of a community's events is walked
//! backwards, in growing steps, until the page is full. Of a step each user is looked up once, so that few who have seen much
//! take little more than their views are read for. Where a step was of many of whom too few belong on the page, the moments
//! of all are read at once instead, if that reads no more than the next step would take.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::super::moment;
use super::Views;
use crate::from_row::from_row;
use crate::store::past_visitors::{PastPlace, PastSort};
use crate::store::schema::{Column, EventTable};

/// Views that the walk reads first; each further time four times as many.
const FIRST_STEP: i64 = 500;
/// Bounds what one statement reads, as each has a timeout of its own.
const LARGEST_STEP: i64 = 512_000;
/// To look a user up takes about as long as to read so many views one after the other.
const LOOK_UP: i64 = 8;

/// The moment of the place in the order.
fn place(timestamp: &Column) -> String {
    moment(
        timestamp,
        "(timestamptz 'epoch' + $5::bigint * interval '1 microsecond')",
    )
}

/// What a step has read, and one of the users found; no row has another place.
struct Found {
    /// Views.
    read: i64,
    /// Who were looked up, unless the page is full.
    users: i64,
    /// Of the last view: where the next step begins.
    last_at: Option<i64>,
    last_user: Option<String>,
    user_id: Option<String>,
}

from_row!(PgRow => Found { read, users, last_at, last_user, user_id });

/// A user of all views read at once.
struct Reader {
    user_id: String,
    /// Of all users.
    views: i64,
}

from_row!(PgRow => Reader { user_id, views });

// Parameters besides those of every statement: $5 and $6 the place in the order.
impl Views<'_> {
    /// Users in the order of their last or first view, at most `limit`, and always one row. Each range is limited, so that the
    /// index is walked. Of a user's views in the step one may be the last, or first, of all: whether it is, is looked up in the
    /// page's order, until the page is full (OFFSET keeps the condition from being moved before the order).
    fn step(&self, sort: PastSort, step: i64, limit: i64) -> String {
        let EventTable {
            timestamp,
            table,
            user_id,
            ..
        } = self.event;
        let (which, beyond) = which(sort);
        let place = place(timestamp);
        let more = format!(
            "AND ($5::bigint IS NULL
                  OR {timestamp} <= {place} AND ({timestamp} < {place} OR {user_id} > $6::text::{key_type}))
             ORDER BY {timestamp} DESC, {user_id} LIMIT {step}",
            key_type = user_id.type_name,
        );
        format!(
            "WITH headcount_read AS MATERIALIZED (
                 SELECT user_id, at FROM ({ranges}) AS headcount_ranges ORDER BY at DESC, user_id LIMIT {step}
             ), headcount_moments AS MATERIALIZED (
                 SELECT user_id, {which}(at) AS at FROM headcount_read GROUP BY user_id
             )
             SELECT (SELECT count(*) FROM headcount_read) AS read, (SELECT count(*) FROM headcount_moments) AS users,
                    {micros} AS last_at, headcount_last.user_id::text AS last_user,
                    headcount_found.user_id::text AS user_id
             FROM (SELECT) AS headcount_one
             LEFT JOIN (SELECT user_id, at FROM headcount_read ORDER BY at, user_id DESC LIMIT 1) AS headcount_last ON true
             LEFT JOIN (
                 SELECT headcount_view.user_id, headcount_view.at
                 FROM (SELECT user_id, at FROM headcount_moments ORDER BY at DESC, user_id OFFSET 0) AS headcount_view
                 WHERE (SELECT true FROM {table}
                        WHERE {is_view} AND {timestamp} {beyond} headcount_view.at LIMIT 1) IS NULL
                 ORDER BY headcount_view.at DESC, headcount_view.user_id LIMIT {limit}
             ) AS headcount_found ON true
             ORDER BY headcount_found.at DESC, headcount_found.user_id",
            micros = self.micros("headcount_last.at"),
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
        let mut step = FIRST_STEP;
        loop {
            let missing = limit - i64::try_from(users.len()).unwrap_or(limit);
            let rows: Vec<Found> = self
                .bound_as(self.step(sort, step, missing))
                .bind(place.as_ref().map(|(value, _)| *value))
                .bind(place.as_ref().and_then(|(_, user)| user.as_deref()))
                .fetch_all(&mut *connection)
                .await?;
            let Some(first) = rows.first() else {
                return Ok(users);
            };
            let (read, looked_up) = (first.read, first.users);
            place = first.last_at.map(|at| (at, first.last_user.clone()));
            users.extend(rows.into_iter().filter_map(|row| row.user_id));
            if read < step || i64::try_from(users.len()).is_ok_and(|found| found >= limit) {
                return Ok(users);
            }
            let next = (step * 4).min(LARGEST_STEP);
            if step > FIRST_STEP && LOOK_UP * looked_up > read {
                let most = next + LOOK_UP * looked_up * next / step;
                if let Some(users) = self.at_once(connection, sort, after, limit, most).await? {
                    return Ok(users);
                }
            }
            step = next;
        }
    }

    /// The same of all views at once; `None` where these are more than `most`, which is all that is read of them.
    async fn at_once(
        &self,
        connection: &mut PgConnection,
        sort: PastSort,
        after: Option<&PastPlace>,
        limit: i64,
        most: i64,
    ) -> Result<Option<Vec<String>>, sqlx::Error> {
        let (timestamp, key_type) = (&self.event.timestamp, &self.event.user_id.type_name);
        let (which, _) = which(sort);
        let sql = format!(
            "SELECT user_id::text, views FROM (
                 SELECT user_id, {which}(at) AS at, (sum(count(*)) OVER ())::bigint AS views
                 FROM (SELECT user_id, at FROM ({views}) AS headcount_ranges LIMIT {most} + 1) AS headcount_read
                 GROUP BY user_id
             ) AS headcount_moments
             WHERE views > {most}
                OR $5::bigint IS NULL OR at < {place} OR (at = {place} AND user_id > $6::text::{key_type})
             ORDER BY at DESC, headcount_moments.user_id LIMIT {limit}",
            place = place(timestamp),
            views = self.all(connection).await?,
        );
        let rows: Vec<Reader> = self
            .bound_as(sql)
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)))
            .fetch_all(connection)
            .await?;
        let is_all = rows.first().is_none_or(|row| row.views <= most);
        Ok(is_all.then(|| rows.into_iter().map(|row| row.user_id).collect()))
    }
}

/// Which of a user's moments is sorted by, and how none is that is beyond it.
fn which(sort: PastSort) -> (&'static str, &'static str) {
    if sort == PastSort::LastVisit {
        ("max", ">")
    } else {
        ("min", "<")
    }
}
