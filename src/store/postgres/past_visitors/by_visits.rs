//! Past visitors in the order of their visits.
//!
//! Nobody has more visits than views, and to count views takes half as long as to find where visits begin, for which
//! the views of all have to be sorted. So the views are counted first; of those who have the most, the visits. Where the last
//! of the page has more visits than anybody else has views, nobody else belongs on it. Otherwise more are tried, or all.
//!
//! Both statements that are of all users read each of their views in the table, unless there are indexes of visits: the
//! community is an expression over `metadata`, and Postgres makes no index-only scan where it would need the column itself.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::Views;
use crate::from_row::from_row;
use crate::store::past_visitors::PastPlace;

/// Of so many users with the most views the visits are counted first.
const TRIED: usize = 500;
/// And of as many as are certain to suffice then, unless they are more than these.
const MOST_TRIED: usize = 4_000;
/// From so few visits on there are too many others with as many views: those of all are counted at once.
const FEW: i64 = 2;

/// A user, and how many views.
struct Viewer {
    user_id: String,
    views: i64,
}

from_row!(PgRow => Viewer { user_id, views });

/// A user, and how many visits.
struct Guest {
    user_id: String,
    visits: i64,
}

from_row!(PgRow => Guest { user_id, visits });

// Parameters besides those of every statement: of visits $5 and $6 the place in the order, $7 the users.
impl Views<'_> {
    /// Users in the order of their visits.
    pub(super) async fn by_visits(
        &self,
        connection: &mut PgConnection,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut guests = None;
        if after.is_none_or(|after| after.value > FEW) {
            guests = self.of_most_views(connection, after, limit).await?;
        }
        let guests = if let Some(guests) = guests {
            guests
        } else {
            let all = format!("headcount_views AS ({})", self.all(connection).await?);
            self.guests(connection, &all, None, after, limit).await?
        };
        Ok(guests.into_iter().map(|guest| guest.user_id).collect())
    }

    /// The same where it can be told from those with the most views.
    async fn of_most_views(
        &self,
        connection: &mut PgConnection,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Option<Vec<Guest>>, sqlx::Error> {
        let viewers = self.viewers(connection).await?;
        let mut count = TRIED;
        if let Some(after) = after {
            let Some(enough) = enough(&viewers, after.value) else {
                return Ok(None);
            };
            count = count.max(enough);
        }
        let guests = self.tried(connection, &viewers, count, after, limit).await?;
        let Some(others) = viewers.get(count) else {
            return Ok(Some(guests));
        };
        let is_full = i64::try_from(guests.len()).is_ok_and(|found| found >= limit);
        let Some(last) = guests.last().filter(|_| is_full) else {
            return Ok(None);
        };
        if last.visits > others.views {
            return Ok(Some(guests));
        }
        // With more users, the last of the page has no fewer visits.
        match enough(&viewers, last.visits) {
            Some(count) => self
                .tried(connection, &viewers, count, after, limit)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// Users among the first `count` of these.
    async fn tried(
        &self,
        connection: &mut PgConnection,
        viewers: &[Viewer],
        count: usize,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<Guest>, sqlx::Error> {
        let users: Vec<&str> = viewers
            .iter()
            .take(count)
            .map(|viewer| &*viewer.user_id)
            .collect();
        let views = self.views_of_users("$7");
        self.guests(connection, &views, Some(&users), after, limit).await
    }

    /// Those with the most views: one more than are tried.
    async fn viewers(&self, connection: &mut PgConnection) -> Result<Vec<Viewer>, sqlx::Error> {
        let limit = MOST_TRIED + 1;
        let sql = format!(
            "SELECT user_id::text, views FROM (
                 SELECT user_id, count(*) AS views FROM ({ranges}) AS headcount_ranges
                 GROUP BY user_id ORDER BY views DESC LIMIT {limit}
             ) AS headcount_viewers
             ORDER BY views DESC",
            ranges = self.all(connection).await?,
        );
        self.bound_as(sql).fetch_all(connection).await
    }

    /// Users of `views`, which is SQL of `headcount_views`, from a place in the order on.
    async fn guests(
        &self,
        connection: &mut PgConnection,
        views: &str,
        users: Option<&[&str]>,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<Guest>, sqlx::Error> {
        let sql = format!(
            "WITH {views}, {starts}
             SELECT user_id::text, visits FROM (
                 SELECT user_id, sum(is_start) AS visits FROM headcount_starts GROUP BY user_id
             ) AS headcount_visits
             WHERE $5::bigint IS NULL OR visits < $5 OR (visits = $5 AND user_id > $6::text::{key_type})
             ORDER BY visits DESC, headcount_visits.user_id LIMIT {limit}",
            starts = Self::starts(),
            key_type = self.event.user_id.type_name,
        );
        let bound = self
            .bound_as(sql)
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)));
        match users {
            Some(users) => bound.bind(users).fetch_all(connection).await,
            None => bound.fetch_all(connection).await,
        }
    }
}

/// How many of these have at least so many views; `None` where there may be more than these.
fn enough(viewers: &[Viewer], least: i64) -> Option<usize> {
    let is_all = viewers.len() <= MOST_TRIED;
    let first_less = viewers.iter().position(|viewer| viewer.views < least);
    first_less.or(is_all.then_some(viewers.len()))
}
