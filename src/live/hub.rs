//! The hub: distributes changes of counts to subscribers. One feed for the whole process; a slow subscriber delays
//! no other, because values are left in its mailbox (L1).
//!
//! Presence is not asked per subscriber. A community's first subscriber makes it *wanted*; all wanted ones are
//! read in one call, and later subscribers get the known count (L2). The feed listens before the first reading,
//! and a change that came meanwhile is not overwritten by an older answer (P7). After each gap in the feed, and
//! periodically, everything is read again (P6). While presence is away, the counts that this sidecar remembers are
//! sent as stale.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{self, sleep_until};

use super::mailbox::Mailbox;
use super::message::Update;
use super::slots::Offered;
use super::topic::{Telling, Topic};
use crate::ids::CommunityId;
use crate::key_type::AppKeys;
use crate::live::Metrics;
use crate::metrics::label_values;
use crate::presence::changes::Event;
use crate::presence::{Answer, Count, Presence, PresenceError};

/// Communities per reading.
const BATCH: usize = 500;
/// Pause after a reading that failed; jittered by up to a half.
const PAUSE: Duration = Duration::from_secs(1);

/// How long known counts are kept after presence went away, before remembered ones replace them: those are lower
/// where there are several sidecars, and most outages are short.
const STANDS: Duration = Duration::from_secs(5);

/// The state of every community with subscribers.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    /// Notified when there is something to read.
    wanted: Notify,
    /// Notified when an update is planned for later.
    planned: Notify,
    /// Shortest time between two updates of a community.
    interval: Duration,
    /// Between two readings of everything.
    resync: Duration,
    keys: AppKeys,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inner {
    topics: HashMap<CommunityId, Place>,
    wanted: BTreeSet<CommunityId>,
    planned: BTreeSet<(Instant, CommunityId)>,
}

#[derive(Default)]
struct Place {
    topic: Topic,
    latest: Option<Arc<Update>>,
    subscribers: HashMap<u64, Arc<Mailbox>>,
}

label_values! {
    /// Why everything is read again.
    pub enum Resync as "reason" {
        /// The feed has started, or started again.
        Listening => "listening",
        /// The feed was too fast for this process.
        Lagged => "lagged",
        /// The resync period has passed.
        Periodic => "periodic",
    }
}

impl Hub {
    /// An empty hub; see [`Hub::listen`] and [`Hub::read`].
    pub(super) fn new(interval: Duration, resync: Duration, keys: AppKeys, metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Mutex::default(),
            wanted: Notify::new(),
            planned: Notify::new(),
            interval,
            resync,
            keys,
            metrics,
        }
    }

    /// Subscribes to a community. The subscriber gets the latest value at once if there is one, else as soon as it
    /// was read. The mailbox must have the community already.
    pub(super) fn subscribe(&self, id: u64, mailbox: &Arc<Mailbox>, community: &CommunityId) {
        let mut inner = self.lock();
        let place = inner.topics.entry(community.clone()).or_default();
        place.subscribers.insert(id, Arc::clone(mailbox));
        if let Some(update) = place.latest(community, &self.keys) {
            place.topic.given();
            mailbox.offer(&update);
        } else if inner.wanted.insert(community.clone()) {
            self.wanted.notify_one();
        }
    }

    /// Unsubscribes from a community.
    pub(super) fn unsubscribe(&self, id: u64, community: &CommunityId) {
        let mut inner = self.lock();
        let Some(place) = inner.topics.get_mut(community) else {
            return;
        };
        place.subscribers.remove(&id);
        if place.subscribers.is_empty() {
            // It stays in `planned`, where it is skipped.
            inner.topics.remove(community);
            inner.wanted.remove(community);
        }
    }

    /// Forwards changes to subscribers; never returns. `is_again`: after an interruption, so that every topic is
    /// read again, because changes may have been missed.
    pub(super) async fn listen(&self, presence: &dyn Presence, is_again: bool) {
        let mut changes = presence.subscribe();
        if is_again {
            self.want_all(Resync::Listening);
        }
        loop {
            let next = self.lock().planned.first().map(|(at, _)| *at);
            let next = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = changes.recv() => match event {
                    Ok(Event::Change(change)) => self.changed(&change.community, change.count),
                    Ok(Event::Listening) => self.want_all(Resync::Listening),
                    Err(RecvError::Lagged(_)) => self.want_all(Resync::Lagged),
                    // Presence has ended: the process is shutting down.
                    Err(RecvError::Closed) => return,
                },
                () = next => self.tell_planned(now()),
                () = self.planned.notified() => {}
            }
        }
    }

    /// Reads wanted communities; never returns. Parts of the store that cannot answer are asked again later, and
    /// delay no others. `is_again`: after an interruption, so that unfinished readings are repeated.
    pub(super) async fn read(&self, presence: &dyn Presence, is_again: bool) {
        if is_again {
            self.want_all(Resync::Listening);
        }
        let mut resync = self.next_resync();
        let mut away_since: HashMap<u16, time::Instant> = HashMap::new();
        let mut unread = BTreeSet::new();
        let mut retry = time::Instant::now();
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep_until(resync) => {}
                () = sleep_until(retry), if !unread.is_empty() => self.want_again(std::mem::take(&mut unread)),
            }
            loop {
                // Also while there is always something to read.
                if time::Instant::now() >= resync {
                    self.want_all(Resync::Periodic);
                    resync = self.next_resync();
                }
                let batch = self.take_wanted();
                if batch.is_empty() {
                    break;
                }
                let mut readings = readings(presence, batch);
                while let Some((part, communities, answer)) = readings.next().await {
                    if let Ok(Answer { value, stale: false }) = answer {
                        away_since.remove(&part);
                        self.answered(&communities, &value);
                        continue;
                    }
                    // Presence logs the cause.
                    let since = *away_since.entry(part).or_insert_with(time::Instant::now);
                    if let Ok(Answer { value, .. }) = answer {
                        self.remembered(&communities, &value, since.elapsed() < STANDS);
                    }
                    unread.extend(communities);
                    retry = time::Instant::now() + PAUSE.mul_f64(rand::random_range(0.5..1.5));
                }
            }
        }
    }

    fn next_resync(&self) -> time::Instant {
        time::Instant::now() + self.resync.mul_f64(rand::random_range(0.75..1.25))
    }

    fn changed(&self, community: &CommunityId, count: Count) {
        let moment = now();
        let mut inner = self.lock();
        // Most changes are of communities without subscribers.
        if let Some(place) = inner.topics.get_mut(community) {
            let telling = place.topic.published(count, moment, self.interval);
            self.follow(&mut inner, community, telling);
        }
    }

    fn answered(&self, communities: &[CommunityId], counts: &[Count]) {
        self.each(communities, counts, |topic, count, moment| {
            topic.read(count, false, moment, self.interval)
        });
    }

    /// Presence is away, and these are remembered counts. With `stands`, known counts are kept.
    fn remembered(&self, communities: &[CommunityId], counts: &[Count], stands: bool) {
        self.each(communities, counts, |topic, count, moment| {
            if stands && topic.known().is_some() {
                return Telling::Nothing;
            }
            topic.read(count, true, moment, self.interval)
        });
    }

    fn each(
        &self,
        communities: &[CommunityId],
        counts: &[Count],
        know: impl Fn(&mut Topic, Count, Instant) -> Telling,
    ) {
        let moment = now();
        for (community, count) in communities.iter().zip(counts) {
            let mut inner = self.lock();
            if let Some(place) = inner.topics.get_mut(community) {
                let telling = know(&mut place.topic, *count, moment);
                self.follow(&mut inner, community, telling);
            }
        }
    }

    fn follow(&self, inner: &mut Inner, community: &CommunityId, telling: Telling) {
        match telling {
            Telling::Nothing => {}
            Telling::Now => {
                if let Some(place) = inner.topics.get_mut(community) {
                    self.tell(community, place);
                }
            }
            Telling::At(at) => {
                inner.planned.insert((at, community.clone()));
                self.planned.notify_one();
            }
        }
    }

    fn tell_planned(&self, now: Instant) {
        let mut inner = self.lock();
        while let Some((at, community)) = inner.planned.pop_first() {
            if at > now {
                inner.planned.insert((at, community));
                return;
            }
            if let Some(place) = inner.topics.get_mut(&community)
                && place.topic.is_due(now)
            {
                self.tell(&community, place);
            }
        }
    }

    fn tell(&self, community: &CommunityId, place: &mut Place) {
        let Some(update) = place.latest(community, &self.keys) else {
            return;
        };
        let mut replaced = 0;
        for mailbox in place.subscribers.values() {
            replaced += u64::from(mailbox.offer(&update) == Offered::Replaced);
        }
        self.metrics.values_skipped.inc_by(replaced);
    }

    fn want_all(&self, why: Resync) {
        self.metrics.resyncs[why].inc();
        let mut inner = self.lock();
        let Inner { topics, wanted, .. } = &mut *inner;
        for (community, place) in topics {
            if matches!(why, Resync::Listening) {
                place.topic.doubt();
            }
            wanted.insert(community.clone());
        }
        drop(inner);
        self.wanted.notify_one();
    }

    fn take_wanted(&self) -> Vec<CommunityId> {
        let mut inner = self.lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(community) = inner.wanted.pop_first()
        {
            batch.push(community);
        }
        batch
    }

    /// Marks those that still have subscribers as wanted again.
    fn want_again(&self, communities: BTreeSet<CommunityId>) {
        let mut inner = self.lock();
        for community in communities {
            if inner.topics.contains_key(&community) {
                inner.wanted.insert(community);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the store, communities that it keeps, and its answer.
type Reading = (u16, Vec<CommunityId>, Result<Answer<Vec<Count>>, PresenceError>);

/// Reads each part of the store separately, concurrently.
fn readings(
    presence: &dyn Presence,
    batch: Vec<CommunityId>,
) -> FuturesUnordered<impl Future<Output = Reading>> {
    let mut by_part: HashMap<u16, Vec<CommunityId>> = HashMap::new();
    for community in batch {
        let part = by_part.entry(presence.part(&community)).or_default();
        part.push(community);
    }
    let readings = by_part.into_iter().map(|(part, communities)| async move {
        let answer = presence.counts(&communities).await;
        (part, communities, answer)
    });
    readings.collect()
}

/// The runtime's time, which tests can pause.
fn now() -> Instant {
    time::Instant::now().into_std()
}

impl Place {
    /// The latest value, serialised once.
    fn latest(&mut self, community: &CommunityId, keys: &AppKeys) -> Option<Arc<Update>> {
        let known = self.topic.known()?;
        if self.latest.as_ref().is_none_or(|latest| latest.known() != known) {
            self.latest = Some(Arc::new(Update::new(community.clone(), known, keys)));
        }
        self.latest.clone()
    }
}

#[cfg(test)]
mod tests;
