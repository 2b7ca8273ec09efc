//! Injects faults for tests: a disk that fails at a COMMIT.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqliteConnection, Transaction};

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
        let refused = refused(&mut transaction).await;
        match self {
            Self::Lost => transaction.rollback().await?,
            Self::Kept => transaction.commit().await?,
        }
        Err(refused)
    }

    /// The same of a statement that is its own transaction.
    pub(super) async fn statement(
        self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        connection: &mut SqliteConnection,
    ) -> sqlx::Error {
        let refused = refused(connection).await;
        match self {
            Self::Lost => refused,
            Self::Kept => statement.execute(connection).await.err().unwrap_or(refused),
        }
    }
}

/// The error of a statement that fails like one on a disk that takes no writes.
async fn refused(connection: &mut SqliteConnection) -> sqlx::Error {
    let tried = async {
        sqlx::raw_sql("PRAGMA query_only = 1")
            .execute(&mut *connection)
            .await?;
        let refused = sqlx::raw_sql("DELETE FROM batch WHERE place < 0")
            .execute(&mut *connection)
            .await;
        sqlx::raw_sql("PRAGMA query_only = 0")
            .execute(&mut *connection)
            .await?;
        refused
    };
    tried.await.expect_err("it only reads")
}

impl Spool {
    /// The outcomes of the next commits.
    pub(crate) fn fail_commits(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.faults.lock().expect("no test panics with it").extend(faults);
    }

    /// The outcome of the next commit, if it is a failure.
    pub(super) fn next_fault(&self) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("no test panics with it");
        faults.pop_front().flatten()
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
