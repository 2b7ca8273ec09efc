//! Past visitors of a community on Postgres; [`PastVisitor`] defines each number.
//!
//! A page takes two steps: whose page it is, and what these users did. In the order of a moment the first step walks the
//! index of a community's events backwards until the page is full; for the number of visits it has to read all views of
//! the window. The second reads the index of a visitor's events.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::event_index::{is_ours, key, of_community};
use super::statement::{query, query_as, query_scalar};
use super::{moment, read_moment};
use crate::from_row::from_row;
use crate::store::operations::{FIRST_POSSIBLE, PastVisitors, Runs};
use crate::store::past_visitors::{
    Numbers, PastAsked, PastPlace, PastSort, PastVisitor, VisitedPage, pages, starts, together,
};
use crate::store::rows::is_of_type;
use crate::store::schema::{AppSchema, EventTable};

/// Rows that the walk reads first; each further time four times as many.
const FIRST_CHUNK: i64 = 500;
const LARGEST_CHUNK: i64 = 32_000;

/// [`GAP`](crate::store::past_visitors::GAP).
const GAP: &str = "interval '30 minutes'";

/// For the sorts and hashes of a community's views in memory; and the compilation of a statement takes longer than the
/// statement. Never below what the server has.
const SETTINGS: &str = "SELECT set_config('jit', 'off', true),
        set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 65536) || 'kB', true)";

impl Runs<PastVisitors<'_>> for Postgres {
    async fn run(
        operation: &PastVisitors<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Vec<PastVisitor>>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(None);
        };
        let spellings = operation.spellings(app);
        if spellings.is_empty() {
            return Ok(Some(Vec::new()));
        }
        query(SETTINGS).execute(&mut *connection).await?;
        let mut views = Views {
            operation,
            app,
            event,
            spellings,
            until: operation.window.to,
        };
        if operation.until_ours {
            views.until = views.first_of_ours(connection).await?;
        }
        let users = match operation.asked {
            PastAsked::One(user) => {
                let key = user.as_str().to_owned();
                Some(key)
                    .filter(|key| event.user_id.is_key(key))
                    .into_iter()
                    .collect()
            }
            PastAsked::Page { sort, after, limit } => {
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                match sort {
                    PastSort::VisitCount => views.by_visits(connection, after.as_ref(), limit).await?,
                    PastSort::LastVisit | PastSort::FirstVisit => {
                        views.by_moment(connection, *sort, after.as_ref(), limit).await?
                    }
                }
            }
        };
        if users.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let visitors = views.of_users(connection, &users).await?;
        let place = |visitor: &PastVisitor| users.iter().position(|user| user == visitor.user_id.as_str());
        let mut visitors: Vec<_> = visitors
            .into_iter()
            .map(|visitor| (place(&visitor), visitor))
            .collect();
        visitors.sort_by_key(|(place, _)| *place);
        Ok(Some(visitors.into_iter().map(|(_, visitor)| visitor).collect()))
    }
}

/// The views of the window.
struct Views<'a> {
    operation: &'a PastVisitors<'a>,
    app: &'a AppSchema,
    event: &'a EventTable,
    /// Of the community; at least one.
    spellings: Vec<String>,
    /// Before this the app's views count, too.
    until: DateTime<Utc>,
}

struct Candidate {
    user_id: String,
    at: i64,
    is_it: bool,
}

from_row!(PgRow => Candidate { user_id, at, is_it });

// Parameters of every statement: $1 spellings, $2 from, $3 to, $4 until.
impl Views<'_> {
    fn counted(&self) -> String {
        is_of_type(&self.event.event_type, &self.operation.types)
    }

    fn at(&self, parameter: &str) -> String {
        moment(&self.event.timestamp, &format!("{parameter}::timestamptz"))
    }

    fn micros(&self, expression: &str) -> String {
        let moment = read_moment(&self.event.timestamp, expression);
        format!("round(extract(epoch FROM {moment}) * 1000000)::bigint")
    }

    /// The user of a place; text that cannot be a key is behind all others.
    fn key_of(&self, place: &PastPlace) -> Option<String> {
        let user = place.user.as_str();
        self.event.user_id.is_key(user).then(|| user.to_owned())
    }

    /// When the app's views stop to count.
    async fn first_of_ours(&self, connection: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
        let EventTable { timestamp, table, .. } = self.event;
        // The index has the first row of each spelling, not of all together.
        let sql = format!(
            "SELECT min({first}) FROM unnest($1::text[]) AS headcount_spelling,
                    LATERAL (SELECT min({timestamp}) AS at FROM {table}
                             WHERE {counted} AND {key} = headcount_spelling AND {ours}
                               AND {timestamp} >= {first_possible}) AS headcount_first",
            first = read_moment(timestamp, "headcount_first.at"),
            counted = self.counted(),
            key = key(self.event),
            ours = is_ours(self.event, true),
            first_possible = moment(timestamp, &format!("timestamptz '{FIRST_POSSIBLE} 00:00Z'")),
        );
        let first: Option<DateTime<Utc>> = query_scalar(AssertSqlSafe(sql))
            .bind(&self.spellings)
            .fetch_one(connection)
            .await?;
        let to = self.operation.window.to;
        Ok(first.map_or(to, |first| first.min(to)))
    }

    /// The views of all, one SELECT for each range of the index; `more` ends each.
    fn ranges(&self, more: &str) -> String {
        let EventTable {
            timestamp,
            table,
            user_id,
            ..
        } = self.event;
        let (counted, from) = (self.counted(), self.at("$2"));
        let is_known = if user_id.nullable {
            format!("AND {user_id} IS NOT NULL")
        } else {
            String::new()
        };
        let ranges = (1..=self.spellings.len()).flat_map(|place| {
            [(true, self.at("$3")), (false, self.at("$4"))].map(|(ours, to)| {
                format!(
                    "(SELECT {user_id} AS user_id, {timestamp} AS at FROM {table}
                      WHERE {counted} AND {community} AND {ours}
                        AND {timestamp} >= {from} AND {timestamp} < {to} {is_known} {more})",
                    community = of_community(self.app, self.event, &format!("= ($1::text[])[{place}]")),
                    ours = is_ours(self.event, ours),
                )
            })
        });
        ranges.collect::<Vec<_>>().join("\n UNION ALL ")
    }

    /// A condition: a row of the table is one of the views.
    fn is_view(&self, of: &str) -> String {
        let timestamp = &self.event.timestamp;
        format!(
            "{counted} AND {community} AND {of} AND {timestamp} >= {from} AND {timestamp} < {to}
               AND ({ours} OR {timestamp} < {until})",
            counted = self.counted(),
            community = of_community(self.app, self.event, "= ANY ($1::text[])"),
            from = self.at("$2"),
            to = self.at("$3"),
            ours = is_ours(self.event, true),
            until = self.at("$4"),
        )
    }

    /// Users in the order of their last or first view. Each range is limited, so that the index is walked; the outer query
    /// looks whether a view is its user's last, or first.
    fn chunk(&self, sort: PastSort, limit: i64) -> String {
        let EventTable {
            timestamp,
            table,
            user_id,
            ..
        } = self.event;
        let beyond = if sort == PastSort::LastVisit { ">" } else { "<" };
        let place = moment(
            timestamp,
            "(timestamptz 'epoch' + $5::bigint * interval '1 microsecond')",
        );
        let more = format!(
            "AND ($5::bigint IS NULL
                  OR {timestamp} <= {place} AND ({timestamp} < {place} OR {user_id} > $6::text::{key_type}))
             ORDER BY {timestamp} DESC, {user_id} LIMIT {limit}",
            key_type = user_id.type_name,
        );
        format!(
            "SELECT headcount_view.user_id::text AS user_id, {micros} AS at,
                    (SELECT true FROM {table}
                     WHERE {is_view} AND {timestamp} {beyond} headcount_view.at LIMIT 1) IS NULL AS is_it
             FROM (
                 SELECT user_id, at FROM ({ranges}) AS headcount_ranges ORDER BY at DESC, user_id LIMIT {limit}
             ) AS headcount_view
             ORDER BY headcount_view.at DESC, headcount_view.user_id",
            micros = self.micros("headcount_view.at"),
            is_view = self.is_view(&format!("{user_id} = headcount_view.user_id")),
            ranges = self.ranges(&more),
        )
    }

    async fn by_moment(
        &self,
        connection: &mut PgConnection,
        sort: PastSort,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut place = after.map(|after| (after.value, self.key_of(after)));
        let mut users: Vec<String> = Vec::new();
        let mut chunk = FIRST_CHUNK;
        loop {
            let rows: Vec<Candidate> = self
                .bound_as(self.chunk(sort, chunk))
                .bind(place.as_ref().map(|(value, _)| *value))
                .bind(place.as_ref().and_then(|(_, user)| user.as_deref()))
                .fetch_all(&mut *connection)
                .await?;
            let is_last = i64::try_from(rows.len()).is_ok_and(|read| read < chunk);
            place = rows
                .last()
                .map(|row| (row.at, Some(row.user_id.clone())))
                .or(place);
            for row in rows {
                // Two views of one moment are both the last.
                if row.is_it && !users.contains(&row.user_id) {
                    users.push(row.user_id);
                }
            }
            users.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            if is_last || i64::try_from(users.len()).is_ok_and(|found| found == limit) {
                return Ok(users);
            }
            chunk = (chunk * 4).min(LARGEST_CHUNK);
        }
    }

    /// Users in the order of their visits.
    fn visits(&self, limit: i64) -> String {
        format!(
            "WITH headcount_views AS ({ranges}), {starts}
             SELECT user_id::text FROM (
                 SELECT user_id, sum(is_start) AS visits FROM headcount_starts GROUP BY user_id
             ) AS headcount_visits
             WHERE $5::bigint IS NULL OR visits < $5 OR (visits = $5 AND user_id > $6::text::{key_type})
             ORDER BY visits DESC, headcount_visits.user_id LIMIT {limit}",
            ranges = self.ranges(""),
            starts = starts("user_id", GAP),
            key_type = self.event.user_id.type_name,
        )
    }

    async fn by_visits(
        &self,
        connection: &mut PgConnection,
        after: Option<&PastPlace>,
        limit: i64,
    ) -> Result<Vec<String>, sqlx::Error> {
        let window = self.operation.window;
        query_scalar(AssertSqlSafe(self.visits(limit)))
            .bind(&self.spellings)
            .bind(window.from)
            .bind(window.to)
            .bind(self.until)
            .bind(after.map(|after| after.value))
            .bind(after.and_then(|after| self.key_of(after)))
            .fetch_all(connection)
            .await
    }

    /// The views of some users.
    fn views_of_users(&self) -> String {
        let EventTable {
            timestamp,
            table,
            user_id,
            metadata,
            ..
        } = self.event;
        format!(
            "headcount_views AS MATERIALIZED (
                 SELECT {user_id} AS user_id, {timestamp} AS at, {metadata} ->> 'url' AS url FROM {table}
                 WHERE {is_view}
             )",
            is_view = self.is_view(&format!("{user_id} = ANY ($5::text[]::{}[])", user_id.type_name)),
        )
    }

    fn numbers(&self) -> String {
        format!(
            "WITH {views}, {starts}
             SELECT user_id::text, count(*) AS page_views, sum(is_start) AS visit_count,
                    {first} AS first_visit, {last} AS last_visit
             FROM headcount_starts GROUP BY headcount_starts.user_id",
            views = self.views_of_users(),
            starts = starts("user_id", GAP),
            first = self.micros("min(at)"),
            last = self.micros("max(at)"),
        )
    }

    fn pages(&self) -> String {
        let pages = pages("user_id::text", "url COLLATE \"C\"");
        format!("WITH {views} {pages}", views = self.views_of_users())
    }

    async fn of_users(
        &self,
        connection: &mut PgConnection,
        users: &[String],
    ) -> Result<Vec<PastVisitor>, sqlx::Error> {
        let numbers: Vec<Numbers> = self
            .bound_as(self.numbers())
            .bind(users)
            .fetch_all(&mut *connection)
            .await?;
        let pages: Vec<VisitedPage> = self
            .bound_as(self.pages())
            .bind(users)
            .fetch_all(connection)
            .await?;
        together(numbers, pages, Ok)
    }

    /// The statement with the parameters that each has.
    fn bound_as<'q, O>(
        &self,
        sql: String,
    ) -> sqlx::query::QueryAs<'q, Postgres, O, sqlx::postgres::PgArguments>
    where
        O: for<'r> sqlx::FromRow<'r, PgRow>,
    {
        let window = self.operation.window;
        query_as(AssertSqlSafe(sql))
            .bind(self.spellings.clone())
            .bind(window.from)
            .bind(window.to)
            .bind(self.until)
    }
}
