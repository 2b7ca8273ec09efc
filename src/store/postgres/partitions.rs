//! Monthly partitions of our own event table, made ahead of time: by `headcount migrate`, and by every sidecar whose role
//! may.
//!
//! What no month takes goes to the DEFAULT partition, so no page view waits for a partition. Rows of a month that are
//! there when its partition is made are moved into it, in the same transaction.

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statement::query_scalar;
use crate::store::operations::{Backend as _, MakePartitions, Runs};
use crate::store::schema::AppSchema;

/// Months after the current one that have a partition.
const AHEAD: u32 = 3;

/// The partition that takes what the others do not.
pub(in crate::store) const DEFAULT: &str =
    "CREATE TABLE headcount.page_view_default PARTITION OF headcount.page_view DEFAULT";

/// A calendar month in UTC, by its first day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Month(NaiveDate);

impl Month {
    /// The month of `now`, and the next ones.
    pub(in crate::store) fn from_now(now: DateTime<Utc>) -> impl Iterator<Item = Self> {
        let this = now.date_naive();
        let this = this.with_day(1).unwrap_or(this);
        (0..=AHEAD).filter_map(move |months| this.checked_add_months(Months::new(months)).map(Self))
    }

    /// Name of its partition, without schema.
    pub(in crate::store) fn partition(self) -> String {
        format!("page_view_{}", self.0.format("%Y_%m"))
    }

    /// The statements that make its partition, for one transaction.
    pub(in crate::store) fn create(self) -> String {
        let next = self
            .0
            .checked_add_months(Months::new(1))
            .unwrap_or(NaiveDate::MAX);
        let [from, to] = [self.0, next].map(|day| format!("'{day} 00:00:00+00'"));
        let name = self.partition();
        format!(
            "CREATE TABLE headcount.{name} (LIKE headcount.page_view INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
WITH moved AS (
    DELETE FROM headcount.page_view_default WHERE \"timestamp\" >= {from} AND \"timestamp\" < {to} RETURNING *
)
INSERT INTO headcount.{name} SELECT * FROM moved;
ALTER TABLE headcount.page_view ATTACH PARTITION headcount.{name} FOR VALUES FROM ({from}) TO ({to})"
        )
    }
}

/// The first months of `from_now` that have no partition yet; none where our table is not partitioned.
pub(in crate::store) async fn missing(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<Month>, sqlx::Error> {
    let months: Vec<Month> = Month::from_now(now).collect();
    let names: Vec<String> = months.iter().map(|month| month.partition()).collect();
    let there: Vec<String> = query_scalar(
        "SELECT c.relname::text FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = to_regclass('headcount.page_view') AND c.relname = ANY ($1::text[])",
    )
    .bind(names)
    .fetch_all(&mut *connection)
    .await?;
    Ok(months
        .into_iter()
        .filter(|month| !there.contains(&month.partition()))
        .collect())
}

/// Whether our table is there, and is partitioned.
pub(in crate::store) async fn is_partitioned(
    connection: &mut PgConnection,
) -> Result<Option<bool>, sqlx::Error> {
    query_scalar(
        "SELECT relkind = 'p' FROM pg_catalog.pg_class WHERE oid = to_regclass('headcount.page_view')",
    )
    .fetch_optional(connection)
    .await
}

impl Runs<MakePartitions> for Postgres {
    /// Others may do the same now: whoever comes second makes nothing.
    async fn run(
        operation: &MakePartitions,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<usize, sqlx::Error> {
        let mut transaction = Self::begin(connection, &operation.database).await?;
        let may: bool = query_scalar(
            "SELECT coalesce(bool_and(c.relkind = 'p' AND pg_has_role(c.relowner, 'USAGE')), false)
                    AND coalesce(has_schema_privilege(to_regnamespace('headcount'), 'CREATE'), false)
                    AND pg_try_advisory_xact_lock(hashtext('headcount partitions'))
             FROM pg_catalog.pg_class c WHERE c.oid = to_regclass('headcount.page_view')",
        )
        .fetch_one(&mut *transaction)
        .await?;
        if !may {
            return Ok(0);
        }
        let months = missing(&mut transaction, operation.now).await?;
        for month in &months {
            sqlx::raw_sql(AssertSqlSafe(month.create()))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(months.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s24_the_months_ahead_go_over_the_end_of_the_year() {
        let now: DateTime<Utc> = "2026-11-30T23:59:59Z".parse().unwrap();
        let names: Vec<_> = Month::from_now(now).map(Month::partition).collect();
        assert_eq!(
            names,
            [
                "page_view_2026_11",
                "page_view_2026_12",
                "page_view_2027_01",
                "page_view_2027_02"
            ]
        );
        let december = Month::from_now(now).nth(1).unwrap().create();
        assert!(
            december.contains("FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')"),
            "{december}"
        );
    }
}
