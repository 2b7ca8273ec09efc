//! Past visitors of a community on Postgres; [`PastVisitor`] defines each number.
//!
//! A page takes two steps: whose page it is ([`by_moment`], [`by_visits`]), and what these users did ([`details`]). The second
//! reads the index of a visitor's events.

mod by_moment;
mod by_visits;
mod counting;
mod details;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::event_index::{Spelling, has_key, is_counted, is_ours, is_small, of_community};
use super::statement::{query, query_as, query_scalar};
use super::{moment, read_moment};
use crate::store::event_indexes::VISITS;
use crate::store::operations::{FIRST_POSSIBLE, PastVisitors, Runs};
use crate::store::past_visitors::statements::starts;
use crate::store::past_visitors::{GAP, PastAsked, PastPlace, PastSort, PastVisitor};
use crate::store::schema::{AppSchema, EventTable};

/// For the sorts and hashes of a community's views in memory; the compilation of a statement takes longer than the statement; and
/// no table is read from end to end, in the hope that its first rows are as many as a statement wants. Never below what the server
/// has.
const SETTINGS: &str = "SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
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
        let visitors = match operation.asked {
            PastAsked::One(user) => {
                let key = user.as_str().to_owned();
                let users = Some(key).filter(|key| event.user_id.is_key(key));
                let users: Vec<String> = users.into_iter().collect();
                views.of_users(connection, &users, None, 1).await?
            }
            PastAsked::Page { sort, after, limit } => {
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                match sort {
                    PastSort::VisitCount => views.by_visits(connection, after.as_ref(), limit).await?,
                    PastSort::LastVisit | PastSort::FirstVisit => {
                        let users = views.by_moment(connection, *sort, after.as_ref(), limit).await?;
                        views.in_order(connection, &users).await?
                    }
                }
            }
        };
        Ok(Some(visitors))
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

// Parameters of every statement: $1 spellings, $2 from, $3 to, $4 until.
impl Views<'_> {
    fn counted(&self) -> String {
        is_counted(self.event, &self.operation.types)
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
                             WHERE {counted} AND {has_key} AND {ours}
                               AND {timestamp} >= {first_possible}) AS headcount_first",
            first = read_moment(timestamp, "headcount_first.at"),
            counted = self.counted(),
            has_key = has_key(self.app, self.event, Spelling::Is("headcount_spelling")),
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

    /// The views of all, each once, by the indexes of visits where both are there.
    async fn all(&self, connection: &mut PgConnection) -> Result<String, sqlx::Error> {
        let sql = "SELECT count(*) = 2 FROM pg_catalog.pg_index x
                   JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid AND c.relname = ANY ($2)
                   WHERE x.indrelid = to_regclass($1) AND x.indisvalid";
        let has_both: bool = query_scalar(sql)
            .bind(self.event.table.to_string())
            .bind(VISITS.to_vec())
            .fetch_one(connection)
            .await?;
        if !has_both {
            return Ok(self.ranges(""));
        }
        let [small, large] =
            [true, false].map(|is| self.ranges(&format!("AND {}", is_small(self.event, is))));
        Ok(format!("{small} UNION ALL {large}"))
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
        // The app's may all be before the window: planned for one range, the statement takes less.
        let has_theirs = self.until > self.operation.window.from;
        let to = [
            Some((true, self.at("$3"))),
            has_theirs.then(|| (false, self.at("$4"))),
        ];
        let ranges = (1..=self.spellings.len())
            .flat_map(|place| to.iter().flatten().map(move |(ours, to)| (place, *ours, to)));
        let ranges = ranges.map(|(place, ours, to)| {
            format!(
                "(SELECT {user_id} AS user_id, {timestamp} AS at FROM {table}
                      WHERE {counted} AND {community} AND {ours}
                        AND {timestamp} >= {from} AND {timestamp} < {to} {is_known} {more})",
                community = of_community(self.app, self.event, Spelling::Nth(place)),
                ours = is_ours(self.event, ours),
            )
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
            community = of_community(self.app, self.event, Spelling::Any),
            from = self.at("$2"),
            to = self.at("$3"),
            ours = is_ours(self.event, true),
            until = self.at("$4"),
        )
    }

    /// SQL of `headcount_starts`, from `headcount_views`.
    fn starts() -> String {
        starts("user_id", &format!("interval '{} minutes'", GAP.num_minutes()))
    }

    /// SQL of `headcount_views`, of the users whose keys the parameter `users` lists.
    fn views_of_users(&self, users: &str) -> String {
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
            is_view = self.is_view(&format!(
                "{user_id} = ANY ({users}::text[]::{}[])",
                user_id.type_name
            )),
        )
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
