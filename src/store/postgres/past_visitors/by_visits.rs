//! Past visitors in the order of their visits.
//!
//! Nobody has more visits than views, and to count views takes less than to find where visits begin, for which the views of all
//! have to be sorted. So the views are counted first; of those who have the most, the visits. Where the last of the page has
//! more visits than anybody else has views, nobody else belongs on it. Otherwise more are tried, or all.
//!
//! What is of all users is counted here ([`counting`]), or by Postgres where keys are texts or there are too many views. Both read
//! each of their views in the table, unless there are indexes of visits: the community is an expression over `metadata`, and
//! Postgres makes no index-only scan where it would need the column itself.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tokio::task::spawn_blocking;

use super::Views;
use super::counting::{self, MOST_VIEWS, SentKey, UserKey, most_views, most_visits, sent_moment};
use crate::from_row::from_row;
use crate::store::past_visitors::{PastPlace, PastVisitor};

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

// Parameters besides those of every statement: of visits $5 and $6 the place in the order.
impl Views<'_> {
    /// Users in the order of their visits.
    pub(super) async fn by_visits(
        &self,
        connection: &mut PgConnection,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<PastVisitor>, sqlx::Error> {
        let all = self.all(connection).await?;
        let mut sent = SentKey::of(&self.event.user_id);
        if after.is_none_or(|after| after.value > FEW) {
            let found = self
                .of_most_views(connection, &all, &mut sent, after, limit)
                .await?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let here = match sent {
            Some(sent) => self.guests_here(connection, &all, sent, after, limit).await?,
            None => None,
        };
        let users = match here {
            Some(users) => users,
            None => self.guests(connection, &all, after, limit).await?,
        };
        self.of_users(connection, &users, None, limit).await
    }

    /// The same where it can be told from those with the most views. `sent` becomes `None` where these are not counted here.
    async fn of_most_views(
        &self,
        connection: &mut PgConnection,
        all: &str,
        sent: &mut Option<SentKey>,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Option<Vec<PastVisitor>>, sqlx::Error> {
        let here = match *sent {
            Some(sent) => self.viewers_here(connection, all, sent).await?,
            None => None,
        };
        let viewers = if let Some(viewers) = here {
            viewers
        } else {
            *sent = None;
            self.viewers(connection, all).await?
        };
        let tried = |count: usize| -> Vec<String> {
            let tried = viewers.iter().take(count);
            tried.map(|viewer| viewer.user_id.clone()).collect()
        };
        let mut count = TRIED;
        if let Some(after) = after {
            let Some(enough) = enough(&viewers, after.value) else {
                return Ok(None);
            };
            count = count.max(enough);
        }
        let found = self.of_users(connection, &tried(count), after, limit).await?;
        let Some(others) = viewers.get(count) else {
            return Ok(Some(found));
        };
        let is_full = i64::try_from(found.len()).is_ok_and(|found| found >= limit);
        let Some(last) = found.last().filter(|_| is_full) else {
            return Ok(None);
        };
        if last.visit_count > others.views {
            return Ok(Some(found));
        }
        // With more users, the last of the page has no fewer visits.
        let Some(count) = enough(&viewers, last.visit_count) else {
            return Ok(None);
        };
        let found = self.of_users(connection, &tried(count), after, limit).await?;
        Ok(Some(found))
    }

    /// Those with the most views, one more than are tried, as counted here; `None` where the views are too many.
    async fn viewers_here(
        &self,
        connection: &mut PgConnection,
        all: &str,
        sent: SentKey,
    ) -> Result<Option<Vec<Viewer>>, sqlx::Error> {
        let sql = sent_views(all, &format!("string_agg({}, ''::bytea)", sent.sql()));
        let (users,): (Option<Vec<u8>>,) = self.bound_as(sql).fetch_one(connection).await?;
        counted(move || {
            let users = users.unwrap_or_default();
            let viewers = most_views(sent.keys(&users)?, MOST_TRIED + 1).into_iter();
            let viewers = viewers.map(|(user, views)| Viewer {
                user_id: sent.text(user),
                views,
            });
            Some(viewers.collect())
        })
        .await
    }

    /// The same, as Postgres counts them.
    async fn viewers(&self, connection: &mut PgConnection, all: &str) -> Result<Vec<Viewer>, sqlx::Error> {
        let limit = MOST_TRIED + 1;
        let sql = format!(
            "SELECT user_id::text, views FROM (
                 SELECT user_id, count(*) AS views FROM ({all}) AS headcount_ranges
                 GROUP BY user_id ORDER BY views DESC LIMIT {limit}
             ) AS headcount_viewers
             ORDER BY views DESC"
        );
        self.bound_as(sql).fetch_all(connection).await
    }

    /// Users of all, from a place in the order on, as counted here; `None` where the views are too many.
    async fn guests_here(
        &self,
        connection: &mut PgConnection,
        all: &str,
        sent: SentKey,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Option<Vec<String>>, sqlx::Error> {
        let what = format!(
            "string_agg({user}, ''::bytea), string_agg({at}, ''::bytea)",
            user = sent.sql(),
            at = sent_moment(&self.event.timestamp)
        );
        let (users, moments): (Option<Vec<u8>>, Option<Vec<u8>>) = self
            .bound_as(sent_views(all, &what))
            .fetch_one(connection)
            .await?;
        let after = after.map(|after| {
            let last: Option<UserKey> = self.key_of(after).and_then(|key| sent.parse(&key));
            (after.value, last)
        });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        counted(move || {
            let (users, moments) = (users.unwrap_or_default(), moments.unwrap_or_default());
            let views = sent.keys(&users)?.zip(counting::moments(&moments)).collect();
            let found = most_visits(views, after, limit).into_iter();
            Some(found.map(|user| sent.text(user)).collect())
        })
        .await
    }

    /// The same, as Postgres counts them.
    async fn guests(
        &self,
        connection: &mut PgConnection,
        all: &str,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let sql = format!(
            "WITH headcount_views AS ({all}), {starts}
             SELECT user_id::text FROM (
                 SELECT user_id, sum(is_start) AS visits FROM headcount_starts GROUP BY user_id
             ) AS headcount_visits
             WHERE $5::bigint IS NULL OR visits < $5 OR (visits = $5 AND user_id > $6::text::{key_type})
             ORDER BY visits DESC, headcount_visits.user_id LIMIT {limit}",
            starts = Self::starts(),
            key_type = self.event.user_id.type_name,
        );
        let guests: Vec<(String,)> = self
            .bound_as(sql)
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)))
            .fetch_all(connection)
            .await?;
        Ok(guests.into_iter().map(|(user,)| user).collect())
    }
}

/// SQL of what is sent of all views, and of one more than may be.
fn sent_views(all: &str, what: &str) -> String {
    format!(
        "SELECT {what} FROM (
             SELECT user_id, at FROM ({all}) AS headcount_ranges LIMIT {MOST_VIEWS} + 1
         ) AS headcount_sent"
    )
}

/// What is counted, where no request has to wait for it.
async fn counted<T: Send + 'static>(count: impl FnOnce() -> T + Send + 'static) -> Result<T, sqlx::Error> {
    spawn_blocking(count)
        .await
        .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
}

/// How many of these have at least so many views; `None` where there may be more than these.
fn enough(viewers: &[Viewer], least: i64) -> Option<usize> {
    let is_all = viewers.len() <= MOST_TRIED;
    let first_less = viewers.iter().position(|viewer| viewer.views < least);
    first_less.or(is_all.then_some(viewers.len()))
}
