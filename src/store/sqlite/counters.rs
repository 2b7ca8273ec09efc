//! Statements of counters on SQLite; those that Postgres has alike are in `counter_sql`. SQLite has one writer at a time, so
//! that a transaction that writes is one snapshot, and nobody else's.

mod adding;
mod lease;
mod publish;
mod recount;

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::sqlite::SqliteArguments;
use sqlx::types::Json;
use sqlx::{Arguments as _, AssertSqlSafe, Sqlite, SqliteConnection};

use super::stats::views;
use super::values::{key, read_key};
use crate::ids::CommunityId;
use crate::store::operations::{Context, first_possible, no_events, spellings};
use crate::store::operations::{CounterSql, FromAnyRow, Value, runs_statements};
use crate::store::schema::{AppSchema, Column, CommunityTable, EventTable, OwnTables};

/// Whether the sidecar's own tables are there.
pub(super) async fn state(connection: &mut SqliteConnection) -> Result<OwnTables, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT count(*) = 4 FROM sqlite_master
         WHERE type = 'table' AND name IN ('headcount_counter', 'headcount_counter_visitor',
                                           'headcount_counter_delta', 'headcount_counter_lease')",
    )
    .fetch_one(connection)
    .await?;
    Ok(if there {
        OwnTables::Usable
    } else {
        OwnTables::Missing
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

impl CounterSql for Sqlite {
    const COUNTER: &'static str = "headcount_counter";
    const LEDGER: &'static str = "headcount_applied_batch";
    const LEAST: &'static str = "min";
    const KEY_SHARE: &'static str = "";

    /// SQLite's own clock has milliseconds only.
    fn now() -> Cow<'static, str> {
        Utc::now().timestamp_micros().to_string().into()
    }

    fn micros(moment: &str) -> String {
        moment.to_owned()
    }

    fn among(parameter: &str) -> String {
        format!("IN (SELECT value FROM json_each({parameter}))")
    }

    /// Text, which the column's affinity makes a number again.
    fn as_key(text: &str, _: &Column) -> String {
        text.to_owned()
    }

    fn stored(community: &CommunityId, column: &Column) -> Result<Option<String>, sqlx::Error> {
        let is_key = column.is_key(community.as_str());
        is_key.then(|| key(community.as_str(), column)).transpose()
    }

    fn views(
        context: &Context<'_>,
        community: &CommunityId,
        since: Option<DateTime<Utc>>,
        app: &AppSchema,
    ) -> Result<(String, Vec<Value>), sqlx::Error> {
        let event = app.event.as_ref().ok_or_else(no_events)?;
        // Texts may be of any zone: the exact moments are compared, too.
        let text = |since: DateTime<Utc>| (since - TimeDelta::days(2)).format("%Y-%m-%d").to_string();
        let arguments = vec![
            Value::Texts(spellings(community, app)),
            Value::Text(Some(since.map_or_else(|| FIRST_TEXT.to_owned(), text))),
            Value::Text(Some(LAST_TEXT.to_owned())),
            Value::Integer(since.map_or(i64::MIN, |since| since.timestamp_micros())),
            Value::Integer(i64::MAX),
        ];
        Ok((all_views(context, event), arguments))
    }

    runs_statements!(SqliteConnection, bound);

    async fn behind(
        connection: &mut SqliteConnection,
        table: &CommunityTable,
        after: Option<&CommunityId>,
        limit: i64,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let id = &table.id;
        let after = after.map(|after| Self::stored(after, id)).transpose()?;
        let sql = format!(
            "SELECT CAST({id} AS TEXT) FROM {table} WHERE ?1 IS NULL OR {id} > ?1 ORDER BY {id} LIMIT ?2",
            table = table.table
        );
        let keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(after.flatten())
            .bind(limit)
            .fetch_all(connection)
            .await?;
        let keys = keys.into_iter().map(|stored| read_key(stored, id));
        keys.map(|key| key.map(CommunityId::new)).collect()
    }

    async fn absent(
        connection: &mut SqliteConnection,
        table: &CommunityTable,
    ) -> Result<Vec<String>, sqlx::Error> {
        let there = format!(
            "SELECT EXISTS (SELECT 1 FROM {table} WHERE {id} = ?1)",
            table = table.table,
            id = table.id
        );
        let known: Vec<String> = sqlx::query_scalar("SELECT community FROM headcount_counter")
            .fetch_all(&mut *connection)
            .await?;
        let mut absent = Vec::new();
        for community in known {
            let key = Self::stored(&CommunityId::new(community.clone()), &table.id)?;
            let is_there: bool = sqlx::query_scalar(AssertSqlSafe(there.as_str()))
                .bind(key)
                .fetch_one(&mut *connection)
                .await?;
            if !is_there {
                absent.push(community);
            }
        }
        Ok(absent)
    }
}

/// Arguments as SQLite has them.
fn bound(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Texts(texts) => arguments.add(Json(texts)),
            Value::Integer(number) => arguments.add(number),
            Value::Flag(flag) => arguments.add(flag),
            Value::Moment(at) => arguments.add(at.timestamp_micros()),
            Value::Id(id) => arguments.add(id.to_string()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, Executor as _, Row as _};

    use super::*;
    use crate::config::{Config, Secret};
    use crate::routes::CountedTypes;
    use crate::store::counter_sql::compare_sql;
    use crate::store::operations::Compare;
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
            writes_presence: true,
            types: CountedTypes::without_routes(&config.record).get(),
        };
        let compare = Compare {
            context,
            community: &community,
        };
        let plan = format!(
            "EXPLAIN QUERY PLAN {}",
            compare_sql::<Sqlite>(&compare, &app).unwrap().0
        );
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
