//! Tests of the authenticator with a session table whose answers the test chooses and may delay.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::TryRecvError;

mod absence;
mod jwt;

use super::*;
use crate::auth::outcome::Absent;
use crate::ids::{BrowserSessionId, UserId};
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
        let session = BrowserSession {
            id: Some(BrowserSessionId::from("1")),
            user_id: UserId::from("7"),
            expires_at: at(50),
            is_active: true,
            is_ended: false,
            ended_at: None,
            visibility: crate::browser_session::Visibility::Shown,
        };
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

    async fn knows(&self, now: DateTime<Utc>) -> CachedSession {
        self.authenticator.cached(&self.token, now).await
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
    assert_eq!(scene.knows(at(1)).await, CachedSession::Unknown);
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

#[tokio::test]
async fn i4_a_session_that_changed_is_asked_for_again() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    assert!(scene.resolves(at(1)).await, "nobody has told of it");
    assert!(scene.remembers(at(1)));

    scene.hears();
    assert_eq!(scene.knows(at(2)).await, CachedSession::Unknown);
    assert!(!scene.remembers(at(2)));
    assert!(!scene.resolves(at(2)).await);
    assert_eq!(scene.knows(at(2)).await, CachedSession::NoSession(Absent::Ended));
    assert_eq!((scene.reads(), scene.evicted("changed")), (2, 1));
}

#[tokio::test]
async fn v6_a_view_that_began_before_the_session_ended_is_that_sessions() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| {
        session.is_ended = true;
        session.ended_at = Some(at(20));
    });
    scene.hears();
    let past = async |at| {
        scene
            .authenticator
            .resolve_past(&scene.token, at, None)
            .await
            .unwrap()
    };
    assert!(matches!(past(at(19)).await, Identified::Session(_)));
    assert!(matches!(scene.knows(at(19)).await, CachedSession::Session(_)));
    assert_eq!(past(at(20)).await, Identified::NoSession(Absent::Ended));
    assert_eq!(scene.knows(at(20)).await, CachedSession::NoSession(Absent::Ended));
    // A query for the present finds no session, whenever its request began.
    assert!(!scene.resolves(at(19)).await);
    assert!(!scene.remembers(at(19)));
}

#[tokio::test]
async fn i4_a_session_of_somebody_else_that_changed_costs_no_lookup() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene
        .authenticator
        .changed(SessionChange::Of(BrowserSessionId::from("2")));
    assert!(scene.resolves(at(1)).await);
    assert!(matches!(scene.knows(at(1)).await, CachedSession::Session(_)));
    assert!(scene.remembers(at(1)));
    assert_eq!(scene.reads(), 1);
}

#[tokio::test]
async fn i4_an_answer_that_was_on_its_way_when_the_news_came_is_not_kept() {
    let scene = Scene::new();
    let news = scene.ends_before_it_answers();
    let (found, ()) = tokio::join!(scene.resolves(at(0)), news);
    assert!(!found, "it was read again");
    assert_eq!(scene.reads(), 2);
    assert_eq!(scene.knows(at(1)).await, CachedSession::NoSession(Absent::Ended));
    assert!(!scene.remembers(at(1)));
}

#[tokio::test]
async fn i4_who_waits_for_the_answer_of_another_gets_none_that_the_news_has_overtaken() {
    let scene = Scene::new();
    let news = scene.ends_before_it_answers();
    let all = futures_util::future::join_all((0..10).map(|_| scene.resolves(at(0))));
    let (found, ()) = tokio::join!(all, news);
    assert_eq!(found, [false; 10]);
    assert_eq!(scene.reads(), 2);
}

#[tokio::test]
async fn i2_a_session_that_changed_is_asked_for_once_by_many() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.hears();
    let all = futures_util::future::join_all((0..10).map(|_| scene.resolves(at(1))));
    assert_eq!(all.await, [true; 10]);
    assert_eq!(scene.reads(), 2);
}

/// The answer is given, as the caller cannot wait for ever; but it is not cached.
#[tokio::test]
async fn i4_a_session_that_changes_at_each_look_is_not_looked_at_without_end() {
    let scene = Scene::new();
    scene.table.answers.forget_permits(Semaphore::MAX_PERMITS);
    let news = async {
        for reads in 1.. {
            while scene.reads() < reads {
                tokio::task::yield_now().await;
            }
            scene.hears();
            scene.table.answers.add_permits(1);
        }
    };
    let found = tokio::select! {
        found = scene.resolves(at(0)) => found,
        () = news => unreachable!("there is always more news"),
    };
    assert!(found);
    assert_eq!(scene.knows(at(1)).await, CachedSession::Unknown);
}

#[tokio::test]
async fn i4_after_a_gap_sessions_are_asked_for_again_and_go_on_being_remembered() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.authenticator.listening();
    assert_eq!(scene.knows(at(1)).await, CachedSession::Unknown);
    // The database is down again before the next query.
    scene.away(true);
    assert!(scene.remembers(at(1)));
    scene.away(false);
    scene.change(|session| session.is_active = false);
    assert!(!scene.resolves(at(1)).await);
    assert!(!scene.remembers(at(1)));
    assert_eq!(scene.evicted("gap"), 1);
}

#[tokio::test(start_paused = true)]
async fn i1_a_gap_does_not_make_made_up_tokens_worth_a_lookup_again() {
    let scene = Scene::with(|session| session.negative_ttl = Duration::from_secs(3600));
    let made_up = SessionToken::new("made-up");
    let nobody = scene.authenticator.resolve(&made_up, at(0)).await;
    assert_eq!(nobody.unwrap(), None);
    scene.authenticator.listening();
    scene.authenticator.changed(SessionChange::OfAny);
    let known = scene.authenticator.cached_now(&made_up, at(1)).await;
    assert_eq!(
        (known, scene.reads()),
        (CachedSession::NoSession(Absent::NotFound), 1)
    );
}

#[tokio::test]
async fn i4_when_all_sessions_change_none_is_remembered() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.table.rows.lock().unwrap().clear();
    scene.authenticator.changed(SessionChange::OfAny);
    assert!(!scene.remembers(at(1)));
    assert!(!scene.resolves(at(1)).await);
    assert_eq!(scene.evicted("all_changed"), 1);
}

#[tokio::test]
async fn i4_more_changes_than_fit_are_changes_of_all() {
    let scene = Scene::with(|session| session.cache_capacity = 2);
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    scene.hears();
    for id in ["2", "3"] {
        scene
            .authenticator
            .changed(SessionChange::Of(BrowserSessionId::from(id)));
    }
    assert!(!scene.resolves(at(1)).await);
    assert_eq!((scene.evicted("changed"), scene.evicted("overflow")), (2, 1));
}

/// An extended expiry is not notified.
#[tokio::test]
async fn an_expiry_that_was_put_off_is_found_when_the_former_one_has_passed() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.expires_at = at(59));
    assert_eq!(scene.knows(at(50)).await, CachedSession::Unknown);
    assert!(scene.resolves(at(50)).await);
    assert!(scene.resolves(at(51)).await);
    assert_eq!(scene.reads(), 2);
    assert!(!scene.resolves(at(59)).await, "and now it has expired");
    assert!(!scene.resolves(at(59)).await);
    assert_eq!(scene.reads(), 3);
}

#[tokio::test]
async fn i4_who_must_not_outlive_a_session_is_told_when_it_is_no_longer_answered() {
    let scene = Scene::new();
    let mut told = scene.authenticator.subscribe();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    scene.hears();
    let one = SessionChange::Of(BrowserSessionId::from("1"));
    assert_eq!(told.recv().await, Ok(one));
    assert!(!scene.resolves(at(1)).await);

    scene.authenticator.listening();
    assert_eq!(told.recv().await, Ok(SessionChange::OfAny));
    scene.authenticator.changed(SessionChange::OfAny);
    assert_eq!(told.recv().await, Ok(SessionChange::OfAny));

    for _ in 0..=SUBSCRIBERS_BACKLOG {
        scene.hears();
    }
    assert_eq!(told.try_recv(), Err(TryRecvError::Lagged(1)));
}
