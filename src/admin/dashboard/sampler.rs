//! Collects the dashboard's data in two tasks.
//! One reads counters each second; the other reads presence, each second while the dashboard is open, else once
//! for each point of the lines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::SHOWN;
use super::history::{History, STEP};
use super::rates::Rates;
use crate::admin::Metrics;
use crate::communities::Communities;
use crate::ids::CommunityId;
use crate::presence::{Presence, PresenceError, Scope};
use crate::recent_pages::RecentPages;

/// Most communities that are read. If there are more, the dashboard says so.
const LOOKED_AT: usize = 5_000;
/// Time between two readings.
const TICK: Duration = Duration::from_secs(1);
/// Reading uses at most one part in this many of the presence store's time, as far as its duration shows.
const SHARE: u32 = 20;
/// The dashboard counts as open for this long after a request.
const ATTENTION: Duration = Duration::from_secs(10);
/// Slugs that are asked for after a reading.
const ASKED_AT_ONCE: usize = 10;
/// Cached slugs.
const SLUGS: usize = 1_000;

/// State shared between tasks and answers. A lock is held only while numbers are copied, and never across an
/// await.
pub(super) struct Sampler {
    pub(super) metrics: Metrics,
    /// `None` if presence is not recorded.
    pub(super) presence: Option<Arc<dyn Presence>>,
    pub(super) recent: RecentPages,
    communities: Arc<Communities>,
    memory: Mutex<Samples>,
    asked: Mutex<Option<Instant>>,
    /// The dashboard was opened.
    opened: Notify,
}

/// The collected data.
pub(super) struct Samples {
    /// The latest answer of presence.
    pub(super) reading: Option<Result<PresenceSample, Unknown>>,
    pub(super) history: History,
    pub(super) views: Rates,
    /// `None`: it has none.
    pub(super) slugs: HashMap<CommunityId, Option<Arc<str>>>,
}

/// Presence could not answer.
pub(super) struct Unknown;

/// Visitors per community.
pub(super) struct PresenceSample {
    pub(super) as_of: DateTime<Utc>,
    pub(super) stale: bool,
    /// Visitors of the whole site.
    pub(super) on_site: u64,
    /// The most of them at a time today, UTC.
    pub(super) peak: u64,
    /// Whether no community was left out.
    pub(super) all: bool,
    /// Communities with visitors, most visitors first.
    pub(super) counts: Vec<(CommunityId, u64)>,
}

impl Sampler {
    pub(super) fn new(
        metrics: Metrics,
        presence: Option<Arc<dyn Presence>>,
        recent: RecentPages,
        communities: Arc<Communities>,
    ) -> Self {
        let memory = Samples {
            reading: None,
            history: History::default(),
            views: Rates::default(),
            slugs: HashMap::new(),
        };
        Self {
            metrics,
            presence,
            recent,
            communities,
            memory: Mutex::new(memory),
            asked: Mutex::default(),
            opened: Notify::new(),
        }
    }

    /// The dashboard was requested.
    pub(super) fn looked_at(&self) {
        let mut asked = lock(&self.asked);
        if asked.replace(Instant::now()).is_none_or(is_long_ago) {
            self.opened.notify_one();
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Samples> {
        lock(&self.memory)
    }

    /// Reads counters; never returns.
    pub(super) async fn read_counters(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let recent = self.recent.latest();
            let mut memory = self.memory();
            memory
                .views
                .note(Instant::now(), self.metrics.views.counted.get());
            for (_, page) in recent {
                if let (Some(community), Some(slug)) = (&page.community, &page.slug) {
                    memory.name(community, Some(slug));
                }
            }
        }
    }

    /// Reads presence; never returns.
    pub(super) async fn read_presence(self: Arc<Self>) {
        let Some(presence) = self.presence.clone() else {
            return;
        };
        let mut next_point = Instant::now();
        loop {
            let began = Instant::now();
            let reading = read(&*presence).await;
            let took = began.elapsed();
            if let Ok(reading) = &reading
                && !reading.stale
            {
                #[expect(clippy::cast_precision_loss, reason = "users are far fewer")]
                self.metrics.presence.site_visitors.set(reading.on_site as f64);
            }
            {
                let mut memory = self.memory();
                // Points for which the answer came too late.
                while next_point + STEP <= Instant::now() {
                    memory.history.add_nothing();
                    next_point += STEP;
                }
                if next_point <= Instant::now() {
                    match &reading {
                        Ok(reading) if !reading.stale => memory.history.add(&reading.counts, reading.all),
                        Ok(_) | Err(_) => memory.history.add_nothing(),
                    }
                    next_point += STEP;
                }
                memory.reading = Some(reading.map_err(|_| Unknown));
            }
            self.look_up_slugs().await;
            let until_next_point = next_point.saturating_duration_since(Instant::now());
            if lock(&self.asked).is_none_or(is_long_ago) {
                tokio::select! {
                    () = sleep(until_next_point) => {}
                    () = self.opened.notified() => {}
                }
            } else {
                sleep((took * SHARE).max(TICK).min(until_next_point.max(TICK))).await;
            }
        }
    }
}

impl Sampler {
    /// Asks the app's table for some slugs of shown communities that no recorded path has named: after a start, of those that
    /// presence has kept. A community without a slug is asked for once.
    async fn look_up_slugs(&self) {
        let unnamed: Vec<CommunityId> = {
            let memory = self.memory();
            let Some(Ok(reading)) = &memory.reading else {
                return;
            };
            let shown = reading.counts.iter().take(SHOWN).map(|(community, _)| community);
            let unnamed = shown.filter(|community| !memory.slugs.contains_key(community));
            unnamed.take(ASKED_AT_ONCE).cloned().collect()
        };
        let ask = async {
            for community in unnamed {
                // Where the database does not answer, later.
                let Ok(slug) = self.communities.slug_of(&community).await else {
                    return;
                };
                self.memory().name(&community, slug.as_ref());
            }
        };
        let _ = timeout(TICK, ask).await;
    }
}

impl Samples {
    /// Caches a community's slug; if there are too many, only for communities with a line.
    fn name(&mut self, community: &CommunityId, slug: Option<&Arc<str>>) {
        if self.slugs.get(community).map(Option::as_ref) == Some(slug) {
            return;
        }
        if self.slugs.len() >= SLUGS {
            let history = &self.history;
            self.slugs.retain(|community, _| history.tracks(community));
        }
        self.slugs.insert(community.clone(), slug.map(Arc::clone));
    }
}

async fn read(presence: &dyn Presence) -> Result<PresenceSample, PresenceError> {
    let communities = presence.communities(LOOKED_AT).await?;
    let scopes: Vec<_> = std::iter::once(Scope::Site)
        .chain(communities.value.iter().map(Scope::from))
        .collect();
    let answer = presence.all_counts(&scopes).await?;
    let peak = presence.peak_of_the_day().await?;
    let site = answer.value.first();
    let as_of = site.map_or_else(Utc::now, |count| count.as_of);
    let on_site = site.map_or(0, |count| count.current);
    let all = communities.value.len() < LOOKED_AT;
    let counts = answer.value.iter().skip(1).map(|count| count.current);
    let mut counts: Vec<_> = communities
        .value
        .into_iter()
        .zip(counts)
        .filter(|(_, current)| *current > 0)
        .collect();
    counts.sort_by(|(one, few), (other, many)| many.cmp(few).then_with(|| one.cmp(other)));
    Ok(PresenceSample {
        as_of,
        stale: communities.stale || answer.stale || peak.stale,
        on_site,
        peak: peak.value.max(on_site),
        all,
        counts,
    })
}

fn is_long_ago(asked: Instant) -> bool {
    asked.elapsed() > ATTENTION
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
