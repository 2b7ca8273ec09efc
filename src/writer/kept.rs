//! Keeps acknowledged rows for `record.keep_applied`, and asks the ledger for them before they are deleted.
//! A server that lost its last transactions, by a crash or by a failover to a replica that lagged, gets them
//! again.
//!
//! The ledger is asked at once when a connection was lost. But nothing depends on that: a pooler may hide a lost
//! connection, and a server may come back within a moment; so the ledger is asked before rows are deleted. They are
//! deleted unasked only for want of room: where they take more than their share of `spool.max_bytes`, and where the
//! disk takes no writes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::applier::Applier;
use super::drain::Drain;
use super::spool::{Spool, SpoolError};
use crate::store::StoreError;

/// Keys of one statement.
const AT_A_TIME: usize = 5_000;
/// At shutdown, the longest wait for the ledger to confirm kept rows.
const CONFIRM_LIMIT: Duration = Duration::from_secs(1);

/// What the ledger says about kept rows.
#[derive(Debug)]
pub(super) enum Confirmed {
    /// All of them.
    All,
    /// Not all: from the first missing one on, the rows wait again.
    Lacking,
    /// It cannot be asked now.
    Unavailable(StoreError),
}

impl Drain {
    /// Asks for rows that were kept long enough: deletes them, or makes those that the database lost wait again.
    ///
    /// # Errors
    /// The spool cannot be read or written just now.
    pub(super) async fn confirm_due(&self, spool: &Spool) -> Result<Confirmed, SpoolError> {
        let Some(due) = spool.kept_for(self.limits.keep_applied) else {
            return Ok(Confirmed::All);
        };
        let confirmed = self.ask_for_kept(spool, due.last()).await?;
        if matches!(confirmed, Confirmed::All) {
            spool.forget_kept(&due).await?;
        }
        Ok(confirmed)
    }

    /// Asks for all kept rows, and makes those that the database lost wait again.
    ///
    /// # Errors
    /// The spool cannot be read just now.
    pub(super) async fn confirm_all(&self, spool: &Spool) -> Result<Confirmed, SpoolError> {
        self.ask_for_kept(spool, i64::MAX).await
    }

    async fn ask_for_kept(&self, spool: &Spool, to: i64) -> Result<Confirmed, SpoolError> {
        let (mut behind, mut lacking, mut first) = (0, 0, None);
        loop {
            let some = spool.kept_keys(behind, to, AT_A_TIME).await?;
            let Some((last, _)) = some.last() else {
                break;
            };
            behind = *last;
            let keys: Vec<_> = some.iter().map(|(_, key)| *key).collect();
            let missing = match self.store.missing_parts(&keys).await {
                Ok(missing) => missing,
                Err(error) => return Ok(Confirmed::Unavailable(error)),
            };
            lacking += missing.len();
            let is_missing = |(_, key): &&(i64, _)| missing.contains(key);
            first = first.or_else(|| some.iter().find(is_missing).map(|(place, _)| *place));
        }
        let Some(first) = first else {
            return Ok(Confirmed::All);
        };
        tracing::warn!(
            parts = lacking,
            "the database has lost page views that it had acknowledged; they are written again"
        );
        self.metrics.lost_parts.inc_by(lacking as u64);
        spool.requeue_from(first).await?;
        Ok(Confirmed::Lacking)
    }
}

impl Applier {
    /// Asks for kept rows whose time is over, or for all of them after the database was away; and keeps no more
    /// than there is room for.
    pub(super) async fn confirm(&mut self) {
        let own = self.spools.own.load_full();
        if self.spools.is_disk_full.load(Ordering::Relaxed) {
            own.give_up_kept();
            self.make_room(&own).await;
            self.make_room_of_adopted().await;
        }
        let room = self.limits.spool_bytes.saturating_sub(self.spools.bytes());
        let mut room = room.min(self.limits.share());
        // The trouble is over only when a view was applied; without waiting views it counts as over.
        let is_away = self.trouble.is_on() && self.spools.views() > 0;
        let lost = self.drain.store.lost_connections();
        let is_in_doubt = self.is_in_doubt || lost != self.lost_connections;
        (self.is_in_doubt, self.lost_connections) = (is_away && is_in_doubt, lost);
        let mut is_asked = !is_away;
        // The own spool comes first: what it keeps is the newest.
        for spool in [own].into_iter().chain(self.spools.adopted()) {
            let outcome = async {
                spool.keep_at_most(room).await?;
                if !is_asked || !spool.is_keeping() {
                    return Ok(Confirmed::All);
                }
                if is_in_doubt {
                    self.drain.confirm_all(&spool).await
                } else {
                    self.drain.confirm_due(&spool).await
                }
            };
            match self.spools.while_updating_the_backlog(outcome).await {
                Ok(Confirmed::All) | Err(SpoolError::Closed) => {}
                Ok(Confirmed::Lacking) => self.is_behind = true,
                Ok(Confirmed::Unavailable(error)) => {
                    let error = error.chain();
                    tracing::debug!(error, "the ledger cannot be asked for acknowledged page views");
                    self.is_in_doubt = true;
                    // The next spool would wait as long for the same, and batches with it.
                    is_asked = false;
                }
                Err(error) => {
                    let error = crate::telemetry::chain(&error);
                    tracing::debug!(error, "kept rows of a spool could not be checked");
                }
            }
            room = room.saturating_sub(spool.kept_bytes());
        }
    }

    /// Closes a spool. Its kept rows are deleted if the database has them now; otherwise they are for the next
    /// process.
    pub(super) async fn end(&self, spool: &Spool) {
        if spool.is_keeping() && !self.trouble.is_on() {
            let asked = timeout(CONFIRM_LIMIT, self.drain.confirm_all(spool)).await;
            if matches!(asked, Ok(Ok(Confirmed::All))) {
                spool.give_up_kept();
            }
        }
        spool.close().await;
    }
}
