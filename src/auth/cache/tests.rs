//! The authenticator over a session table whose answers the test decides on, and may hold back.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;

use super::*;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::store::{Applied, LedgerProblem, Stats, VisitorRow};
use crate::writer::batch::Batch;

/// The session table.
struct Table {
    rows: Mutex<HashMap<SessionToken, BrowserSession>>,
    away: AtomicBool,
    lookups: AtomicUsize,
}

#[async_trait]
impl Store for Table {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        Ok(self.rows.lock().unwrap().get(token).cloned())
    }

    async fn community_by_slug(&self, _: &str) -> Result<Option<CommunityId>, StoreError> {
        unimplemented!("no community is asked for")
    }

    async fn community_exists(&self, _: &CommunityId) -> Result<bool, StoreError> {
        unimplemented!("no community is asked for")
    }

    async fn apply(&self, _: &Batch) -> Result<Applied, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn ledger(&self) -> Result<Option<LedgerProblem>, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn forget_old_parts(&self) -> Result<u64, StoreError> {
        unimplemented!("nothing is written")
    }

    async fn visitors(&self, _: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        unimplemented!("nobody is listed")
    }

    async fn stats(&self, _: &CommunityId, _: DateTime<Utc>, _: DateTime<Utc>) -> Result<Stats, StoreError> {
        unimplemented!("nothing is counted")
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}
}

/// An authenticator in front of a table with one session, number 1 of user 7, valid until 10:50.
struct Scene {
    table: Arc<Table>,
    authenticator: Authenticator,
    metrics: Arc<Metrics>,
    token: SessionToken,
}

impl Scene {
    /// Every answer is past its time at once.
    fn forgetful() -> Self {
        Self::with(|session| session.cache_ttl = Duration::ZERO)
    }

    fn with(configure: impl FnOnce(&mut config::Session)) -> Self {
        let token = SessionToken::new("token-of-alice");
        let session = BrowserSession {
            id: BrowserSessionId::from("1"),
            user_id: UserId::from("7"),
            expires_at: at(50),
            is_active: true,
            is_ended: false,
            ended_at: None,
        };
        let table = Arc::new(Table {
            rows: Mutex::new(HashMap::from([(token.clone(), session)])),
            away: AtomicBool::new(false),
            lookups: AtomicUsize::new(0),
        });
        let mut settings = config::Session {
            cache_ttl: Duration::from_secs(3600),
            ..config::Session::default()
        };
        configure(&mut settings);
        let metrics = Arc::new(Metrics::new());
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

    fn away(&self, away: bool) {
        self.table.away.store(away, Ordering::Relaxed);
    }

    async fn resolves(&self, now: DateTime<Utc>) -> bool {
        let found = self.authenticator.resolve(&self.token, now).await;
        found.expect("the table can be asked").is_some()
    }

    fn remembers(&self, at: DateTime<Utc>) -> bool {
        self.authenticator.remembered(&self.token, at).is_some()
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.metrics.session_lookups.with_label_values(&[outcome]).get()
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
    assert_eq!(
        scene.authenticator.cached(&scene.token, at(1)).await,
        Known::Unknown
    );
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
    scene.authenticator.memory.settle();
    let remembered = |token: &&SessionToken| scene.authenticator.remembered(token, at(0)).is_some();
    assert!(tokens.iter().filter(remembered).count() <= 10);
}
