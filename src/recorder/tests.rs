//! Tests of the recorder with a session table whose rows appear when the test says so.

mod late;
mod signed_out;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use tokio::time::sleep;

use super::resolve::ResolvedView;
use super::*;
use crate::communities::AskedCommunity;
use crate::config;
use crate::ids::CommunityId;
use crate::live::{AccessPolicy, Denied};
use crate::presence::memory::InMemory;
use crate::presence::{self, Presence, Scope, SteadyClock};
use crate::routes::CommunityRef;
use crate::shutdown::Shutdown;
use crate::status::Status;
use crate::store::StoreError;
use crate::store::fake::Fake;
use crate::writer::testing::view;
use crate::writer::unresolved::VisitorRef;

/// The session table.
#[derive(Default)]
struct Table {
    rows: Mutex<HashMap<SessionToken, BrowserSession>>,
    /// It does not answer.
    hangs: AtomicBool,
    /// It refuses to.
    away: AtomicBool,
}

#[async_trait]
impl Fake for Table {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        while self.hangs.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(10)).await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        Ok(self.rows.lock().unwrap().get(token).cloned())
    }
}

/// Access that is decided already.
struct Decided {
    admits: bool,
    /// It is asked for each time.
    needs_recheck: bool,
}

/// Access that the app decides, and that is checked each time.
const STRICT: Decided = Decided {
    admits: true,
    needs_recheck: true,
};

/// Nobody may see a community that does not exist.
const NOWHERE: Decided = Decided {
    admits: false,
    needs_recheck: false,
};

#[async_trait]
impl AccessPolicy for Decided {
    async fn admit(
        &self,
        _: Option<Arc<BrowserSession>>,
        asked: &[String],
    ) -> Result<Vec<Option<AskedCommunity>>, Denied> {
        let community = |id: &String| self.admits.then(|| CommunityId::from(id.as_str()).into());
        Ok(asked.iter().map(community).collect())
    }

    async fn still_admits(
        &self,
        _: Option<Arc<BrowserSession>>,
        scopes: &[Scope],
        _: Option<&Scope>,
    ) -> Result<Vec<bool>, Denied> {
        Ok(vec![self.admits; scopes.len()])
    }

    fn needs_recheck(&self) -> bool {
        self.needs_recheck
    }
}

/// Asks something that never answers.
struct Endless;

#[async_trait]
impl AccessPolicy for Endless {
    async fn admit(
        &self,
        _: Option<Arc<BrowserSession>>,
        _: &[String],
    ) -> Result<Vec<Option<AskedCommunity>>, Denied> {
        std::future::pending().await
    }

    async fn still_admits(
        &self,
        _: Option<Arc<BrowserSession>>,
        _: &[Scope],
        _: Option<&Scope>,
    ) -> Result<Vec<bool>, Denied> {
        std::future::pending().await
    }

    fn needs_recheck(&self) -> bool {
        false
    }
}

/// A recorder without destinations, which only counts its views.
struct Bench {
    table: Arc<Table>,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn new() -> Self {
        let table = Arc::<Table>::default();
        let metrics = Arc::<Metrics>::default();
        let (recorder, worker) = testing::recorder(testing::resolver(table.clone()), &metrics);
        worker.start(&crate::tasks::Tasks::on_current_runtime());
        Self {
            table,
            recorder,
            metrics,
        }
    }

    /// Of presence, where a visitor counts for `window`.
    fn of_presence(window: Duration) -> (Self, Arc<dyn Presence>, Shutdown) {
        let table = Arc::<Table>::default();
        let metrics = Arc::<Metrics>::default();
        let record = config::Record::default();
        let clock = SteadyClock::of_the_machine();
        let presence: Arc<dyn Presence> = Arc::new(InMemory::new(record.window, clock));
        let tasks = crate::tasks::Tasks::on_current_runtime();
        let (touches, touching) = presence::worker::new(
            Arc::clone(&presence),
            &record,
            &Status::default(),
            Arc::default(),
            metrics.queued[Queue::Presence].clone(),
        );
        let stop = Shutdown::new();
        touching.start(&tasks, stop.subscribe());
        let resolver = Resolver {
            window,
            ..testing::resolver(table.clone())
        };
        let (recorder, worker) = testing::recorder_of(resolver, Some(touches), &metrics);
        worker.start(&tasks);
        let bench = Self {
            table,
            recorder,
            metrics,
        };
        (bench, presence, stop)
    }

    fn signs_in(&self, token: &str) {
        let session = BrowserSession::valid_until("1", "7", Utc::now() + TimeDelta::hours(1));
        let mut rows = self.table.rows.lock().unwrap();
        rows.insert(SessionToken::new(token), session);
    }

    fn sees(&self, token: &str) {
        self.sees_at(token, None);
    }

    /// With a policy, the page reports the view itself.
    fn sees_at(&self, token: &str, access_policy: Option<Arc<dyn AccessPolicy>>) {
        let who = RequestVisitor::Token(SessionToken::new(token), EarlyLookup::default());
        let mut view = view("/about/");
        view.community = access_policy.is_some().then(|| CommunityRef::Id("42".into()));
        self.recorder.record(AcceptedView {
            view,
            seen: Moment::now(),
            who,
            access_policy,
            from: None,
        });
    }

    /// Views with a session, views without one, and views that wait.
    fn counts(&self) -> (u64, u64, usize) {
        let nobodys = &self.metrics.not_counted[NotCounted::NoSession];
        (
            self.metrics.counted.get(),
            nobodys.get(),
            self.recorder.unspooled(),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn i10_views_that_come_before_the_row_of_their_session_wait_a_second_for_it() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.sees("alice");
        bench.sees("nobody");
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.counts(), (0, 0, 6));
    bench.signs_in("alice");
    sleep(Duration::from_millis(600)).await;
    assert_eq!(bench.counts(), (3, 3, 0));
    // A token that was queried twice is not waited for again.
    bench.sees("nobody");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.counts(), (3, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn i10_at_the_end_nothing_waits_for_rows() {
    let bench = Bench::new();
    bench.sees("alice");
    bench.sees("nobody");
    sleep(Duration::from_millis(100)).await;
    bench.signs_in("alice");
    let before = tokio::time::Instant::now();
    bench.recorder.flush().await;
    assert_eq!(bench.counts(), (1, 1, 0));
    assert!(before.elapsed() < Duration::from_millis(500));
}

/// A database that hangs counts as down.
#[tokio::test(start_paused = true)]
async fn i12_a_view_that_its_page_reports_waits_a_bounded_time_until_it_is_admitted() {
    let bench = Bench::new();
    bench.signs_in("alice");
    bench.sees_at("alice", Some(Arc::new(STRICT)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.counts(), (1, 0, 0));
    bench.table.hangs.store(true, Ordering::Relaxed);
    bench.sees_at("bob", Some(Arc::new(STRICT)));
    sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.counts(), (1, 0, 0));
    assert_eq!(bench.metrics.dropped[Dropped::AccessUnavailable].get(), 1);
}

/// By the time that the database is asked again the app may have given the session another token.
#[tokio::test(start_paused = true)]
async fn i12_the_session_that_was_found_is_kept_where_admission_takes_too_long() {
    let bench = Bench::new();
    bench.signs_in("alice");
    let mut view = view("/about/");
    view.community = Some(CommunityRef::Id("42".into()));
    let accepted = AcceptedView {
        view,
        seen: Moment::now(),
        who: RequestVisitor::Token(SessionToken::new("alice"), EarlyLookup::default()),
        access_policy: None,
        from: None,
    };
    let access_policy: Arc<dyn AccessPolicy> = Arc::new(Endless);
    let before = tokio::time::Instant::now();
    let resolver = testing::resolver(bench.table.clone());
    let found = resolver.admit(&accepted, &access_policy).await;
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    let ResolvedView::NotYet(VisitorRef::Session { id, .. }) = found else {
        panic!("the session is forgotten");
    };
    assert_eq!(id, Some("1".into()));
}

#[tokio::test(start_paused = true)]
async fn p32_a_visitor_who_cannot_be_looked_up_is_touched_once_that_is_possible_and_while_it_counts() {
    for (window, present) in [(Duration::from_secs(300), 1), (Duration::ZERO, 0)] {
        let (bench, presence, _stop) = Bench::of_presence(window);
        bench.signs_in("alice");
        bench.table.away.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            bench.sees("alice");
            bench.sees("nobody");
        }
        let on_site = async || {
            sleep(Duration::from_secs(5)).await;
            bench.recorder.flush().await;
            presence.all_counts(&[Scope::Site]).await.unwrap().value[0].current
        };
        assert_eq!(on_site().await, 0);
        bench.table.away.store(false, Ordering::Relaxed);
        assert_eq!(on_site().await, present, "{window:?}");
    }
}

/// Views of made-up tokens take up bounded room.
#[tokio::test(start_paused = true)]
async fn i10_no_more_views_wait_for_rows_than_there_is_room_for() {
    let bench = Bench::new();
    for number in 0..5_000 {
        bench.sees(&format!("made up {number}"));
    }
    sleep(Duration::from_millis(500)).await;
    let (counted, nobodys, waiting) = bench.counts();
    assert_eq!((counted, nobodys, waiting), (0, 5_000 - 2_048, 2_048));
}
