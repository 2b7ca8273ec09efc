//! Statements of counters on SQLite: it has one writer at a time, so that a transaction that writes is one snapshot, and
//! nobody else's.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::stats::views;
use super::values::{key, moment, read_key};
use crate::ids::CommunityId;
use crate::store::counters::{Comparison, ComparisonRow, Folded, Lease, Published, Totals};
use crate::store::operations::{
    AddDeltas, Backend as _, Compare, Context, FOLD_ROWS, FORGET_ROWS, Fold, ForgetAbsent, Forgotten,
    LastPass, NoteChecked, NotePass, Pending, Publish, Recount, ReleaseLease, Runs, ShownPresent, TakeLease,
    Unchecked, Uncounted, definition, deltas, first_possible, greatest, greatest_totals, no_events,
    spellings,
};
use crate::store::schema::{AppSchema, Column, CounterColumns, CounterTables, EventTable};

/// Whether the sidecar's own tables are there.
pub(super) async fn state(connection: &mut SqliteConnection) -> Result<CounterTables, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT count(*) = 4 FROM sqlite_master
         WHERE type = 'table' AND name IN ('headcount_counter', 'headcount_counter_visitor',
                                           'headcount_counter_delta', 'headcount_counter_lease')",
    )
    .fetch_one(connection)
    .await?;
    Ok(if there {
        CounterTables::Usable
    } else {
        CounterTables::Missing
    })
}

/// Bounds of the text of all moments.
const FIRST_TEXT: &str = "0";
const LAST_TEXT: &str = "9999-12-32";

/// `headcount_views` of all time: see [`views`].
fn all_views(context: &Context<'_>, event: &EventTable) -> String {
    let exact = (first_possible(), Utc::now() + TimeDelta::days(1));
    views(context.until_ours, &context.types, event, exact)
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Runs<AddDeltas<'_>> for Sqlite {
    async fn run(
        operation: &AddDeltas<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        for ((community, user), delta) in deltas(operation.batch, operation.types) {
            // As in the event table.
            let user = match &app.event {
                Some(event) => key(user.as_str(), &event.user_id)?,
                None => user.as_str().to_owned(),
            };
            sqlx::query(
                "INSERT INTO headcount_counter_delta (community, user_id, views, first_view)
                 VALUES (?1, ?2, ?3, ?4)",
            )
            .bind(community.as_str())
            .bind(user)
            .bind(delta.views)
            .bind(delta.first.map(|first| first.timestamp_micros()))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}

impl Runs<TakeLease<'_>> for Sqlite {
    async fn run(
        operation: &TakeLease<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Lease>, sqlx::Error> {
        let now = Utc::now().timestamp_micros();
        let mut transaction = Sqlite::begin(connection, operation.context.database).await?;
        let round: Option<Option<i64>> = sqlx::query_scalar(
            "UPDATE headcount_counter_lease SET holder = ?1, expires_at = ?2
             WHERE holder = ?1 OR expires_at IS NULL OR expires_at <= ?3 RETURNING round_at",
        )
        .bind(operation.holder.to_string())
        .bind(now.saturating_add(micros_of(operation.ttl)))
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(round.map(|round| Lease {
            since_round: round.map(|at| Duration::from_micros(u64::try_from(now - at).unwrap_or_default())),
        }))
    }
}

impl Runs<ReleaseLease> for Sqlite {
    async fn run(
        ReleaseLease(holder): &ReleaseLease,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE headcount_counter_lease SET expires_at = NULL WHERE holder = ?1")
            .bind(holder.to_string())
            .execute(connection)
            .await
            .map(drop)
    }
}

async fn holds(connection: &mut SqliteConnection, holder: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM headcount_counter_lease WHERE holder = ?1 AND expires_at > ?2)",
    )
    .bind(holder.to_string())
    .bind(Utc::now().timestamp_micros())
    .fetch_one(connection)
    .await
}

impl Runs<Fold<'_>> for Sqlite {
    async fn run(
        operation: &Fold<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Folded>, sqlx::Error> {
        let context = &operation.context;
        let is_held = holds(&mut *connection, operation.holder).await?;
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM headcount_counter_delta)")
            .fetch_one(&mut *connection)
            .await?;
        if !is_held || !any {
            return Ok(is_held.then(Folded::default));
        }
        let mut transaction = Sqlite::begin(connection, context.database).await?;
        if !holds(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        let rows: Vec<(i64, String, String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT d.id, d.community, d.user_id, d.views, d.first_view FROM headcount_counter_delta AS d
             JOIN headcount_counter AS k ON k.community = d.community
             WHERE k.counted ORDER BY d.id LIMIT ?1",
        )
        .bind(FOLD_ROWS)
        .fetch_all(&mut *transaction)
        .await?;
        for (id, community, user, views, first) in &rows {
            let visitors = sqlx::query(
                "INSERT OR IGNORE INTO headcount_counter_visitor (community, user_id) VALUES (?1, ?2)",
            )
            .bind(community)
            .bind(user)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            // The app's own views count until the sidecar's first: that may have moved.
            sqlx::query(
                "UPDATE headcount_counter
                 SET page_views = page_views + ?2, total_visitors = total_visitors + ?3, pending = 1,
                     counted = counted AND NOT (?5 AND ?4 IS NOT NULL AND (first_view IS NULL OR ?4 < first_view))
                 WHERE community = ?1",
            )
            .bind(community)
            .bind(views)
            .bind(i64::try_from(visitors).unwrap_or_default())
            .bind(first)
            .bind(context.until_ours)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM headcount_counter_delta WHERE id = ?1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(Some(Folded {
            rows: rows.len() as u64,
        }))
    }
}

fn communities(keys: Vec<String>) -> Vec<CommunityId> {
    keys.into_iter().map(CommunityId::new).collect()
}

impl Runs<Uncounted<'_>> for Sqlite {
    async fn run(
        operation: &Uncounted<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let postponed: Vec<&str> = operation.postponed.iter().map(CommunityId::as_str).collect();
        let keys = sqlx::query_scalar(
            "SELECT community FROM headcount_counter
             WHERE NOT counted AND community NOT IN (SELECT value FROM json_each(?2))
             UNION
             SELECT d.community FROM headcount_counter_delta AS d
             WHERE NOT EXISTS (SELECT 1 FROM headcount_counter AS k WHERE k.community = d.community)
               AND d.community NOT IN (SELECT value FROM json_each(?2))
             LIMIT ?1",
        )
        .bind(operation.limit)
        .bind(Json(postponed))
        .fetch_all(connection)
        .await?;
        Ok(communities(keys))
    }
}

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

/// The statement of [`Compare`].
fn compare_sql(operation: &Compare<'_>, app: &AppSchema) -> Result<String, sqlx::Error> {
    let event = app.event.as_ref().ok_or_else(no_events)?;
    let counters = app.counters.as_ref();
    let column = |pick: fn(&CounterColumns) -> Option<&Column>| {
        let (column, community) = (counters.and_then(pick), app.community.as_ref());
        column.zip(community).map_or_else(
            || "NULL".to_owned(),
            |(column, community)| {
                let (table, id) = (&community.table, &community.id);
                format!("(SELECT CAST({column} AS INTEGER) FROM {table} WHERE {id} = ?8)")
            },
        )
    };
    Ok(format!(
        "WITH {views}, headcount_added AS (
             SELECT user_id, views, first_view FROM headcount_counter_delta WHERE community = ?6
         )
         SELECT (SELECT count(*) FROM headcount_views) AS counted_views,
                (SELECT count(DISTINCT user_id) FROM headcount_views) AS counted_visitors,
                k.page_views + coalesce((SELECT sum(views) FROM headcount_added), 0) AS kept_views,
                k.total_visitors + (SELECT count(DISTINCT a.user_id) FROM headcount_added AS a
                                    WHERE NOT EXISTS (SELECT 1 FROM headcount_counter_visitor AS v
                                                      WHERE v.community = ?6 AND v.user_id = a.user_id))
                    AS kept_visitors,
                coalesce(k.counted AND NOT (?7 AND EXISTS (
                    SELECT 1 FROM headcount_added AS a
                    WHERE a.first_view < k.first_view OR (a.first_view IS NOT NULL AND k.first_view IS NULL))),
                    0) AS is_settled,
                coalesce(k.counted AND NOT k.pending AND NOT EXISTS (SELECT 1 FROM headcount_added), 0) AS is_written,
                {shown_views} AS shown_views, {shown_visitors} AS shown_visitors
         FROM (SELECT ?8) AS one LEFT JOIN headcount_counter AS k ON k.community = ?6",
        views = all_views(&operation.context, event),
        shown_views = column(|counters| counters.page_views.as_ref()),
        shown_visitors = column(|counters| counters.total_visitors.as_ref()),
    ))
}

impl Runs<Compare<'_>> for Sqlite {
    async fn run(
        operation: &Compare<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Comparison, sqlx::Error> {
        let row: ComparisonRow = sqlx::query_as(AssertSqlSafe(compare_sql(operation, app)?))
            .bind(Json(spellings(operation.community, app)))
            .bind(FIRST_TEXT)
            .bind(LAST_TEXT)
            .bind(i64::MIN)
            .bind(i64::MAX)
            .bind(operation.community.as_str())
            .bind(operation.context.until_ours)
            .bind(app_key(operation.community, app)?)
            .fetch_one(connection)
            .await?;
        Ok(row.compared(greatest_totals(app)))
    }
}

/// A community as the app's column has it; `None` if it cannot be one.
fn app_key(community: &CommunityId, app: &AppSchema) -> Result<Option<String>, sqlx::Error> {
    let id = app.community.as_ref().map(|table| &table.id);
    let id = id.filter(|id| id.is_key(community.as_str()));
    id.map(|id| key(community.as_str(), id)).transpose()
}

impl Runs<NoteChecked<'_>> for Sqlite {
    async fn run(
        NoteChecked(community): &NoteChecked<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE headcount_counter SET checked_at = ?2 WHERE community = ?1")
            .bind(community.as_str())
            .bind(Utc::now().timestamp_micros())
            .execute(connection)
            .await
            .map(drop)
    }
}

impl Runs<ShownPresent> for Sqlite {
    async fn run(
        ShownPresent(limit): &ShownPresent,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(CommunityId, i64)>, sqlx::Error> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT community, current_visitors FROM headcount_counter WHERE current_visitors <> 0 LIMIT ?1",
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

impl Runs<Pending> for Sqlite {
    async fn run(
        Pending(limit): &Pending,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let keys = sqlx::query_scalar("SELECT community FROM headcount_counter WHERE pending LIMIT ?1")
            .bind(limit)
            .fetch_all(connection)
            .await?;
        Ok(communities(keys))
    }
}

impl Runs<Publish<'_>> for Sqlite {
    async fn run(
        operation: &Publish<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Published>, sqlx::Error> {
        let (Some(_), Some(columns)) = (&app.community, &app.counters) else {
            // They cannot be written now.
            return Ok(Some(Published {
                written: 0,
                left: operation.communities.len() as u64,
            }));
        };
        let mut transaction = Sqlite::begin(connection, operation.context.database).await?;
        if !holds(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        sqlx::query("UPDATE headcount_counter_lease SET round_at = ?1")
            .bind(Utc::now().timestamp_micros())
            .execute(&mut *transaction)
            .await?;
        let update = update_sql(app, columns);
        let make = insert_sql(app);
        let note = note_sql(app);
        let mut published = Published::default();
        for (community, present) in operation.communities {
            let key = app_key(community, app)?;
            if let Some(key) = &key {
                sqlx::query(AssertSqlSafe(make.as_str()))
                    .bind(community.as_str())
                    .bind(key)
                    .execute(&mut *transaction)
                    .await?;
                let mut query = sqlx::query(AssertSqlSafe(update.as_str()))
                    .bind(community.as_str())
                    .bind(key)
                    .bind(present);
                if let Some(column) = &columns.updated_at {
                    query = query.bind(moment(Utc::now(), column));
                }
                published.written += query.execute(&mut *transaction).await?.rows_affected();
            }
            sqlx::query(AssertSqlSafe(note.as_str()))
                .bind(community.as_str())
                .bind(present)
                .bind(key)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(Some(published))
    }
}

/// Makes the counter of the community `?1`, `?2` there, where the app has it.
fn insert_sql(app: &AppSchema) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    format!(
        "INSERT INTO headcount_counter (community) SELECT ?1 FROM {table} WHERE {id} = ?2
         ON CONFLICT DO NOTHING",
        table = table.table,
        id = table.id
    )
}

/// Notes that the columns of the community `?1`, `?3` there, are written, with `?2` present; nothing is to be written again
/// of one that the app has deleted.
fn note_sql(app: &AppSchema) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    format!(
        "UPDATE headcount_counter
         SET pending = 0,
             current_visitors = CASE WHEN EXISTS (SELECT 1 FROM {table} WHERE {id} = ?3)
                                     THEN coalesce(?2, current_visitors) ELSE 0 END
         WHERE community = ?1",
        table = table.table,
        id = table.id
    )
}

/// Writes the app's columns of the community `?1`, `?2` there, with `?3` present, where they differ; `?4` is now.
fn update_sql(app: &AppSchema, columns: &CounterColumns) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    let values = [
        (&columns.page_views, "k.page_views", "k.counted"),
        (&columns.total_visitors, "k.total_visitors", "k.counted"),
        (&columns.current_visitors, "?3", "?3 IS NOT NULL"),
    ];
    let (mut sets, mut differs) = (Vec::new(), Vec::new());
    for (column, value, is_known) in values {
        let Some(column) = column else { continue };
        let value = format!("min({value}, {})", greatest(column));
        sets.push(format!(
            "{column} = CASE WHEN {is_known} THEN {value} ELSE {table}.{column} END",
            table = table.table
        ));
        differs.push(format!(
            "({is_known} AND {table}.{column} IS NOT {value})",
            table = table.table
        ));
    }
    if let Some(column) = &columns.updated_at {
        sets.push(format!("{column} = ?4"));
    }
    format!(
        "UPDATE {table} SET {sets}
         FROM (SELECT coalesce(max(counted), 0) AS counted, max(page_views) AS page_views,
                      max(total_visitors) AS total_visitors
               FROM headcount_counter WHERE community = ?1) AS k
         WHERE {table}.{id} = ?2 AND ({differs})",
        table = table.table,
        id = table.id,
        sets = sets.join(", "),
        differs = differs.join(" OR ")
    )
}

impl Runs<Unchecked<'_>> for Sqlite {
    async fn run(
        operation: &Unchecked<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(Vec<CommunityId>, Option<CommunityId>), sqlx::Error> {
        let Some(table) = &app.community else {
            return Ok((Vec::new(), None));
        };
        let id = &table.id;
        let after = operation.after.map(|after| app_key(after, app)).transpose()?;
        // Bound as text, which the column's affinity makes a number again.
        let sql = format!(
            "SELECT CAST({id} AS TEXT) FROM {table} WHERE ?1 IS NULL OR {id} > ?1 ORDER BY {id} LIMIT ?2",
            table = table.table
        );
        let keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(after.flatten())
            .bind(operation.limit)
            .fetch_all(&mut *connection)
            .await?;
        let mut unchecked = Vec::new();
        let mut last = None;
        for stored in keys {
            let community = CommunityId::new(read_key(stored, id)?);
            let is_checked: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM headcount_counter
                                WHERE community = ?1 AND counted AND checked_at >= ?2)",
            )
            .bind(community.as_str())
            .bind(operation.since.timestamp_micros())
            .fetch_one(&mut *connection)
            .await?;
            last = Some(community.clone());
            if !is_checked {
                unchecked.push(community);
            }
        }
        Ok((unchecked, last))
    }
}

impl Runs<ForgetAbsent<'_>> for Sqlite {
    async fn run(
        ForgetAbsent(context): &ForgetAbsent<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Forgotten, sqlx::Error> {
        let Some(table) = &app.community else {
            return Ok(Forgotten::default());
        };
        let there = format!(
            "SELECT EXISTS (SELECT 1 FROM {table} WHERE {id} = ?1)",
            table = table.table,
            id = table.id
        );
        let mut transaction = Sqlite::begin(connection, context.database).await?;
        let known: Vec<String> = sqlx::query_scalar("SELECT community FROM headcount_counter")
            .fetch_all(&mut *transaction)
            .await?;
        let mut forgotten = Forgotten::default();
        for community in communities(known) {
            let is_there: bool = sqlx::query_scalar(AssertSqlSafe(there.as_str()))
                .bind(app_key(&community, app)?)
                .fetch_one(&mut *transaction)
                .await?;
            if is_there {
                continue;
            }
            for sql in [
                "DELETE FROM headcount_counter_delta
                 WHERE id IN (SELECT id FROM headcount_counter_delta WHERE community = ?1 LIMIT ?2)",
                "DELETE FROM headcount_counter_visitor
                 WHERE community = ?1
                   AND user_id IN (SELECT user_id FROM headcount_counter_visitor WHERE community = ?1 LIMIT ?2)",
            ] {
                let deleted = sqlx::query(sql)
                    .bind(community.as_str())
                    .bind(FORGET_ROWS)
                    .execute(&mut *transaction)
                    .await?;
                forgotten.rows += deleted.rows_affected();
            }
            let deleted = sqlx::query(
                "DELETE FROM headcount_counter
                 WHERE community = ?1
                   AND NOT EXISTS (SELECT 1 FROM headcount_counter_delta WHERE community = ?1)
                   AND NOT EXISTS (SELECT 1 FROM headcount_counter_visitor WHERE community = ?1)",
            )
            .bind(community.as_str())
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            forgotten.communities += deleted;
            forgotten.rows += deleted;
            if forgotten.rows >= FORGET_ROWS.unsigned_abs() {
                break;
            }
        }
        transaction.commit().await?;
        Ok(forgotten)
    }
}

impl Runs<LastPass<'_>> for Sqlite {
    async fn run(
        LastPass(context): &LastPass<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        sqlx::query(
            "UPDATE headcount_counter_lease SET passed_at = NULL, definition = ?1 WHERE definition IS NOT ?1",
        )
        .bind(definition(context))
        .execute(&mut *connection)
        .await?;
        let passed: Option<Option<i64>> = sqlx::query_scalar("SELECT passed_at FROM headcount_counter_lease")
            .fetch_optional(connection)
            .await?;
        Ok(passed.flatten().and_then(DateTime::from_timestamp_micros))
    }
}

impl Runs<NotePass> for Sqlite {
    async fn run(_: &NotePass, _: &AppSchema, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE headcount_counter_lease SET passed_at = ?1")
            .bind(Utc::now().timestamp_micros())
            .execute(connection)
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, Executor as _, Row as _};

    use super::*;
    use crate::config::{Config, Secret};
    use crate::routes::CountedTypes;
    use crate::store::sqlite::{connect_options, store};
    use crate::store::{migrate, open_counters};

    const DJANGOS_TABLES: &str = include_str!("../../../tests/integration/support/ddl/sqlite_default.sql");

    #[tokio::test]
    async fn k9_the_events_of_a_community_are_found_by_the_index() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("db.sqlite3").display());
        let options = connect_options(&url).unwrap().create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        connection.execute(DJANGOS_TABLES).await.unwrap();
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url.clone()));
        config.counters.enabled = true;
        migrate(&config, false).await.unwrap();
        let community = CommunityId::from("42");
        let app = store(&url, &config)
            .unwrap()
            .resolved()
            .await
            .unwrap()
            .app
            .unwrap();
        let context = Context {
            database: &config.database,
            until_ours: true,
            types: CountedTypes::without_routes(&config.record).get(),
        };
        let compare = Compare {
            context,
            community: &community,
        };
        let plan = format!("EXPLAIN QUERY PLAN {}", compare_sql(&compare, &app).unwrap());
        let plan = connection.fetch_all(AssertSqlSafe(plan)).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let of_events: Vec<_> = plan
            .iter()
            .filter(|step| step.contains("accounts_userevent"))
            .collect();
        assert!(of_events.len() >= 3, "{plan:#?}");
        for step in of_events {
            assert!(step.starts_with("SEARCH accounts_userevent USING"), "{plan:#?}");
        }
        let counters = open_counters(&config, CountedTypes::without_routes(&config.record)).unwrap();
        assert!(counters.compare(&community).await.unwrap().kept.is_none());
    }
}
