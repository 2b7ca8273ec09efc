//! Errors of the app's database, and whether trying again can help.
//!
//! The question for every failure is: is it the row's fault? Only then is it [`StoreError::Refused`], and the
//! writer sets the row aside. A server that is away, busy, read-only or not yet migrated gives
//! [`StoreError::Unavailable`]: the batch stays and is tried again. In between is [`StoreError::Undone`]: it may
//! be the row's fault or not, but certainly nothing was written, so that fewer rows may be tried, under other
//! keys.

mod classification;
mod driver;
mod failure;
mod remedies;

pub use classification::Class;
use classification::{Classification, Remedy};
pub(super) use driver::{
    NO_PARTITION_THEN, in_words, is_impossible, is_untranslatable, lacks_counters, lacks_partition, standby,
};
use driver::{again, is_denied, is_of_the_role, is_timeout, known, verdict};
use failure::ServerFailure;

use crate::metrics::LabelValue as _;

/// An error of the app's database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, timed out, or refused for now: worth trying again.
    #[error("{}", unavailable(.0))]
    Unavailable(#[source] sqlx::Error),
    /// A statement of a write failed after the ledger had noted its parts and before its COMMIT was sent, so
    /// nothing of it is written, nor will be. The rows may be the reason: a lock held by another transaction, a
    /// limit of the server, an exception from a trigger.
    #[error("the database did not take a statement")]
    Undone(#[source] sqlx::Error),
    /// A statement was refused for good, for example by a constraint.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// Page views are neither written nor is there a table of them.
    #[error("there is no event table")]
    NoEvents,
    /// A row does not have the expected form.
    #[error("unexpected value in {0}")]
    Unexpected(String),
}

impl StoreError {
    /// Whether fewer rows may help: a statement timeout was reached, here or at the server.
    pub fn took_too_long(&self) -> bool {
        match self {
            Self::Unavailable(sqlx::Error::Io(error)) | Self::Undone(sqlx::Error::Io(error)) => {
                error.kind() == std::io::ErrorKind::TimedOut
            }
            Self::Unavailable(sqlx::Error::Database(error)) | Self::Undone(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code == "57014")
            }
            _ => false,
        }
    }

    /// Whether certainly nothing of a write is in the database.
    pub fn nothing_written(&self) -> bool {
        matches!(self, Self::Undone(_) | Self::Refused(_))
    }

    /// Whether single rows may be at fault, so that others may succeed.
    pub fn may_be_the_rows(&self) -> bool {
        match self {
            Self::Undone(_) | Self::Refused(_) => true,
            Self::Unavailable(error) => verdict(error).may_be_the_rows(),
            Self::Unexpected(_) | Self::NoEvents => false,
        }
    }

    /// Whether the same row will certainly fail again, as far as the error shows: it was refused, or exceeds a
    /// limit; waiting does not help.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Undone(error) => verdict(error).class == Class::Other && !self.took_too_long(),
            _ => false,
        }
    }

    /// The error without any values of rows: code and names.
    pub fn summary(&self) -> String {
        let (Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error)) = self else {
            return self.to_string();
        };
        let Some(error) = error.as_database_error() else {
            return self.class().label().to_owned();
        };
        let code = format!("code {}", error.code().unwrap_or_default());
        let constraint = error.constraint().map(|name| format!("constraint {name}"));
        let table = error.table().map(|name| format!("table {name}"));
        let parts: Vec<String> = [Some(code), constraint, table].into_iter().flatten().collect();
        parts.join(", ")
    }

    /// The error without any values of rows: with the server's words where no row is the reason, or ours, or else the
    /// summary.
    pub fn without_values(&self) -> String {
        let (Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error)) = self else {
            return self.summary();
        };
        match error {
            sqlx::Error::Configuration(problem) => problem.to_string(),
            _ if is_impossible(error) => in_words(error),
            // The words of the app's functions may be anything.
            sqlx::Error::Database(server) if is_denied(error) && !failure::is_of_a_function(&**server) => {
                in_words(error)
            }
            _ => self.summary(),
        }
    }

    /// The same error, where it is known that no COMMIT was sent.
    pub(super) fn before_commit(self) -> Self {
        match self {
            Self::Unavailable(error) if verdict(&error).may_be_the_rows() || is_timeout(&error) => {
                Self::Undone(error)
            }
            other => other,
        }
    }

    /// The same error, where the ledger has not noted the parts: an earlier try of them that timed out here may
    /// still be under way at the server.
    pub(super) fn before_noting(self) -> Self {
        match self {
            Self::Refused(error) => Self::Unavailable(error),
            other => other,
        }
    }

    /// A copy of the error for another caller that waited for the same answer, with the same verdict.
    #[must_use]
    pub fn again(&self) -> Self {
        match self {
            Self::Unavailable(error) => Self::Unavailable(again(error)),
            Self::Undone(error) => Self::Undone(again(error)),
            Self::Refused(error) => Self::Refused(again(error)),
            Self::NoEvents => Self::NoEvents,
            Self::Unexpected(what) => Self::Unexpected(what.clone()),
        }
    }

    /// The failure's class.
    pub fn class(&self) -> Class {
        self.verdict().class
    }

    /// The error with its causes, in one line for the log. It never holds a row, a token or a password.
    pub fn chain(&self) -> String {
        crate::telemetry::chain(self)
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        let remedy = if self.took_too_long() {
            "where it is up it is slow or has no free connection: see pg_stat_activity; else start it, or correct \
             database.url"
        } else {
            "start it, or correct database.url"
        };
        self.unreachable().then_some(remedy)
    }

    /// Whether the connection is broken, so that another may work.
    pub(super) fn lost_connection(&self) -> bool {
        self.verdict().remedy == Remedy::Reconnect
    }

    /// Whether the server cannot be reached, which says nothing about existing connections.
    pub(super) fn unreachable(&self) -> bool {
        self.verdict().class == Class::Connection
    }

    /// Whether the server takes no writes, as a standby after a failover.
    pub(super) fn read_only(&self) -> bool {
        self.verdict().class == Class::ReadOnly
    }

    /// Whether the app's tables may have changed since they were last read.
    pub(super) fn stale_schema(&self) -> bool {
        matches!(
            self.verdict().remedy,
            Remedy::Reread | Remedy::Privilege | Remedy::Prepare
        )
    }

    /// Whether prepared statements no longer fit the app's tables.
    pub(super) fn stale_statements(&self) -> bool {
        self.verdict().remedy == Remedy::Prepare
    }

    /// Whether a text has a character that the database's encoding lacks: no value there can equal it.
    pub(super) fn untranslatable(&self) -> bool {
        matches!(self, Self::Refused(error) if is_untranslatable(error))
    }

    fn verdict(&self) -> Classification {
        match self {
            Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error) => verdict(error),
            Self::Unexpected(_) | Self::NoEvents => Classification::SCHEMA,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let error = match error {
            E::ColumnDecode { index, source } => {
                return Self::Unexpected(format!("column {index}: {source}"));
            }
            E::Decode(source) => return Self::Unexpected(source.to_string()),
            E::RowNotFound | E::ColumnNotFound(_) | E::ColumnIndexOutOfBounds { .. } => {
                return Self::Unexpected(format!("an answer: {error}"));
            }
            E::Database(error) => E::Database(Box::new(ServerFailure::without_detail(error))),
            other => other,
        };
        if verdict(&error).retriable() {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}

/// What happened, in words: an error that time does not cure is not called an absence.
fn unavailable(error: &sqlx::Error) -> &'static str {
    match verdict(error).remedy {
        Remedy::Reread | Remedy::Privilege if is_of_the_role(error) => "the database role lacks a right",
        Remedy::Reread | Remedy::Privilege | Remedy::Prepare => {
            "the database cannot do this until its tables are changed"
        }
        Remedy::None | Remedy::Wait | Remedy::Reconnect => "the database is not available",
    }
}

/// The answer took longer than its limit.
pub(super) fn timed_out(what: &'static str) -> StoreError {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, what);
    StoreError::Unavailable(sqlx::Error::Io(error))
}

/// No connection of the pool was free in time, which says nothing about how long anything takes; `what` says why.
pub(super) fn no_connection(what: String) -> StoreError {
    let error = std::io::Error::new(std::io::ErrorKind::ResourceBusy, what);
    StoreError::Unavailable(sqlx::Error::Io(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_not_taken_for_a_lost_connection() {
        let error = timed_out("the statement timed out");
        assert_eq!(error.class(), Class::Connection);
        assert!(!error.lost_connection());
    }

    #[test]
    fn w26_a_standby_takes_no_writes_and_is_no_lost_connection() {
        let error = StoreError::from(standby());
        assert!(error.read_only() && !error.lost_connection());
        assert!(matches!(error, StoreError::Unavailable(_)));
    }

    #[test]
    fn an_error_that_many_wait_for_says_the_same_to_each() {
        let lost = || sqlx::Error::Protocol("cut off".into());
        for error in [
            timed_out("the statement timed out"),
            StoreError::from(lost()),
            StoreError::Undone(lost()),
            StoreError::from(sqlx::Error::PoolTimedOut),
            StoreError::from(sqlx::Error::Configuration("no ledger".into())),
            StoreError::Unexpected("a row".into()),
        ] {
            let again = error.again();
            assert_eq!(again.verdict(), error.verdict(), "{error:?}");
            assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&error));
            assert_eq!(again.took_too_long(), error.took_too_long());
        }
    }
}
