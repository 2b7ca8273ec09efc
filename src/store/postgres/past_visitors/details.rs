//! What users did: their numbers and their pages, in one statement, for which their views are read once.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::Views;
use crate::from_row::from_row;
use crate::store::past_visitors::statements::{Numbers, VisitedPage, numbers, pages, together};
use crate::store::past_visitors::{PastPlace, PastVisitor};

/// One of a user's pages with the user's numbers; one row without a page for who has none.
struct Detail {
    user_id: String,
    page_views: i64,
    visit_count: i64,
    /// Microseconds since 1970.
    first_visit: i64,
    last_visit: i64,
    url: Option<String>,
    /// Of the page.
    views: Option<i64>,
}

from_row!(PgRow => Detail { user_id, page_views, visit_count, first_visit, last_visit, url, views });

// Parameters besides those of every statement: $5 the users, $6 and $7 the place in the order.
impl Views<'_> {
    fn details(&self, limit: i64) -> String {
        let key_type = &self.event.user_id.type_name;
        format!(
            "WITH {views}, {starts}, headcount_numbers AS MATERIALIZED (
                 SELECT user_id, page_views, visit_count, first_visit, last_visit FROM ({numbers}) AS headcount_all
                 WHERE $6::bigint IS NULL OR visit_count < $6
                    OR (visit_count = $6 AND user_id > $7::text::{key_type})
                 ORDER BY visit_count DESC, user_id LIMIT {limit}
             ), headcount_seen AS ({pages})
             SELECT headcount_numbers.user_id::text AS user_id, page_views, visit_count, first_visit, last_visit, url, views
             FROM headcount_numbers LEFT JOIN headcount_seen ON headcount_seen.user_id = headcount_numbers.user_id
             ORDER BY visit_count DESC, headcount_numbers.user_id, views DESC, url COLLATE \"C\"",
            views = self.views_of_users("$5"),
            starts = Self::starts(),
            numbers = numbers("user_id", &self.micros("min(at)"), &self.micros("max(at)")),
            pages = pages(
                "user_id",
                "url COLLATE \"C\"",
                "AND user_id IN (SELECT user_id FROM headcount_numbers)"
            ),
        )
    }

    /// What the users with these keys did, in the order of their visits: from a place in it on, at most `limit`.
    pub(super) async fn of_users(
        &self,
        connection: &mut PgConnection,
        users: &[String],
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<PastVisitor>, sqlx::Error> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let details: Vec<Detail> = self
            .bound_as(self.details(limit))
            .bind(users)
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)))
            .fetch_all(connection)
            .await?;
        let mut visitors: Vec<Numbers> = Vec::new();
        let mut seen = Vec::new();
        for detail in details {
            if let (Some(url), Some(views)) = (detail.url, detail.views) {
                let user_id = detail.user_id.clone();
                seen.push(VisitedPage { user_id, url, views });
            }
            if visitors.last().is_none_or(|last| last.user_id != detail.user_id) {
                visitors.push(Numbers {
                    user_id: detail.user_id,
                    page_views: detail.page_views,
                    visit_count: detail.visit_count,
                    first_visit: detail.first_visit,
                    last_visit: detail.last_visit,
                });
            }
        }
        together(visitors, seen, Ok)
    }

    /// What these users did, in their order.
    pub(super) async fn in_order(
        &self,
        connection: &mut PgConnection,
        users: &[String],
    ) -> Result<Vec<PastVisitor>, sqlx::Error> {
        let limit = i64::try_from(users.len()).unwrap_or(i64::MAX);
        let mut visitors = self.of_users(connection, users, None, limit).await?;
        visitors.sort_by_key(|visitor| users.iter().position(|user| user == visitor.user_id.as_str()));
        Ok(visitors)
    }
}
