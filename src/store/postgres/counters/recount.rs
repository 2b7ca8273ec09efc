//! Counts a community from its events.

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::store::counters::Totals;
use crate::store::operations::{Backend as _, Recount, Runs, all_time, first_possible, no_events, spellings};
use crate::store::postgres::statement::{query, query_as};
use crate::store::postgres::stats::views;
use crate::store::schema::AppSchema;

impl Runs<Recount<'_>> for Postgres {
    async fn run(
        operation: &Recount<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Totals, sqlx::Error> {
        let event = app.event.as_ref().ok_or_else(no_events)?;
        let (context, community) = (&operation.context, operation.community.as_str());
        let mut transaction = Postgres::begin(connection, context.database).await?;
        query("INSERT INTO headcount.counter (community) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(community)
            .execute(&mut *transaction)
            .await?;
        // A statement of its own: the next sees all that was added up before.
        query("SELECT 1 FROM headcount.counter WHERE community = $1 FOR NO KEY UPDATE")
            .bind(community)
            .execute(&mut *transaction)
            .await?;
        // One snapshot: events, and what their batches have added.
        let sql = format!(
            "WITH {views}, headcount_gone AS (
                 DELETE FROM headcount.counter_delta WHERE community = $4
             ), headcount_left AS (
                 DELETE FROM headcount.counter_visitor AS v
                 WHERE v.community = $4
                   AND NOT EXISTS (SELECT 1 FROM headcount_views AS w WHERE w.user_id::text = v.user_id)
             ), headcount_come AS (
                 INSERT INTO headcount.counter_visitor (community, user_id)
                 SELECT DISTINCT $4, user_id::text FROM headcount_views WHERE user_id IS NOT NULL
                 ON CONFLICT DO NOTHING
             )
             UPDATE headcount.counter AS k
             SET page_views = (SELECT count(*) FROM headcount_views),
                 total_visitors = (SELECT count(DISTINCT user_id) FROM headcount_views),
                 first_view = (SELECT min(at) FROM headcount_views WHERE ours AND at >= $5),
                 counted = TRUE, pending = TRUE, checked_at = now()
             WHERE k.community = $4
             RETURNING page_views, total_visitors",
            views = views(context.until_ours, &context.types, app, event)
        );
        let (from, to) = all_time();
        let totals = query_as(AssertSqlSafe(sql))
            .bind(spellings(operation.community, app))
            .bind(from)
            .bind(to)
            .bind(community)
            .bind(first_possible())
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(totals)
    }
}
