//! Statements of counters on Postgres.
//!
//! Locks, in one order: the key of the lease's row, counters in the order of their keys, the app's rows in that of theirs, the
//! whole of the lease's row. None waits for a lock while it holds one, except for a counter's row, and for a renewal of the
//! lease, which waits for nothing; rows of the app's that are locked are left for the next time.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use uuid::Uuid;

use super::moment;
use super::statement::{query, query_as, query_scalar};
use super::stats::views;
use crate::ids::CommunityId;
use crate::store::counters::{Comparison, ComparisonRow, Folded, Lease, Published, Totals};
use crate::store::operations::{
    AddDeltas, Backend as _, Compare, FOLD_COMMUNITIES, FOLD_ROWS, FORGET_ROWS, Fold, ForgetAbsent,
    Forgotten, LastPass, NoteChecked, NotePass, Pending, Publish, Recount, ReleaseLease, Runs, ShownPresent,
    TakeLease, Unchecked, Uncounted, all_time, definition, deltas, first_possible, greatest, greatest_totals,
    no_events, spellings,
};
use crate::store::schema::{AppSchema, Column, CounterColumns, CounterTables};

/// Whether the sidecar's own tables are there, and the role may use them.
pub(super) async fn state(connection: &mut PgConnection) -> Result<CounterTables, sqlx::Error> {
    let tables: Option<(bool, String)> = query_as(
        "SELECT bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                         AND (c.relname = 'counter_delta' OR has_table_privilege(c.oid, 'UPDATE'))
                         AND (c.relname = 'counter_lease' OR has_table_privilege(c.oid, 'INSERT')
                                                          AND has_table_privilege(c.oid, 'DELETE'))),
                quote_ident(current_user)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'headcount' AND c.relkind = 'r'
           AND c.relname IN ('counter', 'counter_visitor', 'counter_delta', 'counter_lease')
         HAVING count(*) = 4",
    )
    .fetch_optional(connection)
    .await?;
    Ok(match tables {
        None => CounterTables::Missing,
        Some((true, _)) => CounterTables::Usable,
        Some((false, role)) => CounterTables::Forbidden { role },
    })
}

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

impl Runs<TakeLease<'_>> for Postgres {
    /// A renewal goes on while the holder's own transaction has locked the row's key only ([`holds`]), which it does not
    /// change; it waits while such a transaction ends with a change of the row. Taking it from another does neither: it is
    /// not taken then.
    async fn run(
        operation: &TakeLease<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Lease>, sqlx::Error> {
        const SET: &str = "SET holder = $1, expires_at = clock_timestamp() + make_interval(secs => $2)";
        const SINCE: &str = "extract(epoch FROM clock_timestamp() - l.round_at)::float8";
        let mut transaction = Postgres::begin(connection, operation.context.database).await?;
        let renew = format!(
            "UPDATE headcount.counter_lease AS l {SET}
             WHERE l.holder = $1 AND l.expires_at > clock_timestamp() RETURNING {SINCE}"
        );
        let take = format!(
            "WITH free AS (SELECT name FROM headcount.counter_lease
                           WHERE expires_at IS NULL OR expires_at <= clock_timestamp()
                           FOR UPDATE SKIP LOCKED)
             UPDATE headcount.counter_lease AS l {SET} FROM free WHERE l.name = free.name RETURNING {SINCE}"
        );
        let mut taken: Option<Option<f64>> = None;
        for sql in [renew, take] {
            taken = query_scalar(AssertSqlSafe(sql))
                .bind(operation.holder)
                .bind(operation.ttl.as_secs_f64())
                .fetch_optional(&mut *transaction)
                .await?;
            if taken.is_some() {
                break;
            }
        }
        transaction.commit().await?;
        Ok(taken.map(|since| Lease {
            since_round: since.map(|since| Duration::try_from_secs_f64(since).unwrap_or_default()),
        }))
    }
}

impl Runs<ReleaseLease> for Postgres {
    async fn run(
        ReleaseLease(holder): &ReleaseLease,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        alone(
            connection,
            "UPDATE headcount.counter_lease SET expires_at = NULL WHERE holder = $1",
            |query| query.bind(*holder),
        )
        .await
        .map(drop)
    }
}

/// One statement in a transaction of its own, as poolers need it.
async fn alone(
    connection: &mut PgConnection,
    sql: &'static str,
    bind: impl FnOnce(
        sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>,
) -> Result<u64, sqlx::Error> {
    let mut transaction = sqlx::Connection::begin(connection).await?;
    let done = bind(query(sql)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}

/// Whether the holder still has the lease. Until the transaction ends nobody can take it.
async fn holds(connection: &mut PgConnection, holder: Uuid) -> Result<bool, sqlx::Error> {
    let held: Option<i32> = query_scalar(
        "SELECT 1 FROM headcount.counter_lease WHERE holder = $1 AND expires_at > clock_timestamp() FOR KEY SHARE",
    )
    .bind(holder)
    .fetch_optional(connection)
    .await?;
    Ok(held.is_some())
}

impl Runs<Fold<'_>> for Postgres {
    async fn run(
        operation: &Fold<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Folded>, sqlx::Error> {
        let context = &operation.context;
        let mut transaction = Postgres::begin(connection, context.database).await?;
        if !holds(&mut transaction, operation.holder).await? {
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

fn keys_of(communities: &[CommunityId]) -> Vec<&str> {
    communities.iter().map(CommunityId::as_str).collect()
}

/// Keys as communities.
fn communities(keys: Vec<String>) -> Vec<CommunityId> {
    keys.into_iter().map(CommunityId::new).collect()
}

impl Runs<Uncounted<'_>> for Postgres {
    async fn run(
        operation: &Uncounted<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let keys = query_scalar(
            "SELECT community FROM headcount.counter WHERE NOT counted AND community <> ALL ($2::text[])
             UNION
             SELECT d.community FROM headcount.counter_delta AS d
             WHERE NOT EXISTS (SELECT 1 FROM headcount.counter AS k WHERE k.community = d.community)
               AND d.community <> ALL ($2::text[])
             LIMIT $1",
        )
        .bind(operation.limit)
        .bind(keys_of(operation.postponed))
        .fetch_all(connection)
        .await?;
        Ok(communities(keys))
    }
}

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

/// The statement of [`Compare`].
fn compare_sql(operation: &Compare<'_>, app: &AppSchema) -> Result<String, sqlx::Error> {
    let event = app.event.as_ref().ok_or_else(no_events)?;
    let of = |column: Option<&Column>| {
        let column = column?;
        let (community, id) = (app.community.as_ref()?, &app.community.as_ref()?.id);
        let can_be = id.is_key(operation.community.as_str());
        can_be.then(|| {
            format!(
                "(SELECT {column}::bigint FROM {table} WHERE {id} = $4::text::{key})",
                table = community.table,
                key = id.type_name
            )
        })
    };
    let counters = app.counters.as_ref();
    let column = |pick: fn(&CounterColumns) -> Option<&Column>| {
        of(counters.and_then(pick)).unwrap_or_else(|| "NULL::bigint".to_owned())
    };
    Ok(format!(
        "WITH {views}, headcount_added AS (
             SELECT user_id, views, first_view FROM headcount.counter_delta WHERE community = $4
         )
         SELECT (SELECT count(*) FROM headcount_views) AS counted_views,
                (SELECT count(DISTINCT user_id) FROM headcount_views) AS counted_visitors,
                k.page_views + coalesce((SELECT sum(views)::bigint FROM headcount_added), 0) AS kept_views,
                k.total_visitors + (SELECT count(DISTINCT a.user_id) FROM headcount_added AS a
                                    WHERE NOT EXISTS (SELECT 1 FROM headcount.counter_visitor AS v
                                                      WHERE v.community = $4 AND v.user_id = a.user_id))
                    AS kept_visitors,
                coalesce(k.counted AND NOT ($5 AND EXISTS (
                    SELECT 1 FROM headcount_added AS a
                    WHERE a.first_view < k.first_view OR (a.first_view IS NOT NULL AND k.first_view IS NULL))),
                    FALSE) AS is_settled,
                coalesce(k.counted AND NOT k.pending AND NOT EXISTS (SELECT 1 FROM headcount_added), FALSE)
                    AS is_written,
                {shown_views} AS shown_views, {shown_visitors} AS shown_visitors
         FROM (SELECT 1) AS one LEFT JOIN headcount.counter AS k ON k.community = $4",
        views = views(operation.context.until_ours, &operation.context.types, app, event),
        shown_views = column(|counters| counters.page_views.as_ref()),
        shown_visitors = column(|counters| counters.total_visitors.as_ref()),
    ))
}

impl Runs<Compare<'_>> for Postgres {
    async fn run(
        operation: &Compare<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Comparison, sqlx::Error> {
        let (from, to) = all_time();
        let row: ComparisonRow = query_as(AssertSqlSafe(compare_sql(operation, app)?))
            .bind(spellings(operation.community, app))
            .bind(from)
            .bind(to)
            .bind(operation.community.as_str())
            .bind(operation.context.until_ours)
            .fetch_one(connection)
            .await?;
        Ok(row.compared(greatest_totals(app)))
    }
}

impl Runs<NoteChecked<'_>> for Postgres {
    async fn run(
        NoteChecked(community): &NoteChecked<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let community = community.as_str().to_owned();
        alone(
            connection,
            "UPDATE headcount.counter SET checked_at = now() WHERE community = $1",
            |query| query.bind(community),
        )
        .await
        .map(drop)
    }
}

impl Runs<ShownPresent> for Postgres {
    async fn run(
        ShownPresent(limit): &ShownPresent,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<(CommunityId, i64)>, sqlx::Error> {
        let rows: Vec<(String, i64)> = query_as(
            "SELECT community, current_visitors FROM headcount.counter WHERE current_visitors <> 0 LIMIT $1",
        )
        .bind(limit)
        .fetch_all(connection)
        .await?;
        let shown = rows
            .into_iter()
            .map(|(key, shown)| (CommunityId::new(key), shown));
        Ok(shown.collect())
    }
}

impl Runs<Pending> for Postgres {
    async fn run(
        Pending(limit): &Pending,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let keys = query_scalar("SELECT community FROM headcount.counter WHERE pending LIMIT $1")
            .bind(limit)
            .fetch_all(connection)
            .await?;
        Ok(communities(keys))
    }
}

impl Runs<Publish<'_>> for Postgres {
    async fn run(
        operation: &Publish<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Published>, sqlx::Error> {
        let (Some(table), Some(columns)) = (&app.community, &app.counters) else {
            // They cannot be written now.
            return Ok(Some(Published {
                written: 0,
                left: operation.communities.len() as u64,
            }));
        };
        let id = &table.id;
        let wanted = operation.communities.iter();
        let wanted: Vec<_> = wanted.filter(|(key, _)| id.is_key(key.as_str())).collect();
        let keys: Vec<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
        let mut transaction = Postgres::begin(connection, operation.context.database).await?;
        if !holds(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        let of_keys = format!(
            "SELECT {id}::text FROM {table} WHERE {id} = ANY ($1::text[]::{key}[])",
            table = table.table,
            key = id.type_name
        );
        let there: Vec<String> = query_scalar(AssertSqlSafe(of_keys.as_str()))
            .bind(&keys)
            .fetch_all(&mut *transaction)
            .await?;
        // Of those that the app has deleted nothing is to be written again.
        query(
            "UPDATE headcount.counter SET pending = FALSE, current_visitors = 0
             WHERE (pending OR current_visitors <> 0) AND community = ANY ($1) AND community <> ALL ($2)",
        )
        .bind(all_keys(operation))
        .bind(&there)
        .execute(&mut *transaction)
        .await?;
        query("INSERT INTO headcount.counter (community) SELECT * FROM UNNEST($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING")
            .bind(&there)
            .execute(&mut *transaction)
            .await?;
        let counters: Vec<String> = query_scalar(
            "SELECT community FROM headcount.counter WHERE community = ANY ($1) ORDER BY community
             FOR NO KEY UPDATE SKIP LOCKED",
        )
        .bind(&there)
        .fetch_all(&mut *transaction)
        .await?;
        let lock = format!("{of_keys} ORDER BY {id} FOR NO KEY UPDATE SKIP LOCKED");
        let locked: HashSet<String> = query_scalar(AssertSqlSafe(lock))
            .bind(counters)
            .fetch_all(&mut *transaction)
            .await?
            .into_iter()
            .collect();
        let (keys, present): (Vec<&str>, Vec<Option<i64>>) = wanted
            .iter()
            .filter(|(key, _)| locked.contains(key.as_str()))
            .map(|(key, present)| (key.as_str(), *present))
            .unzip();
        let written = query(AssertSqlSafe(update_sql(app, columns)))
            .bind(&keys)
            .bind(&present)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        query(
            "UPDATE headcount.counter AS k
             SET pending = FALSE, current_visitors = coalesce(v.present, k.current_visitors)
             FROM UNNEST($1::text[], $2::bigint[]) AS v(community, present) WHERE k.community = v.community",
        )
        .bind(&keys)
        .bind(&present)
        .execute(&mut *transaction)
        .await?;
        // Last: renewals wait from here on.
        query("UPDATE headcount.counter_lease SET round_at = clock_timestamp()")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(Published {
            written,
            left: (there.len() - keys.len()) as u64,
        }))
    }
}

fn all_keys<'a>(operation: &Publish<'a>) -> Vec<&'a str> {
    operation
        .communities
        .iter()
        .map(|(key, _)| key.as_str())
        .collect()
}

/// Writes the app's columns from the counters, of the communities `$1` with `$2` present, where they differ.
fn update_sql(app: &AppSchema, columns: &CounterColumns) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    let id = &table.id;
    let values = [
        (&columns.page_views, "k.page_views", "k.counted"),
        (&columns.total_visitors, "k.total_visitors", "k.counted"),
        (&columns.current_visitors, "v.present", "v.present IS NOT NULL"),
    ];
    let values = values.into_iter().filter_map(|(column, value, is_known)| {
        let column = column.as_ref()?;
        let value = format!("least({value}, {})::{}", greatest(column), column.type_name);
        Some((column, value, is_known))
    });
    let (mut sets, mut differs) = (Vec::new(), Vec::new());
    for (column, value, is_known) in values {
        sets.push(format!(
            "{column} = CASE WHEN {is_known} THEN {value} ELSE c.{column} END"
        ));
        differs.push(format!("({is_known} AND c.{column} IS DISTINCT FROM {value})"));
    }
    if let Some(column) = &columns.updated_at {
        sets.push(format!("{column} = {}", moment(column, "now()")));
    }
    format!(
        "UPDATE {table} AS c SET {sets}
         FROM UNNEST($1::text[], $2::bigint[]) AS v(community, present)
         JOIN headcount.counter AS k ON k.community = v.community
         WHERE c.{id} = v.community::{key} AND ({differs})",
        table = table.table,
        sets = sets.join(", "),
        key = id.type_name,
        differs = differs.join(" OR ")
    )
}

impl Runs<Unchecked<'_>> for Postgres {
    async fn run(
        operation: &Unchecked<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), sqlx::Error> {
        let Some(table) = &app.community else {
            return Ok((Vec::new(), None));
        };
        let (id, key) = (&table.id, &table.id.type_name);
        let sql = format!(
            "SELECT {id}::text FROM {table} WHERE $1::text IS NULL OR {id} > $1::text::{key}
             ORDER BY {id} LIMIT $2",
            table = table.table
        );
        let keys: Vec<String> = query_scalar(AssertSqlSafe(sql))
            .bind(operation.after.map(CommunityId::as_str))
            .bind(operation.limit)
            .fetch_all(&mut *connection)
            .await?;
        let checked: Vec<String> = query_scalar(
            "SELECT community FROM headcount.counter WHERE community = ANY ($1) AND counted AND checked_at >= $2",
        )
        .bind(&keys)
        .bind(operation.since)
        .fetch_all(connection)
        .await?;
        let last = keys.last().cloned().map(CommunityId::new);
        let checked: HashSet<String> = checked.into_iter().collect();
        let unchecked = keys.into_iter().filter(|key| !checked.contains(key)).collect();
        Ok((communities(unchecked), last))
    }
}

impl Runs<ForgetAbsent<'_>> for Postgres {
    async fn run(
        ForgetAbsent(context): &ForgetAbsent<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Forgotten, sqlx::Error> {
        let Some(table) = &app.community else {
            return Ok(Forgotten::default());
        };
        let mut transaction = Postgres::begin(connection, context.database).await?;
        let sql = format!(
            "SELECT k.community FROM headcount.counter AS k
             WHERE NOT EXISTS (SELECT 1 FROM {table} AS c WHERE c.{id}::text = k.community)
             ORDER BY k.community LIMIT $1 FOR UPDATE SKIP LOCKED",
            table = table.table,
            id = table.id
        );
        let absent: Vec<String> = query_scalar(AssertSqlSafe(sql))
            .bind(FOLD_COMMUNITIES)
            .fetch_all(&mut *transaction)
            .await?;
        let mut forgotten = Forgotten::default();
        for table in ["counter_delta", "counter_visitor"] {
            let sql = format!(
                "DELETE FROM headcount.{table} WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM headcount.{table} WHERE community = ANY ($1) LIMIT $2))"
            );
            let deleted = query(AssertSqlSafe(sql))
                .bind(&absent)
                .bind(FORGET_ROWS)
                .execute(&mut *transaction)
                .await?;
            forgotten.rows += deleted.rows_affected();
        }
        forgotten.communities = query(
            "DELETE FROM headcount.counter AS k
             WHERE k.community = ANY ($1)
               AND NOT EXISTS (SELECT 1 FROM headcount.counter_delta AS d WHERE d.community = k.community)
               AND NOT EXISTS (SELECT 1 FROM headcount.counter_visitor AS v WHERE v.community = k.community)",
        )
        .bind(&absent)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        forgotten.rows += forgotten.communities;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

impl Runs<LastPass<'_>> for Postgres {
    async fn run(
        LastPass(context): &LastPass<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        let mut transaction = Postgres::begin(connection, context.database).await?;
        query(
            "UPDATE headcount.counter_lease SET passed_at = NULL, definition = $1
             WHERE definition IS DISTINCT FROM $1",
        )
        .bind(definition(context))
        .execute(&mut *transaction)
        .await?;
        let passed: Option<DateTime<Utc>> = query_scalar("SELECT passed_at FROM headcount.counter_lease")
            .fetch_optional(&mut *transaction)
            .await?
            .flatten();
        transaction.commit().await?;
        Ok(passed)
    }
}

impl Runs<NotePass> for Postgres {
    async fn run(_: &NotePass, _: &AppSchema, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        alone(
            connection,
            "UPDATE headcount.counter_lease SET passed_at = now()",
            |query| query,
        )
        .await
        .map(drop)
    }
}
