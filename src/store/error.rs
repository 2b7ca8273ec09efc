//! What can go wrong at the app's database, and whether trying again can help.
//!
//! The question asked of every failure is: is it the row's fault? Only then is it [`StoreError::Refused`],
//! and the writer sets the row aside. A server that is away, busy, read-only or not yet migrated is
//! [`StoreError::Unavailable`]: the batch stays and is tried again.
//!
//! Server messages lose their DETAIL here: it may quote a whole row, and a session row holds its token.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// What can go wrong at the app's database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, timed out, or refused for now: worth trying again.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A statement was refused for good, for example by a constraint.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// A row does not have the expected form.
    #[error("unexpected value in {0}")]
    Unexpected(String),
}

impl StoreError {
    /// Why, as a metric label: `connection`, `contention`, `read_only`, `resources` or `other`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(error) | Self::Refused(error) => verdict(error).class.label(),
            Self::Unexpected(_) => Class::Other.label(),
        }
    }

    /// The error with its causes, in one line for the log. It never holds a row, a token or a password.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }

    /// Whether the connection is gone, so that another one may do better.
    pub(super) fn lost_connection(&self) -> bool {
        matches!(self, Self::Unavailable(error) if verdict(error).lost_connection)
    }

    /// Whether the server takes no writes, as a standby after a failover.
    pub(super) fn read_only(&self) -> bool {
        matches!(self, Self::Unavailable(error) if verdict(error).class == Class::ReadOnly)
    }

    /// Whether the app's tables may have changed under us.
    pub(super) fn stale_schema(&self) -> bool {
        match self {
            Self::Unavailable(error) | Self::Refused(error) => verdict(error).stale_schema,
            Self::Unexpected(_) => true,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{
            ColumnDecode, ColumnIndexOutOfBounds, ColumnNotFound, Database, Decode, RowNotFound,
        };
        match error {
            Database(error) => {
                let failure = ServerFailure::without_detail(error);
                let retriable = failure.verdict.retriable;
                let error = Database(Box::new(failure));
                if retriable {
                    Self::Unavailable(error)
                } else {
                    Self::Refused(error)
                }
            }
            ColumnDecode { index, source } => Self::Unexpected(format!("column {index}: {source}")),
            Decode(source) => Self::Unexpected(source.to_string()),
            RowNotFound | ColumnNotFound(_) | ColumnIndexOutOfBounds { .. } => {
                Self::Unexpected(format!("an answer: {error}"))
            }
            other if verdict(&other).retriable => Self::Unavailable(other),
            other => Self::Refused(other),
        }
    }
}

/// The answer took longer than the operation may take.
pub(super) fn timed_out(what: &'static str) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Io(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        what,
    )))
}

/// Coarse reason of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Connection,
    Contention,
    ReadOnly,
    Resources,
    Other,
}

impl Class {
    fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Contention => "contention",
            Self::ReadOnly => "read_only",
            Self::Resources => "resources",
            Self::Other => "other",
        }
    }
}

/// What to make of a failure.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    class: Class,
    retriable: bool,
    lost_connection: bool,
    stale_schema: bool,
}

impl Verdict {
    const REFUSED: Self = Self {
        class: Class::Other,
        retriable: false,
        lost_connection: false,
        stale_schema: false,
    };

    const fn retriable(class: Class) -> Self {
        Self {
            class,
            retriable: true,
            ..Self::REFUSED
        }
    }

    const LOST: Self = Self {
        lost_connection: true,
        ..Self::retriable(Class::Connection)
    };

    const STALE: Self = Self {
        stale_schema: true,
        ..Self::retriable(Class::Other)
    };

    /// W9. Codes that speak of the server or of our view of its tables are retriable; codes that speak of
    /// the data are not. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    fn of_sqlstate(code: &str) -> Self {
        match code {
            // admin shutdown, crash shutdown, cannot connect now, idle session timeout
            "57P01" | "57P02" | "57P03" | "57P05" => Self::LOST,
            // read-only transaction: a standby after a failover
            "25006" => Self::retriable(Class::ReadOnly),
            // lock not available, query cancelled (statement timeout), object in use
            "55P03" | "57014" | "55006" => Self::retriable(Class::Contention),
            // Undefined table, column, function, schema; wrong type; cached plan; NOT NULL (W10: never the
            // row's fault, a column that nobody fills appeared); privilege.
            "42P01" | "42703" | "42883" | "3F000" | "42804" | "0A000" | "23502" | "42501" => Self::STALE,
            // integrity violation reported as a rollback
            "40002" => Self::REFUSED,
            _ => match code.get(..2) {
                Some("08") => Self::LOST,
                // wrong password, no such database
                Some("28" | "3D") => Self::retriable(Class::Connection),
                Some("40") => Self::retriable(Class::Contention),
                Some("53" | "58") => Self::retriable(Class::Resources),
                Some("55" | "57" | "XX") => Self::retriable(Class::Other),
                _ => Self::REFUSED,
            },
        }
    }

    /// <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
    fn of_sqlite(code: i32, message: &str) -> Self {
        const NOT_NULL: i32 = 1299;
        match (code, code & 0xff) {
            // W10; PERM, CORRUPT, SCHEMA, AUTH, NOTADB
            (NOT_NULL, _) | (_, 3 | 11 | 17 | 23 | 26) => Self::STALE,
            // ERROR: of many things, only names that are gone concern us
            (_, 1) if message.contains("no such") || message.contains("has no column") => Self::STALE,
            // BUSY, LOCKED, INTERRUPT
            (_, 5 | 6 | 9) => Self::retriable(Class::Contention),
            // READONLY
            (_, 8) => Self::retriable(Class::ReadOnly),
            // NOMEM, IOERR, FULL
            (_, 7 | 10 | 13) => Self::retriable(Class::Resources),
            // CANTOPEN
            (_, 14) => Self::retriable(Class::Connection),
            _ => Self::REFUSED,
        }
    }
}

fn verdict(error: &sqlx::Error) -> Verdict {
    use sqlx::Error as E;
    match error {
        E::Database(error) => match error.try_downcast_ref::<ServerFailure>() {
            Some(failure) => failure.verdict,
            None => Verdict::REFUSED,
        },
        // A timeout is no reason to spend the same time again at once.
        E::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Verdict::retriable(Class::Connection),
        E::Io(_) | E::Tls(_) | E::Protocol(_) | E::WorkerCrashed | E::BeginFailed => Verdict::LOST,
        E::PoolTimedOut | E::PoolClosed => Verdict::retriable(Class::Connection),
        E::Configuration(_) | E::TypeNotFound { .. } => Verdict::STALE,
        _ => Verdict::REFUSED,
    }
}

/// A server's error, reduced to what may be logged: code, message, names; never the row.
#[derive(Debug)]
struct ServerFailure {
    code: String,
    message: String,
    constraint: Option<String>,
    table: Option<String>,
    kind: fn() -> ErrorKind,
    verdict: Verdict,
}

impl ServerFailure {
    fn without_detail(error: Box<dyn DatabaseError>) -> Self {
        let error = match error.try_downcast::<Self>() {
            Ok(known) => return *known,
            Err(error) => error,
        };
        let code = error.code().unwrap_or_default().into_owned();
        let message = error.message().to_owned();
        let verdict = if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Verdict::of_sqlstate(&code)
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            Verdict::of_sqlite(code.parse().unwrap_or(1), &message)
        } else {
            Verdict::REFUSED
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
            code,
            message,
            verdict,
        }
    }
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
    fn w9_a_server_that_is_away_busy_or_read_only_is_worth_another_try() {
        for (code, class) in [
            ("40P01", "contention"),
            ("40001", "contention"),
            ("55P03", "contention"),
            ("57014", "contention"),
            ("57P01", "connection"),
            ("57P03", "connection"),
            ("08006", "connection"),
            ("08P01", "connection"),
            ("28P01", "connection"),
            ("25006", "read_only"),
            ("53300", "resources"),
            ("53100", "resources"),
            ("42703", "other"),
            ("23502", "other"),
        ] {
            let verdict = Verdict::of_sqlstate(code);
            assert!(verdict.retriable, "{code}");
            assert_eq!(verdict.class.label(), class, "{code}");
        }
        for code in [5, 6, 8, 10, 13, 14, 261, 517, 1299] {
            assert!(Verdict::of_sqlite(code, "").retriable, "{code}");
        }
    }

    #[test]
    fn w9_a_row_that_breaks_a_constraint_is_refused_for_good() {
        for code in [
            "23503", "23505", "23514", "22001", "22003", "22P02", "P0001", "40002",
        ] {
            assert!(!Verdict::of_sqlstate(code).retriable, "{code}");
        }
        for code in [19, 275, 787, 2067] {
            assert!(!Verdict::of_sqlite(code, "").retriable, "{code}");
        }
    }

    #[test]
    fn a_timeout_is_not_taken_for_a_lost_connection() {
        let error = timed_out("the statement timed out");
        assert_eq!(error.class(), "connection");
        assert!(!error.lost_connection());
    }
}
