//! Tests of the authenticator with a session table whose answers the test chooses and may delay.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

mod absence;
mod changes;
mod jwt;

use super::*;
use crate::ids::BrowserSessionId;
use crate::store::fake::Fake;

/// The session table.
struct Table {
    rows: Mutex<HashMap<SessionToken, BrowserSession>>,
    away: AtomicBool,
    /// Rows read so far.
    reads: AtomicUsize,
    /// Each reader of a row takes a permit before the answer goes out.
    answers: Semaphore,
}

#[async_trait]
impl Fake for Table {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        let row = self.rows.lock().unwrap().get(token).cloned();
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.answers.acquire().await.expect("never closed").forget();
        Ok(row)
    }
}

/// An authenticator in front of a table with one session, number 1 of user 7, valid until 10:50.
struct Scene {
    table: Arc<Table>,
    authenticator: Authenticator,
    metrics: Arc<Metrics>,
    token: SessionToken,
}

impl Scene {
    /// Answers are remembered for an hour.
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// Every answer is past its time at once.
    fn forgetful() -> Self {
        Self::with(|session| (session.cache_ttl, session.negative_ttl) = (Duration::ZERO, Duration::ZERO))
    }

    fn with(configure: impl FnOnce(&mut config::Session)) -> Self {
        let token = SessionToken::new("token-of-alice");
        let session = BrowserSession::valid_until("1", "7", at(50));
        let table = Arc::new(Table {
            rows: Mutex::new(HashMap::from([(token.clone(), session)])),
            away: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let mut settings = config::Session {
            cache_ttl: Duration::from_secs(3600),
            ..config::Session::default()
        };
        configure(&mut settings);
        let metrics = Arc::<Metrics>::default();
        Self {
            authenticator: Authenticator::new(&settings, table.clone(), metrics.clone()),
            table,
            metrics,
            token,
        }
    }

    /// The app changes the row.
    fn change(&self, change: impl FnOnce(&mut BrowserSession)) {
        change(self.table.rows.lock().unwrap().get_mut(&self.token).unwrap());
    }

    /// The session is read, and ends before the answer is there; then answers may come.
    fn ends_before_it_answers(&self) -> impl Future<Output = ()> {
        self.table.answers.forget_permits(Semaphore::MAX_PERMITS);
        async {
            while self.reads() == 0 {
                tokio::task::yield_now().await;
            }
            self.change(|session| session.is_ended = true);
            self.hears();
            self.table.answers.add_permits(2);
        }
    }

    /// The database notifies of it.
    fn hears(&self) {
        self.authenticator
            .changed(SessionChange::Of(BrowserSessionId::from("1")));
    }

    fn away(&self, away: bool) {
        self.table.away.store(away, Ordering::Relaxed);
    }

    async fn resolves(&self, now: DateTime<Utc>) -> bool {
        let found = self.authenticator.resolve(&self.token, now).await;
        found.expect("the table can be asked").is_some()
    }

    fn remembers(&self, at: DateTime<Utc>) -> bool {
        self.authenticator.last_known_session(&self.token, at).is_some()
    }

    fn knows(&self, now: DateTime<Utc>) -> CachedSession {
        self.authenticator.cached(&self.token, now)
    }

    fn reads(&self) -> usize {
        self.table.reads.load(Ordering::Relaxed)
    }

    fn evicted(&self, reason: &str) -> u64 {
        self.metrics.evictions.of(reason).get()
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.metrics.lookups.of(outcome).get()
    }
}

fn at(minute: u32) -> DateTime<Utc> {
    format!("2024-03-01T10:{minute:02}:00Z").parse().unwrap()
}

#[tokio::test]
async fn a_session_is_remembered_past_its_time_in_the_cache_while_the_table_is_away() {
    let scene = Scene::forgetful();
    assert!(!scene.remembers(at(0)), "it was never looked up");
    assert!(scene.resolves(at(0)).await);
    scene.away(true);
    assert_eq!(scene.knows(at(1)), CachedSession::Unknown);
    assert!(scene.authenticator.resolve(&scene.token, at(1)).await.is_err());
    assert!(scene.remembers(at(1)));
    assert!(scene.remembers(at(49)));
    assert_eq!(scene.counted("remembered"), 2);
}

#[tokio::test]
async fn a_session_is_never_remembered_past_its_expiry() {
    let scene = Scene::forgetful();
    assert!(scene.resolves(at(0)).await);
    scene.away(true);
    assert!(!scene.remembers(at(50)));
    assert_eq!(scene.counted("remembered"), 0);
}

#[tokio::test]
async fn what_the_table_says_replaces_what_is_remembered() {
    let scene = Scene::forgetful();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.expires_at = at(20));
    assert!(scene.resolves(at(1)).await);
    assert!(scene.remembers(at(19)) && !scene.remembers(at(20)));

    scene.change(|session| session.is_ended = true);
    assert!(!scene.resolves(at(2)).await);
    assert!(!scene.remembers(at(2)), "it has ended");

    scene.change(|session| session.is_ended = false);
    assert!(scene.resolves(at(3)).await);
    assert!(scene.remembers(at(3)));
    scene.table.rows.lock().unwrap().clear();
    assert!(!scene.resolves(at(4)).await, "it is gone");
    assert!(!scene.remembers(at(4)), "it is gone");
}

#[tokio::test]
async fn no_more_sessions_are_remembered_than_the_cache_holds() {
    let scene = Scene::with(|session| session.cache_capacity = 10);
    let row = scene.table.rows.lock().unwrap()[&scene.token].clone();
    let tokens: Vec<_> = (0..1000)
        .map(|n| SessionToken::new(format!("token-{n}")))
        .collect();
    for token in &tokens {
        scene
            .table
            .rows
            .lock()
            .unwrap()
            .insert(token.clone(), row.clone());
        scene.authenticator.resolve(token, at(0)).await.unwrap();
    }
    let remembered = |token: &&SessionToken| scene.authenticator.last_known_session(token, at(0)).is_some();
    assert!(tokens.iter().filter(remembered).count() <= 10);
}

/// An extended expiry is not notified.
#[tokio::test]
async fn an_expiry_that_was_put_off_is_found_when_the_former_one_has_passed() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.expires_at = at(59));
    assert_eq!(scene.knows(at(50)), CachedSession::Unknown);
    assert!(scene.resolves(at(50)).await);
    assert!(scene.resolves(at(51)).await);
    assert_eq!(scene.reads(), 2);
    assert!(!scene.resolves(at(59)).await, "and now it has expired");
    assert!(!scene.resolves(at(59)).await);
    assert_eq!(scene.reads(), 3);
}
