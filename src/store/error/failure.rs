//! A server's error without its DETAIL, which may quote a whole row: a session row holds its token.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use super::Class;
use super::classification::Classification;
use crate::printable::joined;

/// A server's error, reduced to what may be logged: code, message, names; never the row.
#[derive(Debug, Clone)]
pub(super) struct ServerFailure {
    code: String,
    message: String,
    constraint: Option<String>,
    table: Option<String>,
    kind: fn() -> ErrorKind,
    is_of_a_function: bool,
    is_of_a_policy: bool,
    pub(super) is_of_a_partition: bool,
    /// What to do about it.
    pub(super) remedy: Option<String>,
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
            is_of_a_policy: is_of_a_policy(&*error),
            is_of_a_partition: lacks_partition(&*error),
            remedy: remedy_on_sqlite(&*error),
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

/// Whether a policy of row-level security refuses a row; where none lets the role write, too.
fn is_of_a_policy(error: &dyn DatabaseError) -> bool {
    let of_server = error.try_downcast_ref::<PgDatabaseError>();
    of_server.is_some_and(|error| error.routine() == Some("ExecWithCheckOptions"))
}

/// SQLite has no roles: whoever may write the file may do everything.
fn remedy_on_sqlite(error: &dyn DatabaseError) -> Option<String> {
    const READONLY: i32 = 8;
    let code: i32 = error.try_downcast_ref::<SqliteError>()?.code()?.parse().ok()?;
    (code & 0xff == READONLY)
        .then(|| "the user that runs headcount must be able to write the file and its folder".to_owned())
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

impl ServerFailure {
    /// Whether the role lacks a right that a statement of ours needs, or a function of the app.
    pub(super) fn is_denied(&self) -> bool {
        self.code == "42501"
    }

    /// Whether the server refuses the user, knows no such database, or there is no such file.
    pub(super) fn is_of_the_configuration(&self) -> bool {
        self.is_denied() || self.code.starts_with("28") || ["3D000", "14"].contains(&&*self.code)
    }

    /// Adds what to do: `lacking` are sentences about what the role was found to lack, `policies` the statements that let
    /// it write where row-level security is on.
    pub(super) fn explain(&mut self, lacking: &[String], policies: &[String]) {
        self.remedy = Some(if self.is_of_a_function {
            "a function of the app, such as a trigger's, needs a right that the role lacks: GRANT it, or make the function \
             SECURITY DEFINER"
                .to_owned()
        } else if !lacking.is_empty() {
            joined(lacking)
        } else if self.is_of_a_policy && !policies.is_empty() {
            format!("no policy lets the role write each row: {}", policies.join(" "))
        } else {
            "GRANT it: `headcount grants` prints the rights that the role needs".to_owned()
        });
    }
}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)?;
        match &self.remedy {
            Some(remedy) => write!(f, ": {remedy}"),
            None => Ok(()),
        }
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
