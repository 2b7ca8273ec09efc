//! A server's error without its DETAIL, which may quote a whole row: a session row holds its token.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::Class;
use super::classification::Classification;

/// A server's error, reduced to what may be logged: code, message, names; never the row.
#[derive(Debug, Clone)]
pub(super) struct ServerFailure {
    code: String,
    message: String,
    constraint: Option<String>,
    table: Option<String>,
    kind: fn() -> ErrorKind,
    is_of_a_function: bool,
    pub(super) verdict: Classification,
}

impl ServerFailure {
    pub(super) fn without_detail(error: Box<dyn DatabaseError>) -> Self {
        let error = match error.try_downcast::<Self>() {
            Ok(known) => return *known,
            Err(error) => error,
        };
        let code = error.code().unwrap_or_default().into_owned();
        let mut message = error.message().to_owned();
        let verdict = if lacks_partition(&*error) {
            message.push_str(": make the partition, or a DEFAULT one; page views wait for it");
            Classification::SCHEMA
        } else if is_of_a_function(&*error) && ["55000", "42809"].contains(&&*code) {
            // What a trigger does or raises for a row.
            Classification::wait(Class::Other)
        } else if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Classification::of_sqlstate(&code)
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            Classification::of_sqlite(code.parse().unwrap_or(1), &message)
        } else {
            Classification::REFUSED
        };
        Self {
            constraint: error.constraint().map(str::to_owned),
            table: error.table().map(str::to_owned),
            kind: match error.kind() {
                ErrorKind::UniqueViolation => || ErrorKind::UniqueViolation,
                ErrorKind::ForeignKeyViolation => || ErrorKind::ForeignKeyViolation,
                ErrorKind::NotNullViolation => || ErrorKind::NotNullViolation,
                ErrorKind::CheckViolation => || ErrorKind::CheckViolation,
                ErrorKind::ExclusionViolation => || ErrorKind::ExclusionViolation,
                _ => || ErrorKind::Other,
            },
            is_of_a_function: is_of_a_function(&*error),
            code,
            message,
            verdict,
        }
    }
}

/// Whether a function of the app reported it, such as a trigger's: for this row, perhaps.
pub(super) fn is_of_a_function(error: &dyn DatabaseError) -> bool {
    let of_server = error.try_downcast_ref::<PgDatabaseError>();
    let known = error.try_downcast_ref::<ServerFailure>();
    of_server.is_some_and(|error| error.r#where().is_some_and(names_a_function))
        || known.is_some_and(|known| known.is_of_a_function)
}

/// Whether an error's context, one line for each place from the inside out, names more than the line of a COPY.
fn names_a_function(context: &str) -> bool {
    // In every language of the server.
    context.lines().count() > 1 || !context.contains("COPY")
}

/// Whether a row matched no partition of its table. The SQLSTATE is that of a violated CHECK; the routine that
/// reports it tells them apart in every language.
pub(super) fn lacks_partition(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| error.code() == "23514" && error.routine() == Some("ExecFindPartition"))
}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl StdError for ServerFailure {}

impl DatabaseError for ServerFailure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.code))
    }

    fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    fn kind(&self) -> ErrorKind {
        (self.kind)()
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w28_the_line_of_a_copy_is_no_function_of_the_app() {
        assert!(!names_a_function("COPY event, line 2"));
        assert!(!names_a_function("eventのCOPY、行 2"));
        assert!(names_a_function(
            "PL/pgSQL function no_bad_news() line 3 at RAISE\nCOPY event, line 2"
        ));
        assert!(names_a_function(
            "PL/pgSQL function no_bad_news() line 3 at RAISE"
        ));
    }
}
