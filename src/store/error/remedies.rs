//! What to do about an error: rights that the role lacks, partitions that the event table lacks, a configuration that is wrong.

use super::failure::ServerFailure;
use super::{NO_PARTITION_THEN, StoreError, known};

impl StoreError {
    /// Whether the database role lacks a right, and nothing says yet what to do.
    pub(in crate::store) fn lacks_a_right(&self) -> bool {
        self.failure()
            .is_some_and(|failure| failure.is_denied() && failure.remedy.is_none())
    }

    /// The same error with what to do about it, where the role lacks a right: see [`ServerFailure::explain`].
    #[must_use]
    pub(in crate::store) fn explained(mut self, lacking: &[String], policies: &[String]) -> Self {
        if self.lacks_a_right()
            && let Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error) = &mut self
            && let sqlx::Error::Database(error) = error
            && let Some(failure) = error.as_error_mut().downcast_mut::<ServerFailure>()
        {
            failure.explain(lacking, policies);
        }
        self
    }

    fn failure(&self) -> Option<&ServerFailure> {
        let (Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error)) = self else {
            return None;
        };
        known(error)
    }

    /// Whether rows matched no partition of the event table.
    pub(in crate::store) fn lacks_partition(&self) -> bool {
        match self {
            Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error) => match error {
                sqlx::Error::InvalidArgument(what) => what == NO_PARTITION_THEN,
                error => known(error).is_some_and(|failure| failure.is_of_a_partition),
            },
            Self::Unexpected(_) | Self::NoEvents => false,
        }
    }

    /// The same error of our own table, for which a partition can always be made: the rows wait for it.
    pub(in crate::store) fn until_there_is_a_partition(self) -> Self {
        if !self.lacks_partition() {
            return self;
        }
        let what = "headcount.page_view has no partition for page views of that time: run headcount migrate";
        Self::Unavailable(sqlx::Error::Configuration(what.into()))
    }

    /// Whether the database has answered that it cannot be used as configured: another address, name, password or right is
    /// needed.
    pub fn is_of_the_configuration(&self) -> bool {
        let (Self::Unavailable(error) | Self::Undone(error) | Self::Refused(error)) = self else {
            return false;
        };
        matches!(error, sqlx::Error::Configuration(_))
            || known(error).is_some_and(ServerFailure::is_of_the_configuration)
    }
}
