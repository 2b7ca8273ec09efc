//! Reconciliation: once a day each counter is compared with the events, and counted from them where it differs. The app
//! may have written or deleted events, or have overwritten the columns. Where `current_visitors` is not what was written last,
//! that is noted, and the next round writes who is there.
//!
//! One community at a time, each in one statement, with a pause as long as it took.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::metrics::CounterOperation;
use super::rounds::unix_now;
use crate::ids::CommunityId;
use crate::store::{PresentComparison, StoreError};

/// Between two looks at whether it is time.
const LOOK: Duration = Duration::from_secs(10);
/// After a pass in which some failed, until these are compared again.
const AGAIN: Duration = Duration::from_secs(300);
/// Communities that are looked up at a time.
const PAGE: i64 = 100;

/// A pass that goes on until every community has been compared, with pauses where some cannot be.
struct Pass {
    /// Communities that were compared later than that are done.
    since: DateTime<Utc>,
    /// By how much counters differed so far.
    drift: u64,
    /// In how many communities something else had written `current_visitors`.
    overwritten: u64,
}

impl Shared {
    pub(super) async fn keep_reconciled(&self) {
        let mut unfinished = None;
        loop {
            self.held().await;
            let outcome = self.pass_if_due(&mut unfinished).await;
            let failed: Vec<String> = outcome.err().iter().map(StoreError::chain).collect();
            let pause = if failed.is_empty() { LOOK } else { AGAIN };
            if !failed.is_empty() {
                self.metrics.failures[CounterOperation::Compare].inc();
            }
            self.comparisons.set(
                failed,
                |error| {
                    tracing::warn!(
                        error,
                        "the counters of communities cannot be compared with the events"
                    );
                },
                |_| tracing::info!("the counters of communities can be compared with the events again"),
            );
            sleep(pause).await;
        }
    }

    async fn pass_if_due(&self, unfinished: &mut Option<Pass>) -> Result<(), StoreError> {
        let last = self.store.last_pass().await?;
        let now = Utc::now();
        let due = self.config.reconcile_at.last_before(now);
        let earliest = match last {
            Some(last) if last >= due => {
                *unfinished = None;
                return Ok(());
            }
            Some(_) => due,
            // The first time, or what counts is another thing now: those that were compared before are, too.
            None => now,
        };
        if unfinished.as_ref().is_some_and(|pass| pass.since < due) {
            *unfinished = None;
        }
        let pass = unfinished.get_or_insert(Pass {
            since: earliest,
            drift: 0,
            overwritten: 0,
        });
        self.go_on(pass).await?;
        *unfinished = None;
        Ok(())
    }

    /// Compares all communities that were not compared since, `current_visitors` in any case: a community that was counted anew
    /// meanwhile has its events compared with that, and nothing else. The pass is done only where none of them fails.
    async fn go_on(&self, pass: &mut Pass) -> Result<(), StoreError> {
        let (mut after, mut failed) = (None, None);
        while self.config.of_events() || self.presence.is_some() {
            let (unchecked, mut last) = self.store.unchecked(after.as_ref(), pass.since, PAGE).await?;
            let unchecked: HashSet<CommunityId> = unchecked.into_iter().collect();
            let communities = if self.presence.is_some() {
                let all = DateTime::<Utc>::MAX_UTC.min(Utc::now() + TimeDelta::days(1));
                let communities;
                (communities, last) = self.store.unchecked(after.as_ref(), all, PAGE).await?;
                communities
            } else {
                unchecked.iter().cloned().collect()
            };
            for community in communities {
                // Another holder goes on from here.
                if !self.is_held() {
                    return Ok(());
                }
                let began = Instant::now();
                let is_unchecked = unchecked.contains(&community);
                match self.reconcile(&community, is_unchecked, pass).await {
                    Ok(()) => {}
                    Err(error) => {
                        self.metrics.failures[CounterOperation::Compare].inc();
                        failed = Some(error);
                    }
                }
                sleep(began.elapsed()).await;
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.store.forget_absent().await?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.store.note_pass().await?;
        self.metrics.drift.set(pass.drift.try_into().unwrap_or(i64::MAX));
        self.metrics.last_reconciliation.set(unix_now());
        if pass.overwritten > 0 {
            tracing::warn!(
                communities = pass.overwritten,
                "current_visitors was written by somebody else since the last reconciliation, and is put right: let nothing \
                 but the sidecar write that column (in Django: save with update_fields, or defer the counts), or set \
                 counters.current_visitors = \"\""
            );
        }
        Ok(())
    }

    /// Compares one community, and counts it where it differs. `is_unchecked`: it was not compared with its events yet.
    async fn reconcile(
        &self,
        community: &CommunityId,
        is_unchecked: bool,
        pass: &mut Pass,
    ) -> Result<(), StoreError> {
        if self.presence.is_some() && self.reconcile_present(community).await? {
            pass.overwritten += 1;
        }
        if !(is_unchecked && self.config.of_events()) {
            return Ok(());
        }
        let comparison = self.store.compare(community).await?;
        let drift = comparison.drift();
        if comparison.agrees() {
            return self.store.note_checked(community).await;
        }
        self.store.recount(community).await?;
        if drift > 0 {
            self.metrics.repaired.inc();
            tracing::info!(
                drift,
                "the counters of a community differed from its events and are counted anew"
            );
        }
        pass.drift += drift;
        Ok(())
    }

    /// Compares `current_visitors` of one community with what was written last. It is written by a round, so that no
    /// community is written more often than each `interval`. Whether it was another.
    async fn reconcile_present(&self, community: &CommunityId) -> Result<bool, StoreError> {
        let found = self.store.compare_present(community).await?;
        let Some(found) = found.filter(PresentComparison::is_overwritten) else {
            return Ok(false);
        };
        self.store.note_shown(community, found).await?;
        self.metrics.repaired.inc();
        Ok(true)
    }
}
