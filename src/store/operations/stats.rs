//! The statistics of a community: the operation, and the SQL that both databases share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::{StoreOperation, spellings};
use crate::from_row::from_row;
use crate::ids::CommunityId;
use crate::store::Stats;
use crate::store::schema::{AppSchema, DurationColumns};

/// Statistics of one community over `[from, to)`; [`Stats`] says what each number is.
///
/// The index of `migrations/app` begins with the community and with whether a row is the sidecar's, so that the
/// sidecar's first row is one look, and each part of the window one range.
pub(in crate::store) struct StatsOf<'a> {
    pub community: &'a CommunityId,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The app's own page views count only from before the sidecar's first in the community; otherwise all count.
    /// Rows of the sidecar from before [`FIRST_POSSIBLE`](super::FIRST_POSSIBLE) are not taken as the first.
    pub until_ours: bool,
    /// The event types that count.
    pub types: Vec<Arc<str>>,
}

/// `headcount_sessions` where the app's sessions have no start or no end: none. Its columns are of the types that
/// [`STATS_OF_VIEWS_AND_SESSIONS`] compares.
pub(in crate::store) const NO_SESSIONS: &str = "\
    SELECT user_id, at AS started, at AS ended, CAST(0 AS double precision) AS seconds
    FROM headcount_views WHERE FALSE";

/// SQL for the user of a row `headcount_session`: what is joined for it, and the expression.
pub(in crate::store) fn user_of_session(
    app: &AppSchema,
    durations: &DurationColumns<'_>,
) -> (String, String) {
    match app.accounts() {
        None => (String::new(), format!("headcount_session.{}", durations.user)),
        Some((profile, _)) => (
            format!(
                " JOIN {profiles} AS headcount_profile ON headcount_profile.{referred} = headcount_session.{user}",
                profiles = profile.table,
                referred = durations.profile,
                user = durations.user
            ),
            format!("headcount_profile.{}", profile.id),
        ),
    }
}

/// The end of the statement for [`Stats`], from `headcount_views (user_id, at)` and `headcount_sessions (user_id,
/// started, ended, seconds)`. S1: a session is one row there, however many events its user has.
pub(in crate::store) const STATS_OF_VIEWS_AND_SESSIONS: &str = "\
    headcount_community_sessions AS MATERIALIZED (
        SELECT seconds FROM headcount_sessions AS s
        WHERE EXISTS (SELECT 1 FROM headcount_views AS v
                      WHERE v.user_id = s.user_id AND v.at BETWEEN s.started AND s.ended)
    )
    SELECT (SELECT count(DISTINCT user_id) FROM headcount_views) AS total_visitors,
           (SELECT count(*) FROM headcount_views) AS page_views,
           (SELECT avg(seconds) FROM headcount_sessions) AS avg_session_duration,
           (SELECT count(*) FROM headcount_sessions) AS ended_sessions,
           (SELECT avg(seconds) FROM headcount_community_sessions) AS avg_community_session_duration,
           (SELECT count(*) FROM headcount_community_sessions) AS ended_community_sessions";

from_row!(PgRow, SqliteRow => Stats { total_visitors, page_views, avg_session_duration, ended_sessions, avg_community_session_duration, ended_community_sessions });

impl StoreOperation for StatsOf<'_> {
    /// `None` where there is no event table.
    type Output = Option<Stats>;
    const WHAT: &'static str = "statistics";
}

impl StatsOf<'_> {
    /// Every text that may stand for the community in metadata; none if its id cannot be a key.
    pub(in crate::store) fn spellings(&self, app: &AppSchema) -> Vec<String> {
        spellings(self.community, app)
    }
}
