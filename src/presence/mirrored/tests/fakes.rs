//! A store that is away, hangs, forgets and comes back when a test says so, and a sidecar's presence in front of it.

use std::num::NonZeroU16;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use futures_util::stream;
use tokio::sync::watch;

use super::super::answers::unavailable;
use super::super::*;
use crate::ids::UserId;

pub(super) const WINDOW: Duration = Duration::from_secs(300);
/// Longer than any test.
pub(super) const PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Away,
    Hung,
    Broken,
}

pub(super) struct Store {
    mood: Mutex<Mood>,
    pub(super) memory: Mutex<Arc<InMemory>>,
    /// Touches in this community wait.
    pub(super) held: watch::Sender<Option<Scope>>,
    /// A failure domain that is away, while the others are as the mood is.
    pub(super) away: Mutex<Option<u16>>,
    domains: FailureDomains,
    /// What each sidecar knows of them.
    known: Mutex<Vec<FailureDomains>>,
    number: NonZeroU16,
}

pub(super) fn in_2001() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_000_000_000_000).unwrap()
}

pub(super) fn empty() -> Arc<InMemory> {
    Arc::new(InMemory::new(WINDOW, SteadyClock::steady(Arc::new(in_2001))))
}

impl Store {
    pub(super) fn new() -> Arc<Self> {
        Self::of_domains(1)
    }

    pub(super) fn of_domains(number: u16) -> Arc<Self> {
        let number = NonZeroU16::new(number).unwrap();
        Arc::new(Self {
            away: Mutex::new(None),
            mood: Mutex::new(Mood::Away),
            memory: Mutex::new(empty()),
            held: watch::Sender::new(None),
            domains: FailureDomains::new(number),
            known: Mutex::default(),
            number,
        })
    }

    pub(super) fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// It can be reached, as from a new connection.
    pub(super) fn connects(&self) {
        for known in &*self.known.lock().unwrap() {
            known.all().for_each(|domain| domain.note_loss());
        }
        self.is(Mood::Fine);
    }

    /// As a sidecar knows it, which is connected to it if it can be reached.
    pub(super) fn known_to_a_sidecar(&self) -> FailureDomains {
        let known = FailureDomains::new(self.number);
        if *self.mood.lock().unwrap() == Mood::Fine {
            known.all().for_each(|domain| domain.note_loss());
        }
        self.known.lock().unwrap().push(known.clone());
        known
    }

    pub(super) fn forgets(&self) {
        *self.memory.lock().unwrap() = empty();
    }

    pub(super) fn is_away(&self, scope: &Scope) -> bool {
        let away = *self.away.lock().unwrap();
        away.is_some_and(|away| Arc::ptr_eq(self.domains.of(scope), self.domains.of_partition(away)))
    }

    /// A community that a failure domain keeps.
    pub(super) fn community_of(&self, domain: u16, but: &[&String]) -> String {
        let mut ids = (0..)
            .map(|id: u32| id.to_string())
            .filter(|id| !but.contains(&id));
        let domain = self.domains.of_partition(domain);
        ids.find(|id| Arc::ptr_eq(self.domains.of(&id.as_str().into()), domain))
            .unwrap()
    }

    pub(super) async fn reached_for(&self, scope: &Scope) -> Result<Arc<InMemory>, PresenceError> {
        if self.is_away(scope) {
            return Err(unavailable("its server is away"));
        }
        let memory = self.reached().await?;
        for known in &*self.known.lock().unwrap() {
            let clock = &known.of(scope).clock;
            let now = Moment::now();
            clock.note_answer(in_2001().timestamp_millis(), now, now, Duration::MAX);
        }
        Ok(memory)
    }

    pub(super) async fn reached(&self) -> Result<Arc<InMemory>, PresenceError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Fine => Ok(Arc::clone(&self.memory.lock().unwrap())),
            Mood::Away => Err(unavailable("away")),
            Mood::Hung => std::future::pending().await,
            Mood::Broken => Err(PresenceError::Unexpected("broken".into())),
        }
    }
}

#[async_trait]
impl Presence for Store {
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        let memory = self.reached_for(scope).await?;
        let mut held = self.held.subscribe();
        let _ = held.wait_for(|held| held.as_ref() != Some(scope)).await;
        memory.touch(scope, touches).await
    }

    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let answers = stream::iter(scopes).then(move |scope| async move {
            let reached = self.reached_for(&scope).await;
            let answer = reached.map(|memory| Answer::current(memory.count(&scope)));
            (scope, answer)
        });
        answers.boxed()
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.reached().await?.communities(limit).await
    }

    async fn communities_of(
        &self,
        domain: usize,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        if self.away.lock().unwrap().map(usize::from) == Some(domain) {
            return Err(unavailable("its server is away"));
        }
        let mut all = self.reached().await?.communities(limit).await?;
        all.value
            .retain(|community| self.domains.index_of(&community.into()) == domain);
        Ok(all)
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let memory = self.reached_for(scope).await?;
        memory.list(scope, after, limit).await
    }

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        self.reached_for(scope).await?.present(scope, users).await
    }

    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        self.reached_for(&Scope::Site).await?.peak_of_the_day().await
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        self.reached().await?.sweep().await
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        self.reached().await.map(|_| ())
    }

    fn subscribe(&self) -> Subscription {
        self.memory.lock().unwrap().subscribe()
    }
}

/// A sidecar's presence.
pub(super) struct Sidecar {
    pub(super) presence: Mirrored,
    pub(super) metrics: Arc<Metrics>,
}

impl Sidecar {
    pub(super) fn of(store: &Arc<Store>) -> Self {
        Self::with(store, WINDOW, PATIENCE)
    }

    pub(super) fn with(store: &Arc<Store>, window: Duration, patience: Duration) -> Self {
        let metrics = Arc::<Metrics>::default();
        let domains = store.known_to_a_sidecar();
        let store = Arc::clone(store) as Arc<dyn Presence>;
        let tasks = Tasks::on_current_runtime();
        let presence = Mirrored::start(
            store,
            Window::new(window),
            patience,
            domains,
            Arc::clone(&metrics),
            &tasks,
        );
        Self { presence, metrics }
    }

    pub(super) async fn touch(&self, community: &str, user: &str) -> Result<Count, PresenceError> {
        self.presence.touch(&community.into(), &[Touch::now(user)]).await
    }

    pub(super) async fn saw(
        &self,
        community: &str,
        user: &str,
        ago: Duration,
    ) -> Result<Count, PresenceError> {
        let user = UserId::from(user);
        let touch = Touch {
            user,
            age: ago,
            finer: None,
        };
        self.presence.touch(&community.into(), &[touch]).await
    }

    /// The count, and whether it is stale.
    pub(super) async fn count(&self, community: &str) -> (u64, bool) {
        let answer = self.presence.all_counts(&[community.into()]).await.unwrap();
        (answer.value[0].current, answer.stale)
    }

    /// Where somebody is, sorted, and whether that is stale.
    pub(super) async fn communities(&self) -> (Vec<String>, bool) {
        let answer = self.presence.communities(100).await.unwrap();
        let mut communities: Vec<_> = answer.value.iter().map(ToString::to_string).collect();
        communities.sort();
        (communities, answer.stale)
    }

    /// Who is there, and whether that is stale.
    pub(super) async fn users(&self, community: &str) -> (Vec<String>, bool) {
        let page = self.presence.list(&community.into(), None, 100).await.unwrap();
        let users = page.value.iter().map(|seen| seen.user.to_string());
        (users.collect(), page.stale)
    }
}

/// Waits until it is so.
pub(super) async fn until(is_so: impl AsyncFn() -> bool) {
    let tries = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(Duration::from_secs(60), tries).await;
    waited.expect("in time");
}
