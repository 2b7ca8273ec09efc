//! `from_row!`: reads a row of an SQL query into a struct, each field from the column of its name.
//!
//! Instead of sqlx's derive, which compiles both database drivers and SQLite itself a second time, for the build
//! machine: 15 % of a build from an empty cache.

/// Implements [`sqlx::FromRow`] for a struct: `from_row!(PgRow => Person { id, name })`. All fields are named; the
/// compiler reports a missing one. A column that is missing, or of another type, is an error of sqlx's that names it.
macro_rules! from_row {
    ($row:ty, $other:ty => $struct:ident $fields:tt) => {
        from_row!($row => $struct $fields);
        from_row!($other => $struct $fields);
    };
    ($row:ty => $struct:ident { $($field:ident),+ $(,)? }) => {
        impl ::sqlx::FromRow<'_, $row> for $struct {
            fn from_row(row: &$row) -> Result<Self, ::sqlx::Error> {
                use ::sqlx::Row as _;
                Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
            }
        }
    };
}

pub(crate) use from_row;
