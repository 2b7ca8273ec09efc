//! Writes the app's columns of what a repair has counted anew, and of what was not written before, unless a sidecar does.

use std::time::Duration;

use uuid::Uuid;

use super::present::Here;
use super::{BY_A_SIDECAR, ComparisonRun, PAGE, Stopped, ToWrite};
use crate::cli::{Failure, print_line};
use crate::ids::CommunityId;
use crate::printable::counted;
use crate::store::{PresentComparison, StoreError};

/// How long the lease is taken for one write.
const TTL: Duration = Duration::from_secs(30);

/// What a repair has not written.
#[derive(Default)]
struct Left {
    /// Communities that the app has locked.
    locked: u64,
    /// `current_visitors` of one is wrong, and what is right is not known.
    unknown: bool,
}

fn not_all(why: &str, remedy: &str) -> Stopped {
    Stopped::Failure(Failure::Other(anyhow::anyhow!(
        "not all columns were written: {why}; {remedy}"
    )))
}

impl ComparisonRun<'_> {
    /// Writes the app's columns of what was counted, now or before, unless a sidecar does; at the earliest a whole
    /// `counters.interval` after the last write. An error tells what neither of the two has written.
    pub(super) async fn write(&mut self) -> Result<(), Stopped> {
        if self.to_write.is_empty() {
            return Ok(());
        }
        let holder = Uuid::new_v4();
        if !self.take_lease(holder).await? {
            print_line(format_args!(
                "the sidecar that keeps the counters writes them: {BY_A_SIDECAR}"
            ));
            return self.leave_to_a_sidecar().await;
        }
        let outcome = self.write_all(holder).await;
        let released = self.store.release_lease(holder).await;
        let Some(Left { locked, unknown }) = outcome? else {
            print_line(
                "a sidecar has begun to keep the counters meanwhile: it writes what is left within counters.interval",
            );
            return self.leave_to_a_sidecar().await;
        };
        released?;
        let mut unwritten = Vec::new();
        if locked > 0 {
            let locked = counted(locked, "community is", "communities are");
            unwritten.push(format!("{locked} locked by the app"));
        }
        if unknown {
            unwritten.push(self.not_known());
        }
        if unwritten.is_empty() {
            let communities = counted(self.to_write.len(), "community", "communities");
            print_line(format_args!("the columns of {communities} have been written"));
            return Ok(());
        }
        Err(not_all(
            &unwritten.join("; "),
            "repeat `headcount counters repair`",
        ))
    }

    fn not_known(&self) -> String {
        let why = self.here.why_unknown().unwrap_or("Redis has not answered");
        format!("current_visitors is not known ({why})")
    }

    /// Has a sidecar write `current_visitors` where they are not what was written last: by itself it compares them only once a day. While
    /// Redis is away the sidecar does not know either what is right, and writes it afterwards.
    async fn leave_to_a_sidecar(&self) -> Result<(), Stopped> {
        let wrong = self.to_write.iter().filter(|it| it.present.is_some());
        let mut are_left = false;
        for ToWrite { community, .. } in wrong {
            self.store.note_pending(community).await?;
            are_left = true;
        }
        if are_left && matches!(self.here, Here::Away(_)) {
            return Err(not_all(
                &self.not_known(),
                "the sidecar writes it once that is known",
            ));
        }
        Ok(())
    }

    /// Takes the lease once a whole interval is over since the last write; whether nobody else has it. It is free while that
    /// is waited for: a sidecar that starts then writes instead.
    async fn take_lease(&self, holder: Uuid) -> Result<bool, StoreError> {
        loop {
            let Some(lease) = self.store.take_lease(holder, TTL).await? else {
                return Ok(false);
            };
            let rest = lease
                .since_round
                .map(|since| self.counters.interval.saturating_sub(since));
            let Some(rest) = rest.filter(|rest| !rest.is_zero()) else {
                return Ok(true);
            };
            self.store.release_lease(holder).await?;
            print_line(format_args!(
                "the columns were written less than counters.interval ago: written in {} s",
                rest.as_millis().div_ceil(1000)
            ));
            tokio::time::sleep(rest).await;
        }
    }

    /// Writes all, and keeps the lease meanwhile; what is left. `None` once another has it. Who is there is asked only now,
    /// as the lease may have been waited for; where that is not known, what somebody else has written is replaced by what
    /// was there before.
    async fn write_all(&mut self, holder: Uuid) -> Result<Option<Left>, StoreError> {
        let mut left = Left::default();
        for chunk in self.to_write.chunks(usize::try_from(PAGE).unwrap_or(1)) {
            if self.store.take_lease(holder, TTL).await?.is_none() {
                return Ok(None);
            }
            let communities: Vec<_> = chunk.iter().map(|it| &it.community).collect();
            let now = self.here.counts(&communities).await;
            let mut wishes = Vec::with_capacity(chunk.len());
            for (it, now) in chunk.iter().zip(now) {
                let present = match (now, it.present) {
                    (None, Some(found)) => {
                        let before = self.before(&it.community).await?;
                        left.unknown |= before.is_none() && !found.is_overwritten();
                        before
                    }
                    (now, _) => now,
                };
                wishes.push((it.community.clone(), present));
            }
            let Some(published) = self.store.publish(holder, &wishes).await? else {
                return Ok(None);
            };
            left.locked += published.left;
            left.unknown |= published.unknown > 0;
        }
        Ok(Some(left))
    }

    /// What was written last to `current_visitors`, where it is something else now.
    async fn before(&self, community: &CommunityId) -> Result<Option<i64>, StoreError> {
        let found = self.store.compare_present(community).await?;
        let overwritten = found.filter(PresentComparison::is_overwritten);
        Ok(overwritten.map(|found| found.noted))
    }
}
