//! Statistics of a community on SQLite; [`Stats`] defines each number.
//!
//! The first part reads the index from `migrations/app`; without it the event table is scanned.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::event_index::{is_ours, key, of_community};
use super::moments::{Days, micros};
use crate::store::Stats;
use crate::store::operations::{
    FIRST_POSSIBLE, NO_SESSIONS, Runs, STATS_OF_VIEWS_AND_SESSIONS, StatsOf, user_of_session,
};
use crate::store::rows::is_of_type;
use crate::store::schema::{AppSchema, Column, EventTable};

impl Runs<StatsOf<'_>> for Sqlite {
    async fn run(
        operation: &StatsOf<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Stats>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(None);
        };
        let days = Days::around(operation.from, operation.to);
        sqlx::query_as(AssertSqlSafe(sql(operation, app, event)))
            .bind(sqlx::types::Json(operation.spellings(app)))
            .bind(days.first)
            .bind(days.last)
            .bind(operation.from.timestamp_micros())
            .bind(operation.to.timestamp_micros())
            .fetch_optional(connection)
            .await
    }
}

fn sql(operation: &StatsOf<'_>, app: &AppSchema, event: &EventTable) -> String {
    let window = (operation.from, operation.to);
    // S8: a session has ended, and within the window. The text of moments finds the rows, their numbers decide.
    // No name of ours is one that a table of the app may have.
    format!(
        "WITH {views}, headcount_begun AS MATERIALIZED (
             {begun}
         ), headcount_sessions AS MATERIALIZED (
             SELECT user_id, started, ended, (ended - started) / 1000000.0 AS seconds
             FROM headcount_begun
             WHERE started >= ?4 AND started < ?5 AND ended >= started AND ended <= ?5
         ), {STATS_OF_VIEWS_AND_SESSIONS}",
        views = views(operation.until_ours, &operation.types, event, window),
        begun = begun(operation, app),
    )
}

/// `headcount_views (user_id, at, ours)`: the views that count, of the community with the spellings `?1`, of the days from
/// `?2` to before `?3`, and in microseconds from `?4` to before `?5`; `ours` says whether the sidecar wrote them. Between
/// the moments of the last argument, local times are exact. Statistics and counters both count these.
pub(super) fn views(
    until_ours: bool,
    types: &[Arc<str>],
    event: &EventTable,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> String {
    let at = |column: &str, zone| micros(column, zone, from, to);
    let of = |column: &Column| at(&column.to_string(), column.zone);
    let counted = is_of_type(&event.event_type, types);
    let of_community = format!("{counted} AND {}", of_community(event));
    let (key, ours, theirs) = (key(event), is_ours(event, true), is_ours(event, false));
    let until_ours = if until_ours {
        // The index has the first row of each spelling, not of all together. The sidecar writes moments in one
        // form, so its first text is its first moment.
        format!(
            "SELECT (SELECT min({timestamp}) FROM {events}
                     WHERE {counted} AND {key} = headcount_spelling.value AND {ours}
                       AND {timestamp} >= '{FIRST_POSSIBLE}') AS text
             FROM json_each(?1) AS headcount_spelling",
            timestamp = event.timestamp,
            events = event.table
        )
    } else {
        "SELECT NULL AS text".to_owned()
    };
    // S5: half-open.
    format!(
        "headcount_until AS MATERIALIZED (
             SELECT min(?5, coalesce(min({first_at}), ?5)) AS at FROM ({until_ours}) AS first
         ), headcount_views AS MATERIALIZED (
             SELECT {event_user} AS user_id, {event_at} AS at, 1 AS ours
             FROM {events}
             WHERE {of_community} AND {ours}
               AND {timestamp} >= ?2 AND {timestamp} < ?3
               AND {event_at} >= ?4 AND {event_at} < ?5
             UNION ALL
             SELECT {event_user}, {event_at}, 0
             FROM {events}
             WHERE {of_community} AND {theirs}
               AND {timestamp} >= ?2 AND {timestamp} < ?3
               AND {event_at} >= ?4 AND {event_at} < (SELECT at FROM headcount_until)
         )",
        first_at = at("first.text", event.timestamp.zone),
        event_user = event.user_id,
        event_at = of(&event.timestamp),
        events = event.table,
        timestamp = event.timestamp,
    )
}

/// The sessions that started on the days of the window, of users who viewed a page.
fn begun(operation: &StatsOf<'_>, app: &AppSchema) -> String {
    let Some(durations) = app.session.durations(app.referred()) else {
        return NO_SESSIONS.to_owned();
    };
    let of = |column: &Column| {
        let column_name = format!("headcount_session.{column}");
        micros(&column_name, column.zone, operation.from, operation.to)
    };
    let (join, user) = user_of_session(app, &durations);
    format!(
        "SELECT {user} AS user_id, {started} AS started, {ended} AS ended
             FROM {sessions} AS headcount_session{join}
             WHERE headcount_session.{started_at} >= ?2 AND headcount_session.{started_at} < ?3
               AND {user} IN (SELECT user_id FROM headcount_views)",
        started = of(durations.started_at),
        ended = of(durations.ended_at),
        sessions = app.session.table,
        started_at = durations.started_at,
    )
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::Utc;
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};

    use super::*;
    use crate::config::{Config, Secret};
    use crate::ids::CommunityId;
    use crate::store::sqlite::{connect_options, store};
    use crate::store::{Store as _, migrate};

    const DJANGOS_TABLES: &str = include_str!("../../../tests/integration/support/ddl/sqlite_default.sql");

    /// Where the app's tables are called by these names instead of Django's.
    pub(in crate::store::sqlite) async fn site(
        event: &str,
        session: &str,
    ) -> (tempfile::TempDir, SqliteConnectOptions, Config) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("db.sqlite3").display());
        let options = connect_options(&url).unwrap().create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let tables = DJANGOS_TABLES
            .replace("\"accounts_userevent\"", &format!("\"{event}\""))
            .replace("\"accounts_usersession\"", &format!("\"{session}\""));
        connection.execute(AssertSqlSafe(tables)).await.unwrap();
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url));
        config.schema.event.table = event.into();
        config.schema.session.table = session.into();
        migrate(&config, false).await.unwrap();
        (directory, options, config)
    }

    #[tokio::test]
    async fn s10_no_name_of_a_table_is_one_of_the_statement() {
        for (event, session) in [
            ("views", "sessions"),
            ("events", "community_sessions"),
            ("until", "begun"),
            ("first", "spelling"),
            ("spelling", "first"),
        ] {
            let (_directory, _, config) = site(event, session).await;
            let url = config.database.url.as_ref().unwrap().expose().to_owned();
            let store = store(&url, &config).unwrap();
            let community = CommunityId::from("42");
            let stats = store.stats(&community, Utc::now(), Utc::now()).await;
            assert_eq!(stats.unwrap(), Stats::default(), "{event} {session}");
        }
    }

    #[tokio::test]
    async fn the_statistics_use_the_index_that_migrate_makes() {
        let (_directory, options, config) = site("accounts_userevent", "accounts_usersession").await;
        let url = config.database.url.as_ref().unwrap().expose().to_owned();
        let store = store(&url, &config).unwrap();
        let app = store.resolved().await.unwrap().app.unwrap();
        let statement = StatsOf {
            community: &CommunityId::from("42"),
            from: Utc::now(),
            to: Utc::now(),
            until_ours: true,
            types: vec!["page_view".into()],
        };
        let mut connection = options.connect().await.unwrap();
        let plan = format!(
            "EXPLAIN QUERY PLAN {}",
            sql(&statement, &app, app.event.as_ref().unwrap())
        );
        let plan = connection.fetch_all(AssertSqlSafe(plan)).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        let events = "SEARCH accounts_userevent USING INDEX headcount_event_community \
                      (<expr>=? AND <expr>=? AND timestamp>? AND timestamp<?)";
        let first = "SEARCH accounts_userevent USING COVERING INDEX headcount_event_community \
                     (<expr>=? AND <expr>=? AND timestamp>?)";
        let sessions =
            "SEARCH headcount_session USING INDEX headcount_session_user (user_id=? AND started_at>?";
        for used in [events, first, sessions] {
            assert!(plan.iter().any(|step| step.starts_with(used)), "{plan:#?}");
        }
    }
}
