//! Numbers over time; [`Stats`] says what each one is.
//!
//! The first part reads the index that `migrations/app` makes; without it the event table is scanned.

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::moment;
use super::statement::query_as;
use crate::store::Stats;
use crate::store::operations::{Runs, StatsOf};
use crate::store::rows::{PAGE_VIEW, SOURCE};
use crate::store::schema::AppSchema;

impl Runs<StatsOf<'_>> for Postgres {
    async fn run(
        operation: &StatsOf<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Stats, sqlx::Error> {
        query_as(AssertSqlSafe(sql(operation, app)))
            .bind(operation.community.as_str())
            .bind(operation.from)
            .bind(operation.to)
            .fetch_one(connection)
            .await
    }
}

fn sql(operation: &StatsOf<'_>, app: &AppSchema) -> String {
    let (event, session) = (&app.event, &app.session);
    // Both spelled as in the index, or it would not be used.
    let of_community = format!(
        "{} = '{PAGE_VIEW}' AND {} ->> 'community_id' = $1",
        event.event_type, event.metadata
    );
    let ours = format!("coalesce({} ->> 'source' = '{SOURCE}', false)", event.metadata);
    let event_to = moment(&event.timestamp, "$3::timestamptz");
    let theirs_to = if operation.until_ours {
        format!(
            "least({event_to}, (SELECT min({}) FROM {} WHERE {of_community} AND {ours}))",
            event.timestamp, event.table
        )
    } else {
        event_to.clone()
    };
    // S1: a session is one row here, however many events its user has. S5: half-open.
    format!(
        "WITH views AS MATERIALIZED (
             SELECT {event_user} AS user_id
             FROM {events}
             WHERE {of_community} AND {ours}
               AND {timestamp} >= {event_from} AND {timestamp} < {event_to}
             UNION ALL
             SELECT {event_user}
             FROM {events}
             WHERE {of_community} AND NOT {ours}
               AND {timestamp} >= {event_from} AND {timestamp} < {theirs_to}
         ), sessions AS (
             SELECT extract(epoch FROM {ended_at} - {started_at}) AS seconds
             FROM {sessions}
             WHERE {started_at} >= {session_from} AND {started_at} < {session_to}
               AND {ended_at} IS NOT NULL
               AND {session_user} IN (SELECT user_id FROM views)
         )
         SELECT (SELECT count(DISTINCT user_id) FROM views) AS total_visitors,
                (SELECT count(*) FROM views) AS page_views,
                (SELECT avg(seconds)::float8 FROM sessions) AS avg_session_duration,
                (SELECT count(*) FROM sessions) AS ended_sessions",
        event_user = event.user_id,
        events = event.table,
        timestamp = event.timestamp,
        event_from = moment(&event.timestamp, "$2::timestamptz"),
        ended_at = session.ended_at,
        started_at = session.started_at,
        sessions = session.table,
        session_from = moment(&session.started_at, "$2::timestamptz"),
        session_to = moment(&session.started_at, "$3::timestamptz"),
        session_user = session.user_id,
    )
}
