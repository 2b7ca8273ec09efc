//! Counts a community from its events.

use chrono::Utc;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::{FIRST_TEXT, LAST_TEXT, all_views};
use crate::store::counters::Totals;
use crate::store::operations::{Backend as _, Recount, Runs, first_possible, no_events, spellings};
use crate::store::schema::AppSchema;

impl Runs<Recount<'_>> for Sqlite {
    async fn run(
        operation: &Recount<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Totals, sqlx::Error> {
        let event = app.event.as_ref().ok_or_else(no_events)?;
        let (context, community) = (&operation.context, operation.community.as_str());
        let mut transaction = Sqlite::begin(connection, context.database).await?;
        let views = all_views(context, event);
        // `?6` is the community in each.
        for sql in [
            "INSERT OR IGNORE INTO headcount_counter (community) VALUES (?6)".to_owned(),
            "DELETE FROM headcount_counter_delta WHERE community = ?6".to_owned(),
            "DELETE FROM headcount_counter_visitor WHERE community = ?6".to_owned(),
            format!(
                "WITH {views} INSERT INTO headcount_counter_visitor (community, user_id)
                 SELECT DISTINCT ?6, CAST(user_id AS TEXT) FROM headcount_views WHERE user_id IS NOT NULL"
            ),
        ] {
            bound(sqlx::query(AssertSqlSafe(sql)), operation, app)
                .bind(community)
                .execute(&mut *transaction)
                .await?;
        }
        let sql = format!(
            "WITH {views}
             SELECT count(*), min(CASE WHEN ours AND at >= ?7 THEN at END) FROM headcount_views WHERE ?6 IS NOT NULL"
        );
        let arguments = sqlx::query_as(AssertSqlSafe(sql))
            .bind(Json(spellings(operation.community, app)))
            .bind(FIRST_TEXT)
            .bind(LAST_TEXT)
            .bind(i64::MIN)
            .bind(i64::MAX)
            .bind(community)
            .bind(first_possible().timestamp_micros());
        let (page_views, first): (i64, Option<i64>) = arguments.fetch_one(&mut *transaction).await?;
        let totals = sqlx::query_as(
            "UPDATE headcount_counter
             SET page_views = ?2, first_view = ?3, counted = 1, pending = 1, checked_at = ?4,
                 total_visitors = (SELECT count(*) FROM headcount_counter_visitor AS v WHERE v.community = ?1)
             WHERE community = ?1 RETURNING page_views, total_visitors",
        )
        .bind(community)
        .bind(page_views)
        .bind(first)
        .bind(Utc::now().timestamp_micros())
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(totals)
    }
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

/// With the arguments of [`all_views`].
fn bound<'q>(query: Query<'q>, operation: &Recount<'_>, app: &AppSchema) -> Query<'q> {
    query
        .bind(Json(spellings(operation.community, app)))
        .bind(FIRST_TEXT)
        .bind(LAST_TEXT)
        .bind(i64::MIN)
        .bind(i64::MAX)
}
