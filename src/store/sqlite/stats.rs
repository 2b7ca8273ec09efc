//! Numbers over time; [`Stats`] says what each one is.
//!
//! The first part reads the index that `migrations/app` makes; without it the event table is scanned.

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::values::moment;
use crate::store::Stats;
use crate::store::operations::{Runs, StatsOf};
use crate::store::rows::{PAGE_VIEW, SOURCE};
use crate::store::schema::{AppSchema, Column};

impl Runs<StatsOf<'_>> for Sqlite {
    async fn run(
        operation: &StatsOf<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Stats, sqlx::Error> {
        sqlx::query_as(AssertSqlSafe(sql(operation, app)))
            .bind(operation.community.as_str())
            .bind(moment(operation.from))
            .bind(moment(operation.to))
            .fetch_one(connection)
            .await
    }
}

fn sql(operation: &StatsOf<'_>, app: &AppSchema) -> String {
    let (event, session) = (&app.event, &app.session);
    // Both spelled as in the index, or SQLite would not use it.
    let of_community = format!(
        "{} = '{PAGE_VIEW}' AND CAST(json_extract({}, '$.community_id') AS TEXT) = ?1",
        event.event_type, event.metadata
    );
    let ours = format!(
        "coalesce(json_extract({}, '$.source') = '{SOURCE}', 0)",
        event.metadata
    );
    let theirs_to = if operation.until_ours {
        format!(
            "min(?3, coalesce((SELECT min({}) FROM {} WHERE {of_community} AND {ours} = 1), ?3))",
            event.timestamp, event.table
        )
    } else {
        "?3".to_owned()
    };
    // S1: a session is one row here, however many events its user has. S5: half-open.
    format!(
        "WITH views AS MATERIALIZED (
             SELECT {event_user} AS user_id
             FROM {events}
             WHERE {of_community} AND {ours} = 1
               AND {timestamp} >= ?2 AND {timestamp} < ?3
             UNION ALL
             SELECT {event_user}
             FROM {events}
             WHERE {of_community} AND {ours} = 0
               AND {timestamp} >= ?2 AND {timestamp} < {theirs_to}
         ), sessions AS MATERIALIZED (
             SELECT {ended} - {started} AS seconds
             FROM {sessions}
             WHERE {started_at} >= ?2 AND {started_at} < ?3
               AND {ended_at} IS NOT NULL
               AND {session_user} IN (SELECT user_id FROM views)
         )
         SELECT (SELECT count(DISTINCT user_id) FROM views) AS total_visitors,
                (SELECT count(*) FROM views) AS page_views,
                (SELECT avg(seconds) FROM sessions) AS avg_session_duration,
                (SELECT count(*) FROM sessions) AS ended_sessions",
        event_user = event.user_id,
        events = event.table,
        timestamp = event.timestamp,
        ended = seconds(&session.ended_at),
        started = seconds(&session.started_at),
        ended_at = session.ended_at,
        started_at = session.started_at,
        sessions = session.table,
        session_user = session.user_id,
    )
}
/// Seconds since the epoch of a datetime column, to the microsecond: SQLite's own functions know milliseconds
/// only. From the twentieth character on stands the fraction, where there is one.
fn seconds(column: &Column) -> String {
    format!("(unixepoch({column}) + coalesce(CAST('0' || nullif(substr({column}, 20), '') AS REAL), 0))")
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};

    use super::*;
    use crate::config::{Config, Secret};
    use crate::ids::CommunityId;
    use crate::store::migrate;
    use crate::store::sqlite::{connect_options, store};

    const DJANGOS_TABLES: &str = include_str!("../../../tests/integration/support/ddl/sqlite_default.sql");

    #[tokio::test]
    async fn the_statistics_use_the_index_that_migrate_makes() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("db.sqlite3").display());
        let options = connect_options(&url).unwrap().create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        connection.execute(DJANGOS_TABLES).await.unwrap();
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url.clone()));
        migrate(&config, false).await.unwrap();

        let store = store(&url, &config).unwrap();
        let app = store.resolved().await.unwrap().app.unwrap();
        let statement = StatsOf {
            community: &CommunityId::from("42"),
            from: Utc::now(),
            to: Utc::now(),
            until_ours: true,
        };
        let mut connection = options.connect().await.unwrap();
        let plan = format!("EXPLAIN QUERY PLAN {}", sql(&statement, &app));
        let plan = connection.fetch_all(AssertSqlSafe(plan)).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let events = "SEARCH accounts_userevent USING INDEX headcount_event_community \
                      (<expr>=? AND <expr>=? AND timestamp>? AND timestamp<?)";
        let first = "SEARCH accounts_userevent USING INDEX headcount_event_community (<expr>=? AND <expr>=?)";
        let sessions =
            "SEARCH accounts_usersession USING INDEX headcount_session_user (user_id=? AND started_at>?";
        for used in [events, first, sessions] {
            assert!(plan.iter().any(|step| step.starts_with(used)), "{plan:#?}");
        }
    }
}
