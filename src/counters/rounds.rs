//! Rounds: what batches have added is added up, who is there now is asked, and what has changed is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::metrics::Operation;
use crate::ids::CommunityId;
use crate::metrics::LabelValue as _;
use crate::presence::Scope;
use crate::store::{Published, StoreError};

/// Most transactions in which one round adds up; the rest is for the next.
const MOST_FOLDS: usize = 100;
/// Most communities that one round counts from their events.
const MOST_RECOUNTS: i64 = 100;
/// For how long one round counts communities from their events; one that is begun is finished.
const RECOUNTING: Duration = Duration::from_secs(1);
/// Most communities of which one round asks and writes who is there.
const MOST: u16 = 20_000;
/// How long a community is left alone that cannot be counted, or takes too long.
const POSTPONED: Duration = Duration::from_secs(600);
/// Communities written in one transaction.
const CHUNK: usize = 200;

/// Communities to be written, each with who is there now where that is known.
type Wishes = Vec<(CommunityId, Option<i64>)>;

/// The lease is gone; another holder does the rest.
struct Lost;

/// A step that failed.
type Failed = (Operation, StoreError);

impl Shared {
    pub(super) async fn keep_rounds(&self) {
        let mut earliest = Instant::now();
        loop {
            let first = self.held().await;
            sleep_until(first.max(earliest)).await;
            if self.is_held() {
                earliest = Instant::now() + self.config.interval;
                self.round().await;
            }
        }
    }

    /// One round. Failures are counted and logged here; the next round does what is left.
    pub(super) async fn round(&self) {
        let mut failures = Vec::new();
        let lost = self.steps(&mut failures).await.is_err();
        let failed = |(operation, error): &Failed| {
            self.metrics.failures[*operation].inc();
            format!("{}: {}", operation.label(), error.chain())
        };
        let reasons: Vec<String> = failures.iter().map(failed).collect();
        if reasons.is_empty() && !lost {
            self.metrics.last_write.set(unix_now());
        }
        self.rounds.down_for(reasons, |error| {
            tracing::warn!(error, "the counters of communities cannot be kept up to date");
        });
    }

    async fn steps(&self, failures: &mut Vec<Failed>) -> Result<(), Lost> {
        let mut uncounted = Vec::new();
        if self.config.of_events() {
            self.fold(failures).await?;
            uncounted = self.uncounted(failures).await;
        }
        let wishes = self.wishes().await;
        let (wishes, are_known) = match wishes {
            Ok(wishes) => (wishes, true),
            Err(error) => {
                failures.push((Operation::Write, error));
                (Vec::new(), false)
            }
        };
        // What is known is written before communities are counted, of which one may take long. Each is written once in a
        // round: those that are counted, afterwards.
        let set_aside: BTreeSet<CommunityId> = uncounted.iter().cloned().collect();
        let (later, now): (Wishes, Wishes) = wishes
            .into_iter()
            .partition(|(community, _)| set_aside.contains(community));
        let mut left = self.publish_all(&now, failures).await?;
        let mut later: BTreeMap<CommunityId, Option<i64>> = later.into_iter().collect();
        for community in self.recount_some(uncounted, failures).await {
            later.entry(community).or_default();
        }
        let later: Wishes = later.into_iter().collect();
        left += self.publish_all(&later, failures).await?;
        if are_known {
            self.metrics.pending.set(left.try_into().unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Writes all; how many are left.
    async fn publish_all(&self, wishes: &Wishes, failures: &mut Vec<Failed>) -> Result<u64, Lost> {
        let mut left = 0;
        for chunk in wishes.chunks(CHUNK) {
            let published = self.publish(chunk, failures).await?;
            self.metrics.written.inc_by(published.written);
            left += published.left;
        }
        Ok(left)
    }

    async fn fold(&self, failures: &mut Vec<Failed>) -> Result<(), Lost> {
        for _ in 0..MOST_FOLDS {
            match self.store.fold(self.holder).await {
                Ok(Some(folded)) if folded.rows == 0 => break,
                Ok(Some(_)) => {}
                Ok(None) => return Err(Lost),
                Err(error) => {
                    failures.push((Operation::Fold, error));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Communities whose first view has come, or whose numbers cannot be added to.
    async fn uncounted(&self, failures: &mut Vec<Failed>) -> Vec<CommunityId> {
        match self.store.uncounted(&self.postponed(), MOST_RECOUNTS).await {
            Ok(uncounted) => uncounted,
            Err(error) => {
                failures.push((Operation::Recount, error));
                Vec::new()
            }
        }
    }

    /// Counts these from their events: at least one, and no other once [`RECOUNTING`] is over. Those that are counted.
    async fn recount_some(
        &self,
        uncounted: Vec<CommunityId>,
        failures: &mut Vec<Failed>,
    ) -> Vec<CommunityId> {
        let mut recounted = Vec::new();
        let until = Instant::now() + RECOUNTING;
        for community in uncounted {
            match self.store.recount(&community).await {
                Ok(_) => recounted.push(community),
                Err(error) => {
                    if error.took_too_long() || error.is_lasting() {
                        self.postpone(community);
                    }
                    failures.push((Operation::Recount, error));
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        recounted
    }

    /// Leaves a community that cannot be counted, or takes too long, alone for a while.
    fn postpone(&self, community: CommunityId) {
        let mut postponed = self.postponed.lock().unwrap_or_else(PoisonError::into_inner);
        postponed.retain(|_, until| *until > Instant::now());
        if postponed.len() < usize::from(MOST) {
            postponed.insert(community, Instant::now() + POSTPONED);
        }
    }

    /// Communities that are left alone now.
    fn postponed(&self) -> Vec<CommunityId> {
        let postponed = self.postponed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let still = postponed.iter().filter(|(_, until)| **until > now);
        still.map(|(community, _)| community.clone()).collect()
    }

    /// What is to be written: what waits for it, and the communities in which others are there now than is written.
    async fn wishes(&self) -> Result<Wishes, StoreError> {
        let pending = self.store.pending(MOST.into()).await?;
        let Some(presence) = &self.presence else {
            return Ok(pending.into_iter().map(|community| (community, None)).collect());
        };
        let shown = self.store.shown_present(MOST.into()).await?;
        let shown: BTreeMap<CommunityId, i64> = shown.into_iter().collect();
        let pending: BTreeSet<CommunityId> = pending.into_iter().collect();
        let asked = async {
            let here = presence.communities(MOST.into()).await;
            let here = here.map(|answer| answer.value).unwrap_or_default();
            let all: BTreeSet<&CommunityId> = here.iter().chain(shown.keys()).chain(&pending).collect();
            let all = all.into_iter().map(Scope::from).collect();
            // An answer from this sidecar's memory is not that of all sidecars: the written one stays.
            let current = presence.counts(all).filter_map(async |(scope, answer)| {
                let community = scope.community()?.clone();
                let answer = answer.ok().filter(|answer| !answer.stale)?;
                Some((community, i64::try_from(answer.value.current).unwrap_or(i64::MAX)))
            });
            current.collect::<BTreeMap<CommunityId, i64>>().await
        };
        let current = timeout(self.config.interval, asked).await.unwrap_or_default();
        let differs = |(community, now): &(&CommunityId, &i64)| {
            shown.get(*community).copied().unwrap_or_default() != **now && !pending.contains(*community)
        };
        let changed = current.iter().filter(differs);
        let mut wishes: Wishes = changed
            .map(|(community, now)| (community.clone(), Some(*now)))
            .collect();
        let pending = pending.into_iter();
        wishes.extend(pending.map(|community| {
            let now = current.get(&community).copied();
            (community, now)
        }));
        Ok(wishes)
    }

    /// Writes some. Where the app's database refuses a row, the others are still written.
    async fn publish(
        &self,
        wishes: &[(CommunityId, Option<i64>)],
        failures: &mut Vec<Failed>,
    ) -> Result<Published, Lost> {
        let outcome = self.store.publish(self.holder, wishes).await;
        match outcome {
            Ok(Some(published)) => Ok(published),
            Ok(None) => Err(Lost),
            Err(error) if wishes.len() > 1 && !matches!(error, StoreError::Unavailable(_)) => {
                let mut all = Published::default();
                for wish in wishes {
                    let one = Box::pin(self.publish(std::slice::from_ref(wish), failures)).await?;
                    all.written += one.written;
                    all.left += one.left;
                }
                Ok(all)
            }
            Err(error) => {
                failures.push((Operation::Write, error));
                Ok(Published {
                    written: 0,
                    left: wishes.len() as u64,
                })
            }
        }
    }
}

/// The time for a metric.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are far below 2^53"
)]
pub(super) fn unix_now() -> f64 {
    Utc::now().timestamp_millis() as f64 / 1000.0
}
