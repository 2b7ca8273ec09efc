//! A store of grants that two sidecars share, that may be away, and that may lose everything.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::ids::CommunityId;
use crate::presence::failure_domain::FailureDomains;
use crate::presence::fake::Fake;
use crate::presence::grants::known::Recorded;

pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const SHOWN: News = News::Answer(Verdict::Shown);

/// What a store has, in memory: verdict, when that was, and until when it counts.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) noted: Mutex<HashMap<GrantKey, (Verdict, Moment, Moment)>>,
    pub(super) writes: AtomicUsize,
    pub(super) questions: AtomicUsize,
    pub(super) is_away: AtomicBool,
}

/// The way of one sidecar to it.
pub(super) struct Link {
    store: Arc<Shared>,
    pub(super) is_away: AtomicBool,
    pub(super) takes_nothing: AtomicBool,
    /// What happens while the next note is under way.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    pub(super) domains: FailureDomains,
}

impl Link {
    fn is_there(&self) -> Result<(), PresenceError> {
        if self.is_away.load(Ordering::Relaxed) || self.store.is_away.load(Ordering::Relaxed) {
            return Err(PresenceError::Unexpected("away".into()));
        }
        Ok(())
    }
}

pub(super) fn told(&(verdict, at, until): &(Verdict, Moment, Moment)) -> Option<NotedGrant> {
    let noted = NotedGrant {
        verdict,
        age: at.elapsed(),
        left: until.since(Moment::now()),
    };
    (!noted.left.is_zero()).then_some(noted)
}

#[async_trait]
impl Fake for Link {
    fn shares_grants(&self) -> bool {
        true
    }

    fn losses(&self) -> Option<FailureDomains> {
        Some(self.domains.clone())
    }

    async fn note_grants(
        &self,
        community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        self.is_there()?;
        if self.takes_nothing.load(Ordering::Relaxed) {
            return Err(PresenceError::Unexpected("nothing can be written".into()));
        }
        self.store.writes.fetch_add(1, Ordering::Relaxed);
        if let Some(happens) = self.meanwhile.lock().unwrap().take() {
            happens();
        }
        let mut noted = self.store.noted.lock().unwrap();
        let mut stands = Vec::new();
        for grant in grants {
            let scope = Scope::of(community.clone(), grant.finer.clone());
            let key = (scope, grant.user.clone());
            let shown = noted
                .get(&key)
                .is_some_and(|(verdict, ..)| *verdict == Verdict::Shown);
            if grant.only_prolongs && !shown {
                stands.push(noted.get(&key).and_then(told));
                continue;
            }
            let (at, until) = (Moment::now().before(grant.age), Moment::now() + grant.left);
            let entry = noted.entry(key).or_insert((grant.verdict, at, until));
            if entry.0 == grant.verdict {
                *entry = (entry.0, entry.1.max(at), entry.2.max(until));
            } else if entry.1 <= at {
                let until = match grant.verdict {
                    Verdict::Shown => until,
                    Verdict::Refused => until.max(entry.2),
                };
                *entry = (grant.verdict, at, until);
            }
            stands.push(told(entry));
        }
        Ok(stands)
    }

    async fn grant(&self, scope: &Scope, user: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        self.is_there()?;
        self.store.questions.fetch_add(1, Ordering::Relaxed);
        let noted = self.store.noted.lock().unwrap();
        Ok(noted.get(&(scope.clone(), user.clone())).and_then(told))
    }
}

/// A sidecar and its way to the store.
pub(super) struct Sidecar {
    pub(super) grants: Grants,
    pub(super) link: Arc<Link>,
}

impl std::ops::Deref for Sidecar {
    type Target = Grants;

    fn deref(&self) -> &Grants {
        &self.grants
    }
}

pub(super) fn sidecar(store: &Arc<Shared>) -> Sidecar {
    sidecar_with(store, NonZeroU16::MIN)
}

/// One whose store has so many failure domains.
pub(super) fn sidecar_with(store: &Arc<Shared>, domains: NonZeroU16) -> Sidecar {
    let link = Arc::new(Link {
        store: store.clone(),
        is_away: AtomicBool::default(),
        takes_nothing: AtomicBool::default(),
        meanwhile: Mutex::default(),
        domains: FailureDomains::new(domains),
    });
    let tasks = Tasks::on_current_runtime();
    let patience = Duration::from_secs(1);
    Sidecar {
        grants: Grants::start(HOUR, patience, link.clone(), Arc::default(), &tasks),
        link,
    }
}

/// Two sidecars of which the first was shown the community, and the second refused it later; the store knows both.
pub(super) async fn shown_by_one_and_refused_by_the_other(store: &Arc<Shared>) -> (Sidecar, Sidecar) {
    let (one, other) = (sidecar(store), sidecar(store));
    one.shows(Verdict::Shown, Duration::from_secs(30));
    one.writes().await;
    other.shows(Verdict::Refused, Duration::from_secs(20));
    other.writes().await;
    (one, other)
}

impl Grants {
    pub(super) fn shows(&self, verdict: Verdict, ago: Duration) {
        let at = Moment::now().before(ago);
        self.note(&"42".into(), &"7".into(), News::Answer(verdict), at);
    }

    pub(super) fn still_shows(&self) {
        self.note(&"42".into(), &"7".into(), News::StillShown, Moment::now());
    }

    pub(super) fn soon(&self) -> Instant {
        Instant::now() + self.patience()
    }

    pub(super) async fn lets_see(&self) -> bool {
        self.may_see(&"42".into(), &"7".into(), self.soon())
            .await
            .unwrap()
    }

    pub(super) fn known(&self) -> Option<Known> {
        self.0.memory.get(&("42".into(), "7".into()))
    }

    /// Until nothing waits to be written.
    pub(super) async fn writes(&self) {
        while !self
            .known()
            .is_some_and(|known| matches!(known.recorded, Recorded::There { .. }))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
