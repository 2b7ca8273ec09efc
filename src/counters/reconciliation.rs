//! Reconciliation: once a day each counter is compared with the events, and counted from them where it differs. The app
//! may have written or deleted events, or have overwritten the columns. Where `current_visitors` is not what was written last,
//! that is noted, and the first round that knows who is there writes it.
//!
//! One community at a time, each in one statement, with a pause as long as it took.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, timeout};

use super::in_turn::{Interruption, MOST_FAILED, PAGE, Reconciler};
use super::metrics::CounterOperation;
use super::omissions::OmittedPass;
use super::rounds::unix_now;
use crate::ids::CommunityId;
use crate::store::StoreError;

/// Between two looks at whether it is time.
const LOOK: Duration = Duration::from_secs(10);
/// After a pass in which some failed, until these are compared again.
const AGAIN: Duration = Duration::from_secs(300);
/// Between two comparisons for views that the counters lack.
const OMISSIONS_APART: Duration = Duration::from_secs(300);

/// How this holder is with the views that the counters lack.
#[derive(Default)]
struct OmissionWatch {
    /// When they are looked for again; `None`: now.
    next: Option<Instant>,
    unfinished: Option<OmittedPass>,
}

/// A pass that goes on until every community has been compared, with pauses where some cannot be.
struct Pass {
    /// Communities that were compared later than that are done.
    since: DateTime<Utc>,
    /// By how much counters differed so far.
    drift: u64,
    /// In how many communities something else had written `current_visitors`.
    overwritten: u64,
    present: PresentProgress,
}

/// How far a pass has compared `current_visitors`. Of a comparison with the events, the database remembers it.
#[derive(Default)]
struct PresentProgress {
    /// The last community that was reached.
    after: Option<CommunityId>,
    /// All were reached.
    is_over: bool,
    /// Those of them that could not be compared, at most [`MOST_FAILED`].
    failed: BTreeSet<CommunityId>,
}

impl Reconciler {
    pub(super) async fn keep_reconciled(&self) {
        let mut unfinished = None;
        let mut omitted = OmissionWatch::default();
        loop {
            self.lease.held().await;
            let outcome = self.compare_what_is_due(&mut unfinished, &mut omitted).await;
            let failed: Vec<String> = match &outcome {
                Ok(()) => Vec::new(),
                Err(Interruption::Failed(error)) => vec![error.chain()],
                // Another sidecar goes on: what failed here may still fail.
                Err(Interruption::LeaseLost) => {
                    omitted = OmissionWatch::default();
                    continue;
                }
            };
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
            // Whoever has the lease anew, as after a right was given, begins at once.
            if timeout(pause, self.lease.lost()).await.is_ok() {
                omitted = OmissionWatch::default();
            }
        }
    }

    async fn compare_what_is_due(
        &self,
        unfinished: &mut Option<Pass>,
        omitted: &mut OmissionWatch,
    ) -> Result<(), Interruption> {
        let mut failed = Ok(());
        if omitted.next.is_none_or(|next| next <= Instant::now()) {
            match self.compare_omitted(&mut omitted.unfinished).await {
                Ok(false) => {}
                Ok(true) => omitted.next = Some(Instant::now() + OMISSIONS_APART),
                Err(Interruption::LeaseLost) => return Err(Interruption::LeaseLost),
                // What cannot be compared holds up no other comparison.
                error => failed = error.map(drop),
            }
        }
        self.pass_if_due(unfinished).await?;
        failed
    }

    async fn pass_if_due(&self, unfinished: &mut Option<Pass>) -> Result<(), Interruption> {
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
            present: PresentProgress::default(),
        });
        self.go_on(pass).await?;
        *unfinished = None;
        Ok(())
    }

    /// Compares `current_visitors` of all communities, and with their events those that were not compared since: one that was
    /// counted anew meanwhile has its events compared with that. The pass is done only where none of them fails; a retry
    /// compares what is left.
    async fn go_on(&self, pass: &mut Pass) -> Result<(), Interruption> {
        let mut failed = None;
        if self.of_present {
            self.compare_present(pass, &mut failed).await?;
        }
        if self.config.of_events() {
            self.compare_events(pass, &mut failed).await?;
        }
        self.store.forget_absent().await?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.store.note_pass().await?;
        self.metrics.drift.set(pass.drift.try_into().unwrap_or(i64::MAX));
        self.metrics.last_reconciliation.set(unix_now());
        if pass.overwritten > 0 {
            tracing::warn!(
                communities = pass.overwritten,
                "current_visitors was written by somebody else since the last reconciliation, and is put right once it is known who is there: let nothing \
                 but the sidecar write that column (in Django: save with update_fields, or defer the counts), or set \
                 counters.current_visitors = \"\""
            );
        }
        Ok(())
    }

    /// Compares `current_visitors` of those communities that this pass has not reached yet, or could not compare.
    async fn compare_present(
        &self,
        pass: &mut Pass,
        failed: &mut Option<StoreError>,
    ) -> Result<(), Interruption> {
        for community in pass.present.failed.clone() {
            self.compare_present_in(&community, pass, failed).await?;
        }
        while !pass.present.is_over {
            let all = DateTime::<Utc>::MAX_UTC.min(Utc::now() + TimeDelta::days(1));
            let after = pass.present.after.as_ref();
            let (communities, last) = self.store.unchecked(after, all, PAGE).await?;
            for community in communities {
                if !self.compare_present_in(&community, pass, failed).await? {
                    return Ok(());
                }
                pass.present.after = Some(community);
            }
            match last {
                Some(last) => pass.present.after = Some(last),
                None => pass.present.is_over = true,
            }
        }
        Ok(())
    }

    /// The same of one, which is remembered where it cannot be compared; false where too many are, so that the retry begins
    /// with it.
    async fn compare_present_in(
        &self,
        community: &CommunityId,
        pass: &mut Pass,
        failed: &mut Option<StoreError>,
    ) -> Result<bool, Interruption> {
        let present = &mut pass.present;
        match self.in_turn(self.reconcile_present(community)).await? {
            Ok(is_overwritten) => {
                present.failed.remove(community);
                pass.overwritten += u64::from(is_overwritten);
            }
            Err(error) => {
                *failed = Some(error);
                if present.failed.len() >= MOST_FAILED && !present.failed.contains(community) {
                    return Ok(false);
                }
                present.failed.insert(community.clone());
            }
        }
        Ok(true)
    }

    /// Compares those communities with their events that were not compared since the pass began.
    async fn compare_events(
        &self,
        pass: &mut Pass,
        failed: &mut Option<StoreError>,
    ) -> Result<(), Interruption> {
        let mut after = None;
        loop {
            let (communities, last) = self.store.unchecked(after.as_ref(), pass.since, PAGE).await?;
            for community in communities {
                match self.in_turn(self.reconcile(&community)).await? {
                    Ok(drift) => pass.drift += drift,
                    Err(error) => *failed = Some(error),
                }
            }
            match last {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    /// Compares `current_visitors` of one community with what was written last. It is written by a round, so that no
    /// community is written more often than each `interval`. Whether it was another.
    async fn reconcile_present(&self, community: &CommunityId) -> Result<bool, StoreError> {
        let found = self.store.compare_present(community).await?;
        if !found.is_some_and(|found| found.is_overwritten()) {
            return Ok(false);
        }
        // It may wait already, as since the last pass, where Redis is away.
        let is_new = self.store.note_pending(community).await?;
        self.metrics.repaired.inc_by(is_new.into());
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
