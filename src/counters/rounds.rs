//! Rounds: what batches have added is added up, who is there now is asked, and what has changed is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use chrono::Utc;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use super::metrics::CounterOperation;
use crate::ids::CommunityId;
use crate::metrics::LabelValue as _;
use crate::presence::{Presence, Scope};
use crate::store::{Published, StoreError};
use crate::telemetry::chain;

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
type Failed = (CounterOperation, String);

impl Shared {
    pub(super) async fn keep_rounds(&self) {
        let mut earliest = Instant::now();
        loop {
            let first = self.lease.held().await;
            sleep_until(first.max(earliest)).await;
            if self.lease.is_held() {
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
            format!("{}: {error}", operation.label())
        };
        let reasons: Vec<String> = failures.iter().map(failed).collect();
        if reasons.is_empty() && !lost {
            self.metrics.last_write.set(unix_now());
        }
        // Without a failure, columns may still be left as they are: those that cannot be written, or are locked.
        if !reasons.is_empty() || (!lost && self.metrics.pending.get() == 0) {
            self.rounds.set(
                reasons,
                |error| tracing::warn!(error, "the counters of communities cannot be kept up to date"),
                |_| tracing::info!("the counters of communities are kept up to date again"),
            );
        }
    }

    async fn steps(&self, failures: &mut Vec<Failed>) -> Result<(), Lost> {
        let mut uncounted = Vec::new();
        if self.config.of_events() {
            self.fold(failures).await?;
            uncounted = self.uncounted(failures).await;
        }
        let wishes = self.wishes(failures).await;
        let (wishes, are_known) = match wishes {
            Ok(wishes) => (wishes, true),
            Err(error) => {
                failures.push((CounterOperation::Write, error.chain()));
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
            left += published.left + published.unknown;
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
                    failures.push((CounterOperation::Fold, error.chain()));
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
                failures.push((CounterOperation::Recount, error.chain()));
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
                    failures.push((CounterOperation::Recount, error.chain()));
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
    async fn wishes(&self, failures: &mut Vec<Failed>) -> Result<Wishes, StoreError> {
        let pending = self.pending.next(MOST.into(), |after, most| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            async move { self.store.pending(after.as_ref(), most).await }.boxed()
        });
        let pending = pending.await?;
        let Some(presence) = &self.presence else {
            return Ok(pending.into_iter().map(|community| (community, None)).collect());
        };
        let shown = self.store.shown_present(MOST.into()).await?;
        let shown: BTreeMap<CommunityId, i64> = shown.into_iter().collect();
        let (current, lack) = self
            .present(presence.as_ref(), shown.keys().chain(&pending))
            .await;
        failures.extend(lack.map(|lack| (CounterOperation::Presence, lack)));
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

    /// Who is there now: where that is known, and in `more`. The second value says why some of it is not known.
    async fn present<'a>(
        &self,
        presence: &dyn Presence,
        more: impl Iterator<Item = &'a CommunityId>,
    ) -> (BTreeMap<CommunityId, i64>, Option<String>) {
        let until = Instant::now() + self.config.interval;
        let late = || "presence does not answer in time".to_owned();
        // An answer from this sidecar's memory is not that of all sidecars: the written one stays.
        let stale = || "presence answers from this sidecar's memory alone".to_owned();
        let mut current = BTreeMap::new();
        let mut lack;
        let here = match timeout_at(until, presence.communities(MOST.into())).await {
            Ok(Ok(answer)) => {
                lack = answer.stale.then(stale);
                answer.value
            }
            Ok(Err(error)) => {
                lack = Some(chain(&error));
                Vec::new()
            }
            Err(_) => return (current, Some(late())),
        };
        let mut all: BTreeSet<&CommunityId> = here.iter().collect();
        for community in more {
            all.insert(community);
        }
        let asked = all.len();
        let mut counts = presence.counts(all.into_iter().map(Scope::from).collect());
        let mut answered = 0;
        while answered < asked {
            match timeout_at(until, counts.next()).await {
                Ok(Some((scope, answer))) => {
                    answered += 1;
                    match answer {
                        Ok(answer) if answer.stale => lack = lack.or_else(|| Some(stale())),
                        Ok(answer) => {
                            let present = i64::try_from(answer.value.current).unwrap_or(i64::MAX);
                            current.extend(scope.community().map(|community| (community.clone(), present)));
                        }
                        Err(error) => lack = lack.or_else(|| Some(chain(&error))),
                    }
                }
                Ok(None) => {
                    lack = lack.or_else(|| Some("presence does not answer for all communities".to_owned()));
                    break;
                }
                Err(_) => {
                    lack = lack.or_else(|| Some(late()));
                    break;
                }
            }
        }
        (current, lack)
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
                    all.unknown += one.unknown;
                }
                Ok(all)
            }
            Err(error) => {
                failures.push((CounterOperation::Write, error.chain()));
                Ok(Published {
                    left: wishes.len() as u64,
                    ..Published::default()
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
