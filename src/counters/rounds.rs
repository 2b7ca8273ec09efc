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
/// Most communities of which one round asks and writes who is there.
const MOST: u16 = 20_000;
/// How long a community is left alone that takes too long to be counted.
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
        if self.config.of_events() {
            self.fold(failures).await?;
            self.recount_all(failures).await;
        }
        let wishes = match self.wishes().await {
            Ok(wishes) => wishes,
            Err(error) => {
                failures.push((Operation::Write, error));
                return Ok(());
            }
        };
        let mut left = 0;
        for chunk in wishes.chunks(CHUNK) {
            let published = self.publish(chunk, failures).await?;
            self.metrics.written.inc_by(published.written);
            left += published.left;
        }
        self.metrics.pending.set(left.try_into().unwrap_or(i64::MAX));
        Ok(())
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

    /// Counts communities whose first view has come, or whose numbers cannot be added to.
    async fn recount_all(&self, failures: &mut Vec<Failed>) {
        let uncounted = match self.store.uncounted(MOST_RECOUNTS).await {
            Ok(uncounted) => uncounted,
            Err(error) => return failures.push((Operation::Recount, error)),
        };
        for community in uncounted {
            if self.is_postponed(&community) {
                continue;
            }
            if let Err(error) = self.store.recount(&community).await {
                if error.took_too_long() {
                    self.postpone(community);
                }
                failures.push((Operation::Recount, error));
            }
        }
    }

    /// Leaves a community that takes too long to be counted alone for a while.
    fn postpone(&self, community: CommunityId) {
        let mut postponed = self.postponed.lock().unwrap_or_else(PoisonError::into_inner);
        postponed.retain(|_, until| *until > Instant::now());
        if postponed.len() < usize::from(MOST) {
            postponed.insert(community, Instant::now() + POSTPONED);
        }
    }

    fn is_postponed(&self, community: &CommunityId) -> bool {
        let postponed = self.postponed.lock().unwrap_or_else(PoisonError::into_inner);
        postponed
            .get(community)
            .is_some_and(|until| *until > Instant::now())
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
