//! Tells the driver's errors apart: of the connection, of the tables, of the role, of one row.

use std::io::ErrorKind;

use super::classification::Classification;
use super::failure::{self, ServerFailure};
use crate::store::schema::{SchemaProblem, SchemaProblems};

/// A copy of the error with the same verdict and text.
pub(super) fn again(error: &sqlx::Error) -> sqlx::Error {
    use sqlx::Error as E;
    match error {
        E::Database(server) => match server.try_downcast_ref::<ServerFailure>() {
            Some(failure) => E::Database(Box::new(failure.clone())),
            None => E::InvalidArgument(error.to_string()),
        },
        E::Io(io) => E::Io(std::io::Error::new(io.kind(), io.to_string())),
        E::PoolTimedOut => E::PoolTimedOut,
        E::PoolClosed => E::PoolClosed,
        E::Configuration(problem) => E::Configuration(problem.to_string().into()),
        E::TypeNotFound { type_name } => E::TypeNotFound {
            type_name: type_name.clone(),
        },
        other if verdict(other) == Classification::LOST => E::Io(std::io::Error::other(other.to_string())),
        other => E::InvalidArgument(other.to_string()),
    }
}

pub(super) fn verdict(error: &sqlx::Error) -> Classification {
    use sqlx::Error as E;
    match error {
        E::Database(_) => known(error).map_or(Classification::REFUSED, |failure| failure.verdict),
        // After a timeout, or a wait for a connection, an immediate retry would only wait as long again.
        E::Io(error) if [ErrorKind::TimedOut, ErrorKind::ResourceBusy].contains(&error.kind()) => {
            Classification::UNREACHABLE
        }
        E::PoolTimedOut | E::PoolClosed => Classification::UNREACHABLE,
        // Ours: a standby was asked what only a primary knows.
        E::Io(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => Classification::READ_ONLY,
        // The savepoint: the driver's idea of the connection's state is wrong.
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::WorkerCrashed
        | E::BeginFailed
        | E::InvalidSavePointStatement => Classification::LOST,
        // Raised by our own code, for a schema with problems.
        E::Configuration(_) => Classification::SCHEMA,
        E::TypeNotFound { .. } => Classification::STALE,
        _ => Classification::REFUSED,
    }
}

/// Whether a statement can never succeed, whatever its rows: it changes a view that takes no changes.
pub(in crate::store) fn is_impossible(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    let is_code = error
        .code()
        .is_some_and(|code| matches!(&*code, "55000" | "42809"));
    // A view that groups rows, whose trigger takes the update: its rows cannot be locked.
    let takes_no_lock =
        error.code().is_some_and(|code| code == "0A000") && error.message().contains("is not allowed with");
    (is_code && !failure::is_of_a_function(error))
        || takes_no_lock
        || (error.message().contains("cannot modify") && error.message().contains("is a view"))
}

pub(super) fn is_of_the_role(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Configuration(problem) => problem
            .downcast_ref::<SchemaProblems>()
            .is_some_and(|SchemaProblems(problems)| problems.iter().any(SchemaProblem::is_of_the_role)),
        error => is_denied(error),
    }
}

pub(super) fn is_denied(error: &sqlx::Error) -> bool {
    known(error).is_some_and(ServerFailure::is_denied)
}

pub(super) fn known(error: &sqlx::Error) -> Option<&ServerFailure> {
    error.as_database_error()?.try_downcast_ref()
}

/// Whether the tables of counters are not there, or the role may not write them.
pub(in crate::store) fn lacks_counters(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else {
        return false;
    };
    let is_code = error
        .code()
        .is_some_and(|code| matches!(&*code, "42P01" | "42501" | "3F000"));
    is_code || error.message().starts_with("no such table: headcount_counter")
}

/// A server's error without any row: its message and code, and what to do.
pub(in crate::store) fn in_words(error: &sqlx::Error) -> String {
    if let Some(failure) = known(error) {
        return failure.to_string();
    }
    match error.as_database_error() {
        Some(server) => format!(
            "{} (code {})",
            server.message(),
            server.code().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}

/// Rows matched no partition, though those of now match one: the text of an [`sqlx::Error::InvalidArgument`].
pub(in crate::store) const NO_PARTITION_THEN: &str =
    "no partition of the event table takes views of that time, though one takes those of now";

/// Whether a row matched no partition of its table.
pub(in crate::store) fn lacks_partition(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(failure::lacks_partition)
}

/// Whether a text has a character that the database's encoding lacks.
pub(in crate::store) fn is_untranslatable(error: &sqlx::Error) -> bool {
    // In text, and escaped in JSON.
    let codes = ["22P05", "22021"];
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| codes.contains(&&*code))
}

pub(super) fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut)
}

/// The server is a standby, whose answer says nothing of the primary.
pub(in crate::store) fn standby() -> sqlx::Error {
    let error = std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "the server is a standby");
    sqlx::Error::Io(error)
}
