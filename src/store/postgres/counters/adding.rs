//! What batches add: noted with the batch, added up by the holder of the lease.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres};

use crate::store::counter_sql::holds;
use crate::store::counters::Folded;
use crate::store::operations::{AddDeltas, Backend as _, FOLD_COMMUNITIES, FOLD_ROWS, Fold, Runs, deltas};
use crate::store::postgres::statement::{query, query_scalar};
use crate::store::schema::AppSchema;

impl Runs<AddDeltas<'_>> for Postgres {
    async fn run(
        operation: &AddDeltas<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let deltas = deltas(operation.batch, operation.types);
        if deltas.is_empty() {
            return Ok(());
        }
        let communities: Vec<&str> = deltas.keys().map(|(community, _)| community.as_str()).collect();
        let users: Vec<&str> = deltas.keys().map(|(_, user)| user.as_str()).collect();
        let counts: Vec<i64> = deltas.values().map(|delta| delta.views).collect();
        let firsts: Vec<Option<DateTime<Utc>>> = deltas.values().map(|delta| delta.first).collect();
        query(
            "INSERT INTO headcount.counter_delta (community, user_id, views, first_view)
             SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::timestamptz[])",
        )
        .bind(communities)
        .bind(users)
        .bind(counts)
        .bind(firsts)
        .execute(connection)
        .await
        .map(drop)
    }
}

impl Runs<Fold<'_>> for Postgres {
    async fn run(
        operation: &Fold<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Folded>, sqlx::Error> {
        let context = &operation.context;
        let mut transaction = Postgres::begin(connection, context.database).await?;
        if !holds::<Postgres>(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        // A statement of its own: the next sees what was committed by whoever had the rows before.
        let locked: Vec<String> = query_scalar(
            "SELECT k.community FROM headcount.counter AS k
             WHERE k.counted AND k.community IN (SELECT d.community FROM headcount.counter_delta AS d)
             ORDER BY k.community LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
        )
        .bind(FOLD_COMMUNITIES)
        .fetch_all(&mut *transaction)
        .await?;
        if locked.is_empty() {
            return Ok(Some(Folded::default()));
        }
        let rows: i64 = query_scalar(
            "WITH gone AS (
                 DELETE FROM headcount.counter_delta AS d
                 WHERE d.id IN (SELECT id FROM headcount.counter_delta WHERE community = ANY ($1::text[])
                                ORDER BY id LIMIT $2)
                 RETURNING d.community, d.user_id, d.views, d.first_view
             ), seen AS (
                 INSERT INTO headcount.counter_visitor (community, user_id)
                 SELECT DISTINCT community, user_id FROM gone ON CONFLICT DO NOTHING
                 RETURNING community
             ), added AS (
                 SELECT community, sum(views)::bigint AS views, min(first_view) AS first_view,
                        (SELECT count(*) FROM seen WHERE seen.community = gone.community) AS visitors
                 FROM gone GROUP BY community
             ), changed AS (
                 UPDATE headcount.counter AS k
                 SET page_views = k.page_views + a.views,
                     total_visitors = k.total_visitors + a.visitors,
                     pending = TRUE,
                     -- The app's own views count until the sidecar's first: that has moved.
                     counted = NOT ($3 AND a.first_view IS NOT NULL
                                       AND (k.first_view IS NULL OR a.first_view < k.first_view))
                 FROM added AS a WHERE k.community = a.community
             )
             SELECT count(*) FROM gone",
        )
        .bind(locked)
        .bind(FOLD_ROWS)
        .bind(context.until_ours)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(Folded {
            rows: rows.unsigned_abs(),
        }))
    }
}
