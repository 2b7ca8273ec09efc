//! Why the database could not be brought up to date, and what was done before.

use std::fmt;

use super::Step;
use crate::store::postgres::pooler::NEEDS_ITS_OWN;
use crate::store::schema::{NOT_PARTITIONED, SchemaProblems};
use crate::store::url::OpenError;
use crate::store::{SchemaProblem, StoreError};

/// Why the database could not be brought up to date. Steps done before stay; running again continues.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration names no database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The app's tables are not as configured, so nothing can be added to them.
    #[error("{}", SchemaProblems(.0.clone()))]
    Schema(Vec<SchemaProblem>),
    /// The connection is shared by a pooler: neither the lock nor the settings would stay with it.
    #[error("{NEEDS_ITS_OWN}")]
    Pooler,
    /// Some additions to the app's tables failed. The others are done.
    #[error(transparent)]
    Incomplete(Incomplete),
    /// Our own event table is one, and was to have partitions.
    #[error("{NOT_PARTITIONED}")]
    NotPartitioned,
    /// The role may not change the app's tables, and nothing was made yet: our own tables would be its own.
    #[error("the app's tables are of another role, so that nothing was changed: {0}")]
    NotTheOwner(String),
    /// The table of communities is a view, and columns for counts are wanted.
    #[error(
        "[counters] keeps counts in columns of {0}, which is a view, to which none can be added: set enabled = false, or name the \
         table under it as schema.community.table"
    )]
    CountersOfAView(String),
    /// Another `headcount migrate` holds the lock.
    #[error("another headcount migrate is at work on this database")]
    Busy,
    /// A migration of the sidecar's own tables differs from the one that was applied under its number.
    #[error("migration {0} was applied with other SQL than this version has: use the version that made it")]
    Changed(i64),
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The step.
        step: String,
        /// The cause.
        source: StoreError,
    },
    /// Reading the current state failed, or the database is not available.
    #[error("the current state of the database could not be read")]
    Database(#[source] StoreError),
}

/// What was done, and what failed.
#[derive(Debug)]
pub struct Incomplete {
    /// The steps done, as `migrate` returns them on success.
    pub done: Vec<Step>,
    /// At least one.
    pub failed: Vec<MigrateError>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.failed {
            return only.fmt(f);
        }
        write!(f, "{} additions failed:", self.failed.len())?;
        self.failed
            .iter()
            .try_for_each(|error| write!(f, "\n  {}", crate::telemetry::chain(error)))
    }
}

impl std::error::Error for Incomplete {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.failed {
            [only] => only.source(),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl MigrateError {
    pub(super) fn of_step(step: &Step) -> impl FnOnce(sqlx::Error) -> Self {
        let step = step.title.clone();
        move |error| Self::Step {
            step,
            source: error.into(),
        }
    }

    /// Whether the role lacks a right, and nothing says yet what to do.
    pub(super) fn lacks_a_right(&self) -> bool {
        match self {
            Self::Step { source, .. } | Self::Database(source) => source.lacks_a_right(),
            Self::Incomplete(incomplete) => incomplete.failed.iter().any(Self::lacks_a_right),
            _ => false,
        }
    }

    /// The same error with what to do about that; of several failures, the last one says it.
    pub(super) fn explained(self, lacking: &[String]) -> Self {
        match self {
            Self::Step { step, source } => Self::Step {
                step,
                source: source.explained(lacking, &[]),
            },
            Self::Database(source) => Self::Database(source.explained(lacking, &[])),
            Self::Incomplete(Incomplete { done, mut failed }) => {
                if let Some(last) = failed.iter().rposition(Self::lacks_a_right) {
                    let error = failed.remove(last).explained(lacking);
                    failed.insert(last, error);
                }
                Self::Incomplete(Incomplete { done, failed })
            }
            other => other,
        }
    }

    pub(super) fn of_own_tables(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as E;
        match error {
            E::Execute(error) | E::ExecuteMigration(error, _) => Self::Step {
                step: "making the sidecar's own tables".into(),
                source: error.into(),
            },
            E::VersionMismatch(version) => Self::Changed(version),
            other => Self::Step {
                step: "making the sidecar's own tables".into(),
                source: StoreError::Unexpected(other.to_string()),
            },
        }
    }
}

/// The result of `migrate` after additions of which some may have failed.
pub(super) fn outcome(done: Vec<Step>, failed: Vec<MigrateError>) -> Result<Vec<Step>, MigrateError> {
    if failed.is_empty() {
        Ok(done)
    } else {
        Err(MigrateError::Incomplete(Incomplete { done, failed }))
    }
}
