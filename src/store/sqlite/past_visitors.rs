//! Past visitors of a community on SQLite; [`PastVisitor`] defines each number. The index of a visitor's events has all
//! that the numbers need, but where communities have whole numbers as keys: a key in JSON is then compared digit by digit,
//! in `metadata` itself ([`of_community`]).

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::event_index::{is_ours, key, of_community};
use super::moments::{Days, micros};
use super::values::{key as user_key, read_key};
use crate::ids::UserId;
use crate::store::operations::{FIRST_POSSIBLE, PastVisitors, Runs};
use crate::store::past_visitors::statements::{self, Numbers, VisitedPage, pages, starts, together};
use crate::store::past_visitors::{GAP, PastAsked, PastSort, PastVisitor};
use crate::store::rows::is_of_type;
use crate::store::schema::{AppSchema, EventTable};

impl Runs<PastVisitors<'_>> for Sqlite {
    async fn run(
        operation: &PastVisitors<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Vec<PastVisitor>>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(None);
        };
        let (value, user) = match operation.asked {
            PastAsked::Page { after, .. } => (
                after.as_ref().map(|after| after.value),
                after.as_ref().map(|after| &after.user),
            ),
            PastAsked::One(user) => (None, Some(user)),
        };
        let user = user.map(UserId::as_str).filter(|user| event.user_id.is_key(user));
        let user = user.map(|user| user_key(user, &event.user_id)).transpose()?;
        let numbers: Vec<Numbers> = bound(operation, app, numbers(operation, event))
            .bind(value)
            .bind(user)
            .fetch_all(&mut *connection)
            .await?;
        if numbers.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let users: Vec<&str> = numbers.iter().map(|numbers| numbers.user_id.as_str()).collect();
        let pages: Vec<VisitedPage> = bound(operation, app, pages_of(operation, event))
            .bind(Option::<i64>::None)
            .bind(sqlx::types::Json(users))
            .fetch_all(connection)
            .await?;
        together(numbers, pages, |user| read_key(user, &event.user_id)).map(Some)
    }
}

/// The statement with the parameters that each has: `?1` spellings, `?2` and `?3` days, `?4` from, `?5` to.
fn bound<'q, O>(
    operation: &PastVisitors<'_>,
    app: &AppSchema,
    sql: String,
) -> sqlx::query::QueryAs<'q, Sqlite, O, sqlx::sqlite::SqliteArguments>
where
    O: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
{
    let window = operation.window;
    let days = Days::around(window.from, window.to);
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(sqlx::types::Json(operation.spellings(app)))
        .bind(days.first)
        .bind(days.last)
        .bind(window.from.timestamp_micros())
        .bind(window.to.timestamp_micros())
}

/// SQL of `headcount_views (user_id, at, url)`, of the users that `of` takes.
fn views(operation: &PastVisitors<'_>, event: &EventTable, of: &str, url: &str) -> String {
    let EventTable {
        timestamp,
        table,
        user_id,
        ..
    } = event;
    let window = operation.window;
    let at = |column: &str| micros(column, timestamp.zone, window.from, window.to);
    let (counted, event_at) = (
        is_of_type(&event.event_type, &operation.types),
        at(&timestamp.to_string()),
    );
    let until_ours = if operation.until_ours {
        // The index has the first row of each spelling, not of all together. The sidecar writes moments in one
        // form, so its first text is its first moment.
        format!(
            "SELECT (SELECT min({timestamp}) FROM {table}
                     WHERE {counted} AND {key} = headcount_spelling.value AND {ours}
                       AND {timestamp} >= '{FIRST_POSSIBLE}') AS text
             FROM json_each(?1) AS headcount_spelling",
            key = key(event),
            ours = is_ours(event, true),
        )
    } else {
        "SELECT NULL AS text".to_owned()
    };
    format!(
        "headcount_until AS MATERIALIZED (
             SELECT min(?5, coalesce(min({first_at}), ?5)) AS at FROM ({until_ours}) AS first
         ), headcount_views AS MATERIALIZED (
             SELECT CAST({user_id} AS TEXT) AS user_id, {user_id} AS key, {event_at} AS at, {url} AS url
             FROM {table}
             WHERE {community} AND {counted} AND {user_id} IS NOT NULL {of}
               AND {timestamp} >= ?2 AND {timestamp} < ?3
               AND {event_at} >= ?4 AND {event_at} < ?5
               AND ({ours} OR {event_at} < (SELECT at FROM headcount_until))
         )",
        first_at = at("first.text"),
        community = of_community(event),
        ours = is_ours(event, true),
    )
}

/// `?6` is the value of the place in the order, `?7` its user, or the only one.
fn numbers(operation: &PastVisitors<'_>, event: &EventTable) -> String {
    let is_only = format!("AND {} = ?7", event.user_id);
    let (of, value, limit) = match operation.asked {
        PastAsked::One(_) => (is_only.as_str(), "last_visit", 1),
        PastAsked::Page { sort, limit, .. } => {
            let value = match sort {
                PastSort::LastVisit => "last_visit",
                PastSort::VisitCount => "visit_count",
                PastSort::FirstVisit => "first_visit",
            };
            ("", value, *limit)
        }
    };
    // A comparison with a column gives the parameter that column's affinity.
    let keyed = format!("(SELECT CAST(?7 AS {affinity}))", affinity = affinity(event));
    format!(
        "WITH {views}, {starts}, headcount_numbers AS ({numbers})
         SELECT user_id, page_views, visit_count, first_visit, last_visit FROM headcount_numbers
         WHERE ?6 IS NULL OR {value} < ?6 OR ({value} = ?6 AND key > {keyed})
         ORDER BY {value} DESC, key LIMIT {limit}",
        views = views(operation, event, of, "NULL"),
        starts = starts(
            "user_id, key",
            &GAP.num_microseconds().unwrap_or_default().to_string()
        ),
        numbers = statements::numbers("user_id, min(key) AS key", "min(at)", "max(at)"),
    )
}

fn affinity(event: &EventTable) -> &'static str {
    use crate::store::schema::Kind;
    match event.user_id.kind {
        Kind::SmallInt | Kind::Integer | Kind::BigInt => "INTEGER",
        _ => "TEXT",
    }
}

fn pages_of(operation: &PastVisitors<'_>, event: &EventTable) -> String {
    let of = format!(
        "AND {} IN (SELECT value FROM json_each(?7)) AND ?6 IS NULL",
        event.user_id
    );
    let url = format!("json_extract({}, '$.url')", event.metadata);
    format!(
        "WITH {} {}",
        views(operation, event, &of, &url),
        pages("user_id", "url", "")
    )
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use sqlx::{ConnectOptions as _, Executor as _, Row as _};

    use super::*;
    use crate::ids::CommunityId;
    use crate::store::past_visitors::PastWindow;
    use crate::store::sqlite::stats::tests::site;
    use crate::store::sqlite::store;

    #[tokio::test]
    async fn s33_no_statement_reads_the_whole_event_table() {
        let (_directory, options, config) = site("accounts_userevent", "accounts_usersession").await;
        let url = config.database.url.as_ref().unwrap().expose().to_owned();
        let app = store(&url, &config)
            .unwrap()
            .resolved()
            .await
            .unwrap()
            .app
            .unwrap();
        let event = app.event.as_ref().unwrap();
        let community = CommunityId::from("42");
        let window = PastWindow {
            community,
            from: Utc::now(),
            to: Utc::now(),
        };
        let mut connection = options.connect().await.unwrap();
        for asked in [
            PastAsked::One("7".into()),
            PastAsked::Page {
                sort: PastSort::VisitCount,
                after: None,
                limit: 50,
            },
        ] {
            let operation = PastVisitors {
                window: &window,
                asked: &asked,
                until_ours: true,
                types: vec!["page_view".into()],
            };
            for statement in [numbers(&operation, event), pages_of(&operation, event)] {
                let plan = format!("EXPLAIN QUERY PLAN {statement}");
                let plan = connection.fetch_all(AssertSqlSafe(plan)).await.unwrap();
                let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
                let reads: Vec<_> = plan
                    .iter()
                    .filter(|step| step.contains("accounts_userevent"))
                    .collect();
                assert!(
                    !reads.is_empty() && reads.iter().all(|step| step.starts_with("SEARCH")),
                    "{plan:#?}"
                );
            }
        }
    }
}
