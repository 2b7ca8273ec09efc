//! Statistics of a community on Postgres; [`Stats`] defines each number.
//!
//! The first part reads the index from `migrations/app`; without it the event table is scanned.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::event_index::{Spelling, has_key, is_counted, is_ours, of_community};
use super::moment;
use super::statement::query_as;
use crate::store::Stats;
use crate::store::operations::{
    FIRST_POSSIBLE, NO_SESSIONS, Runs, STATS_OF_VIEWS_AND_SESSIONS, StatsOf, user_of_session,
};
use crate::store::schema::{AppSchema, Column, EventTable};

impl Runs<StatsOf<'_>> for Postgres {
    async fn run(
        operation: &StatsOf<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Stats>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(None);
        };
        query_as(AssertSqlSafe(sql(operation, app, event)))
            .bind(operation.spellings(app))
            .bind(operation.from)
            .bind(operation.to)
            .fetch_optional(connection)
            .await
    }
}

fn sql(operation: &StatsOf<'_>, app: &AppSchema, event: &EventTable) -> String {
    // S8: a session has ended, and within the window.
    // No name of ours is one that a table of the app may have.
    format!(
        "WITH {views}, headcount_sessions AS MATERIALIZED (
             {sessions}
         ), {STATS_OF_VIEWS_AND_SESSIONS}",
        views = views(operation.until_ours, &operation.types, app, event),
        sessions = sessions(app),
    )
}

/// `headcount_views (user_id, at, ours)`: the views that count, of the community with the spellings `$1`, in the window
/// from `$2` to `$3`; `ours` says whether the sidecar wrote them. Statistics and counters both count these.
pub(super) fn views(until_ours: bool, types: &[Arc<str>], app: &AppSchema, event: &EventTable) -> String {
    let counted = is_counted(event, types);
    let of_community = format!("{counted} AND {}", of_community(app, event, Spelling::Any));
    let (ours, theirs) = (is_ours(event, true), is_ours(event, false));
    let event_to = moment(&event.timestamp, "$3::timestamptz");
    let theirs_to = if until_ours {
        // The index has the first row of each spelling, not of all together.
        format!(
            "least({event_to}, (
                   SELECT min(first.at)
                   FROM unnest($1::text[]) AS headcount_spelling,
                        LATERAL (SELECT min({timestamp}) AS at FROM {events}
                                 WHERE {counted} AND {has_key} AND {ours}
                                   AND {timestamp} >= {first_possible}) AS first))",
            has_key = has_key(app, event, Spelling::Is("headcount_spelling")),
            timestamp = event.timestamp,
            first_possible = moment(
                &event.timestamp,
                &format!("timestamptz '{FIRST_POSSIBLE} 00:00Z'")
            ),
            events = event.table
        )
    } else {
        event_to.clone()
    };
    // S5: half-open.
    format!(
        "headcount_views AS MATERIALIZED (
             SELECT {event_user} AS user_id, {event_at} AS at, TRUE AS ours
             FROM {events}
             WHERE {of_community} AND {ours}
               AND {timestamp} >= {event_from} AND {timestamp} < {event_to}
             UNION ALL
             SELECT {event_user}, {event_at}, FALSE
             FROM {events}
             WHERE {of_community} AND {theirs}
               AND {timestamp} >= {event_from} AND {timestamp} < {theirs_to}
         )",
        event_user = event.user_id,
        event_at = moment(&event.timestamp, &event.timestamp.to_string()),
        events = event.table,
        timestamp = event.timestamp,
        event_from = moment(&event.timestamp, "$2::timestamptz"),
    )
}

/// The sessions that started and ended in the window, of users who viewed a page.
fn sessions(app: &AppSchema) -> String {
    let Some(durations) = app.session.durations(app.referred()) else {
        return NO_SESSIONS.to_owned();
    };
    let of = |column: &Column| moment(column, &format!("headcount_session.{column}"));
    let (started, ended) = (of(durations.started_at), of(durations.ended_at));
    let (join, user) = user_of_session(app, &durations);
    format!(
        "SELECT {user} AS user_id, {started} AS started, {ended} AS ended,
                    extract(epoch FROM {ended} - {started})::float8 AS seconds
             FROM {sessions} AS headcount_session{join}
             WHERE headcount_session.{started_at} >= {from} AND headcount_session.{started_at} < {to}
               AND {ended} BETWEEN {started} AND $3::timestamptz
               AND {user} IN (SELECT user_id FROM headcount_views)",
        sessions = app.session.table,
        started_at = durations.started_at,
        from = moment(durations.started_at, "$2::timestamptz"),
        to = moment(durations.started_at, "$3::timestamptz"),
    )
}
