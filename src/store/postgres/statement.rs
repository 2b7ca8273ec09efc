//! Sends statements to Postgres: never prepared under a name, and only within a transaction.
//!
//! A pooler may lend its connections per transaction. A statement that was prepared under a name would then be on
//! another connection the next time, or, worse, another client's statement of the same name would be there. The
//! driver sends an unnamed statement and its execution separately, so they must be in one transaction, as must the
//! settings that they run with (`begin`). It costs two more round trips for each read, and no configuration.

use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, SqlSafeStr};

/// A statement, unnamed.
pub(in crate::store) fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// A statement that answers rows, unnamed.
pub(in crate::store) fn query_as<'q, O>(sql: impl SqlSafeStr) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

/// A statement that answers one value, unnamed.
pub(in crate::store) fn query_scalar<'q, O>(sql: impl SqlSafeStr) -> QueryScalar<'q, Postgres, O, PgArguments>
where
    (O,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}
