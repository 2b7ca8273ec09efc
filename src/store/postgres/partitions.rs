//! Monthly partitions of our own event table: made ahead of time by `headcount migrate` and by every sidecar whose role
//! may, and afterwards for late rows, such as page views that waited in a spool since the last month.
//!
//! What no month takes goes to the DEFAULT partition, so no page view waits for a partition. Rows of a month that are
//! there when its partition is made are moved into it, in the same transaction.
//!
//! A month has a partition where one covers any of it, whatever its name: the operator may have made others. A name that is
//! taken, as by a partition that was detached, is not used again.

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statement::{query_as, query_scalar};
use crate::store::operations::{Backend as _, FIRST_POSSIBLE, MakePartitions, Runs};
use crate::store::schema::AppSchema;

/// Months after the current one that have a partition.
const AHEAD: u32 = 3;
/// Most months of late rows whose partitions are made at a time.
const LATE: i64 = 24;
/// Most rows of one month that a running sidecar moves from the DEFAULT partition, which is locked meanwhile; `headcount
/// migrate` moves any number.
const MOST_MOVED: i64 = 50_000;

/// A calendar month in UTC, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Month(NaiveDate);

impl Month {
    /// The month of a moment.
    pub(in crate::store) fn of(at: DateTime<Utc>) -> Self {
        let day = at.date_naive();
        Self(day.with_day(1).unwrap_or(day))
    }

    /// The month of `now`, and the next ones.
    pub(in crate::store) fn from_now(now: DateTime<Utc>) -> impl Iterator<Item = Self> {
        (0..=AHEAD).filter_map(move |months| Self::of(now).later(months))
    }

    /// Whether rows of it get a partition of their own: it is not from before there were sidecars, nor further ahead than
    /// partitions are made. Others have the time of a clock that is wrong.
    fn is_possible(self, now: DateTime<Utc>) -> bool {
        let last = Self::of(now).later(AHEAD);
        self.0.to_string().as_str() >= FIRST_POSSIBLE && last.is_none_or(|last| self.0 <= last.0)
    }

    fn later(self, months: u32) -> Option<Self> {
        self.0.checked_add_months(Months::new(months)).map(Self)
    }

    /// Name of its partition, without schema, where that is not taken.
    fn name(self) -> String {
        format!("page_view_{}", self.0.format("%Y_%m"))
    }
}

/// A partition to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct NewPartition {
    pub(in crate::store) month: Month,
    /// Without schema.
    pub(in crate::store) name: String,
}

impl NewPartition {
    /// The statements that make it, for one transaction. `default`: the DEFAULT partition, as in SQL. Nothing is written to
    /// that meanwhile: a row that came after the others were moved would be in the wrong partition.
    pub(in crate::store) fn create(&self, default: Option<&str>) -> String {
        let month = self.month.0;
        let next = month.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX);
        let [from, to] = [month, next].map(|day| format!("'{day} 00:00:00+00'"));
        let name = &self.name;
        let lock = default.map(|default| format!("LOCK TABLE {default} IN SHARE ROW EXCLUSIVE MODE;\n"));
        let moving = default.map(|default| {
            format!(
                "WITH moved AS (
    DELETE FROM {default} WHERE \"timestamp\" >= {from} AND \"timestamp\" < {to} RETURNING *
)
INSERT INTO headcount.{name} SELECT * FROM moved;
"
            )
        });
        format!(
            "{lock}CREATE TABLE headcount.{name} (LIKE headcount.page_view INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
{moving}ALTER TABLE headcount.page_view ATTACH PARTITION headcount.{name} FOR VALUES FROM ({from}) TO ({to})",
            lock = lock.unwrap_or_default(),
            moving = moving.unwrap_or_default(),
        )
    }
}

/// The partition that takes what the others do not.
pub(in crate::store) fn create_default(name: &str) -> String {
    format!("CREATE TABLE headcount.{name} PARTITION OF headcount.page_view DEFAULT")
}

/// SQL for the name `base`, or one like it, that nothing in our schema has.
fn free_name(base: &str) -> String {
    format!(
        "(SELECT free.name
          FROM (SELECT number, {base} || CASE number WHEN 0 THEN '' ELSE '_' || number END AS name
                FROM generate_series(0, 9) AS number) AS free
          WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = 'headcount' AND c.relname = free.name)
          ORDER BY free.number LIMIT 1)"
    )
}

/// Those of the months of which no partition covers any part.
pub(in crate::store) async fn missing(
    connection: &mut PgConnection,
    months: impl IntoIterator<Item = Month>,
) -> Result<Vec<NewPartition>, sqlx::Error> {
    let mut months: Vec<Month> = months.into_iter().collect();
    months.sort_by_key(|month| month.0);
    months.dedup();
    let days: Vec<String> = months.iter().map(|month| month.0.to_string()).collect();
    let names: Vec<String> = months.iter().map(|month| month.name()).collect();
    let sql = format!(
        "WITH range AS (
             SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid),
                        'FROM \\((?:MINVALUE|''([^'']+)'')\\) TO \\((?:MAXVALUE|''([^'']+)'')\\)') AS bound
             FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
             JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
             JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
             WHERE n.nspname = 'headcount' AND p.relname = 'page_view')
         SELECT asked.place - 1, {free}
         FROM unnest($1::text[]::date[], $2::text[]) WITH ORDINALITY AS asked(day, name, place)
         WHERE NOT EXISTS (
             SELECT FROM range
             WHERE range.bound IS NOT NULL
               AND coalesce(range.bound[1]::timestamptz, '-infinity')
                   < (asked.day::timestamp + interval '1 month') AT TIME ZONE 'UTC'
               AND coalesce(range.bound[2]::timestamptz, 'infinity') > asked.day::timestamp AT TIME ZONE 'UTC')
         ORDER BY asked.place",
        free = free_name("asked.name")
    );
    let found: Vec<(i64, Option<String>)> = query_as(AssertSqlSafe(sql))
        .bind(days)
        .bind(names)
        .fetch_all(connection)
        .await?;
    let partition = |(place, name): (i64, Option<String>)| {
        let month = *months.get(usize::try_from(place).ok()?)?;
        Some(NewPartition { month, name: name? })
    };
    Ok(found.into_iter().filter_map(partition).collect())
}

/// The DEFAULT partition of our table, as in SQL, where it has one.
pub(in crate::store) async fn default(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    query_scalar(
        "SELECT format('%I.%I', dn.nspname, d.relname)
         FROM pg_catalog.pg_partitioned_table t
         JOIN pg_catalog.pg_class c ON c.oid = t.partrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_class d ON d.oid = t.partdefid
         JOIN pg_catalog.pg_namespace dn ON dn.oid = d.relnamespace
         WHERE n.nspname = 'headcount' AND c.relname = 'page_view'",
    )
    .fetch_optional(connection)
    .await
}

/// A name for the DEFAULT partition.
pub(in crate::store) async fn name_of_default(
    connection: &mut PgConnection,
) -> Result<Option<String>, sqlx::Error> {
    let sql = format!("SELECT {}", free_name("'page_view_default'"));
    query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await
}

/// The months before `now` of rows in the DEFAULT partition, of which each has at most `most` there.
pub(in crate::store) async fn late(
    connection: &mut PgConnection,
    default: Option<&str>,
    now: DateTime<Utc>,
    most: i64,
) -> Result<Vec<Month>, sqlx::Error> {
    let Some(default) = default else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT date_trunc('month', \"timestamp\" AT TIME ZONE 'UTC')::date FROM {default}
         WHERE \"timestamp\" >= '{FIRST_POSSIBLE} 00:00:00+00' AND \"timestamp\" < $1
         GROUP BY 1 HAVING count(*) <= $2 ORDER BY 1 LIMIT {LATE}"
    );
    let days: Vec<NaiveDate> = query_scalar(AssertSqlSafe(sql))
        .bind(now)
        .bind(most)
        .fetch_all(connection)
        .await?;
    Ok(days.into_iter().map(Month).collect())
}

/// Whether our table is there, and is partitioned.
pub(in crate::store) async fn is_partitioned(
    connection: &mut PgConnection,
) -> Result<Option<bool>, sqlx::Error> {
    query_scalar(
        "SELECT c.relkind = 'p' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'headcount' AND c.relname = 'page_view' AND c.relkind IN ('r', 'p')",
    )
    .fetch_optional(connection)
    .await
}

impl Runs<MakePartitions<'_>> for Postgres {
    /// Others may do the same now: whoever comes second makes nothing.
    async fn run(
        operation: &MakePartitions<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<usize, sqlx::Error> {
        let now = operation.now;
        let default = default(connection).await?;
        let of_rows = operation.rows.iter().map(|at| Month::of(*at));
        let mut months: Vec<Month> = of_rows.filter(|month| month.is_possible(now)).collect();
        months.extend(Month::from_now(now));
        months.extend(late(connection, default.as_deref(), now, MOST_MOVED).await?);
        let mut made = 0;
        // The earliest last, since rows move: where that takes too long, the others are made all the same.
        for month in missing(connection, months).await?.into_iter().rev() {
            let mut transaction = Self::begin(connection, operation.database).await?;
            if !may_make(&mut transaction).await? {
                break;
            }
            // Another may have made it meanwhile.
            for partition in missing(&mut transaction, vec![month.month]).await? {
                sqlx::raw_sql(AssertSqlSafe(partition.create(default.as_deref())))
                    .execute(&mut *transaction)
                    .await?;
                made += 1;
            }
            transaction.commit().await?;
        }
        Ok(made)
    }
}

/// Whether the role may make partitions, and nobody else does until the end of the transaction.
async fn may_make(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar(
        "SELECT coalesce(bool_and(c.relkind = 'p' AND pg_has_role(c.relowner, 'USAGE')
                                  AND (d.oid IS NULL OR pg_has_role(d.relowner, 'USAGE'))
                                  AND has_schema_privilege(n.oid, 'USAGE')
                                  AND has_schema_privilege(n.oid, 'CREATE')), false)
                AND pg_try_advisory_xact_lock(hashtext('headcount partitions'))
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = c.oid
         LEFT JOIN pg_catalog.pg_class d ON d.oid = t.partdefid
         WHERE n.nspname = 'headcount' AND c.relname = 'page_view'",
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_the_months_ahead_go_over_the_end_of_the_year() {
        let now: DateTime<Utc> = "2026-11-30T23:59:59Z".parse().unwrap();
        let names: Vec<_> = Month::from_now(now).map(Month::name).collect();
        assert_eq!(
            names,
            [
                "page_view_2026_11",
                "page_view_2026_12",
                "page_view_2027_01",
                "page_view_2027_02"
            ]
        );
        let month = Month::from_now(now).nth(1).unwrap();
        let december = NewPartition {
            month,
            name: month.name(),
        }
        .create(None);
        assert!(
            december.contains("FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')"),
            "{december}"
        );
    }

    #[test]
    fn s24_a_clock_that_is_wrong_makes_no_partitions() {
        let now: DateTime<Utc> = "2026-11-30T23:59:59Z".parse().unwrap();
        let is_possible = |at: &str| Month::of(at.parse().unwrap()).is_possible(now);
        for at in [
            "2024-01-01T00:00:00Z",
            "2026-10-31T23:59:59Z",
            "2027-02-28T23:59:59Z",
        ] {
            assert!(is_possible(at), "{at}");
        }
        for at in [
            "1970-01-01T00:00:00Z",
            "2023-12-31T23:59:59Z",
            "2027-03-01T00:00:00Z",
        ] {
            assert!(!is_possible(at), "{at}");
        }
    }
}
