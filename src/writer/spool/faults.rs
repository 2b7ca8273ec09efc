//! Injects faults for tests: a disk that fails at a COMMIT.

use sqlx::{Sqlite, Transaction};

use super::Spool;
use super::append::Append;
use super::{SpoolError, encode::StoredViews};

/// Outcome of a COMMIT that returns an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing of it is there.
    Lost,
    /// It is there, as after a failed sync whose log is still readable.
    Kept,
}

impl Fault {
    pub(super) async fn commit(self, mut transaction: Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
        // A statement that fails like one on a disk that takes no writes.
        sqlx::raw_sql("PRAGMA query_only = 1")
            .execute(&mut *transaction)
            .await?;
        let refused = sqlx::raw_sql("DELETE FROM batch WHERE place < 0")
            .execute(&mut *transaction)
            .await;
        sqlx::raw_sql("PRAGMA query_only = 0")
            .execute(&mut *transaction)
            .await?;
        match self {
            Self::Lost => transaction.rollback().await?,
            Self::Kept => transaction.commit().await?,
        }
        refused.map(drop)
    }
}

impl Spool {
    /// The outcomes of the next commits.
    pub(crate) fn fail_commits(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.faults.lock().expect("no test panics with it").extend(faults);
    }

    /// Ends all faults.
    pub(crate) fn mend(&self) {
        self.faults.lock().expect("no test panics with it").clear();
    }

    /// One try. The rows are read from the file then.
    pub(crate) async fn append_all(&self, bodies: &[StoredViews]) -> Result<(), SpoolError> {
        let outcome = self.append(&mut Append::new(bodies.to_vec())).await;
        self.fresh.clear();
        outcome
    }

    /// Plants a mistake: from now on groups are handed over before their commit.
    pub(crate) fn hand_over_early(&self) {
        self.hands_over_early
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
