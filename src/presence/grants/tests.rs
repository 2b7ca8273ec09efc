//! Tests of grants, with a store that two sidecars share and that may be away.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::presence::fake::Fake;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What a store must do, in memory.
#[derive(Default)]
struct Shared {
    noted: Mutex<HashMap<Key, (Verdict, Moment, Moment)>>,
    writes: AtomicUsize,
    is_away: AtomicBool,
}

impl Shared {
    fn is_there(&self) -> Result<(), PresenceError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(PresenceError::Unexpected("away".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Fake for Shared {
    fn shares_grants(&self) -> bool {
        true
    }

    async fn note_grants(
        &self,
        community: &CommunityId,
        _: Duration,
        grants: &[Grant],
    ) -> Result<(), PresenceError> {
        self.is_there()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut noted = self.noted.lock().unwrap();
        for grant in grants {
            let key = (community.clone(), grant.user.clone());
            let at = Moment::now().before(grant.age);
            let before = noted.get(&key).copied();
            match (grant.news, before) {
                (News::StillOpen, Some((Verdict::Shown, answered, _))) => {
                    noted.insert(key, (Verdict::Shown, answered, at + HOUR));
                }
                (News::Answer(verdict), _) if before.is_none_or(|(_, before, _)| before <= at) => {
                    noted.insert(key, (verdict, at, at + HOUR));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn grant(
        &self,
        community: &CommunityId,
        user: &UserId,
    ) -> Result<Option<NotedGrant>, PresenceError> {
        self.is_there()?;
        let noted = self.noted.lock().unwrap();
        let noted = noted.get(&(community.clone(), user.clone()));
        let noted = noted.map(|(verdict, at, until)| NotedGrant {
            verdict: *verdict,
            age: at.elapsed(),
            left: until.since(Moment::now()),
        });
        Ok(noted.filter(|noted| !noted.left.is_zero()))
    }
}

fn sidecar(store: &Arc<Shared>) -> Grants {
    let tasks = Tasks::on_current_runtime();
    Grants::start(
        HOUR,
        Duration::from_secs(1),
        store.clone(),
        Arc::default(),
        &tasks,
    )
}

impl Grants {
    fn shows(&self, verdict: Verdict, ago: Duration) {
        self.note(&"42".into(), &"7".into(), verdict, Moment::now().before(ago));
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.patience()
    }

    async fn lets_see(&self) -> bool {
        self.may_see(&"42".into(), &"7".into(), self.soon())
            .await
            .unwrap()
    }

    /// Whether nothing waits to be written.
    fn is_written(&self) -> bool {
        let known = self.0.known.get(&("42".into(), "7".into()));
        known.is_some_and(|known| matches!(known.recorded, Recorded::Until(_)))
    }

    async fn writes(&self) {
        while !self.is_written() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a7_whoever_was_shown_a_community_may_see_it_at_once_and_on_every_sidecar() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.shows(Verdict::Shown, Duration::ZERO);
    assert!(one.lets_see().await);
    assert!(other.lets_see().await, "it waits until the first has told");
    for (community, user) in [("43", "7"), ("42", "8")] {
        let sees = other.may_see(&community.into(), &user.into(), other.soon()).await;
        assert!(!sees.unwrap(), "{community} {user}");
    }
}

#[tokio::test(start_paused = true)]
async fn a7_a_grant_ends_after_its_time() {
    let one = sidecar(&Arc::default());
    one.shows(Verdict::Shown, HOUR);
    assert!(!one.lets_see().await);
    one.shows(Verdict::Shown, HOUR.checked_sub(Duration::from_secs(60)).unwrap());
    assert!(one.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a8_of_two_answers_the_later_one_counts_whoever_passed_it_on() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let ago = Duration::from_secs;
    one.shows(Verdict::Shown, ago(30));
    one.writes().await;
    other.shows(Verdict::Refused, ago(20));
    other.writes().await;
    assert!(!one.lets_see().await && !other.lets_see().await);
    // One that was on its way for long changes nothing.
    one.shows(Verdict::Shown, ago(25));
    one.writes().await;
    assert!(!one.lets_see().await && !other.lets_see().await);
    // The user was let in again.
    one.shows(Verdict::Shown, ago(10));
    assert!(one.lets_see().await, "at once");
    one.writes().await;
    assert!(other.lets_see().await);
}

/// The other sidecar refused meanwhile, and this one, which was not asked since, has shown the page again.
#[tokio::test(start_paused = true)]
async fn a8_what_was_shown_after_a_refusal_counts_also_where_it_was_not_written() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let ago = Duration::from_secs;
    one.shows(Verdict::Shown, ago(30));
    one.writes().await;
    other.shows(Verdict::Refused, ago(20));
    other.writes().await;
    one.shows(Verdict::Shown, ago(10));
    assert!(one.lets_see().await);
    one.writes().await;
    assert!(other.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a9_page_after_page_is_written_once_in_a_quarter_of_the_time() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    // From the oldest on, one a minute.
    for minute in (0..60).rev() {
        one.shows(Verdict::Shown, Duration::from_secs(60 * minute));
        one.writes().await;
    }
    assert_eq!(store.writes.load(Ordering::Relaxed), 4);
    assert!(one.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a9_while_the_store_is_away_memory_answers_and_what_it_lacks_is_not_known() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    store.is_away.store(true, Ordering::Relaxed);
    one.shows(Verdict::Shown, Duration::ZERO);
    assert!(one.lets_see().await);
    let unknown = other.may_see(&"42".into(), &"7".into(), other.soon()).await;
    assert!(unknown.is_err(), "the other sidecar cannot tell");
    store.is_away.store(false, Ordering::Relaxed);
    one.writes().await;
    assert!(other.lets_see().await);
    // Its answer is remembered there, too.
    store.is_away.store(true, Ordering::Relaxed);
    assert!(other.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a9_a_store_that_lost_everything_is_told_again() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.shows(Verdict::Shown, Duration::ZERO);
    one.writes().await;
    store.noted.lock().unwrap().clear();
    assert!(one.lets_see().await);
    one.writes().await;
    assert!(other.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a10_an_open_page_prolongs_a_grant_and_takes_no_refusal_back() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let nearly = HOUR.checked_sub(Duration::from_secs(60)).unwrap();
    let open = || one.still_open(&"42".into(), &"7".into());
    open();
    assert!(!one.lets_see().await, "it gives nothing");
    one.shows(Verdict::Shown, nearly);
    one.writes().await;
    open();
    one.writes().await;
    let noted = Fake::grant(&*store, &"42".into(), &"7".into())
        .await
        .unwrap()
        .unwrap();
    assert!(noted.left > nearly, "{noted:?}");
    // Refused elsewhere, which this sidecar has not heard.
    other.shows(Verdict::Refused, Duration::ZERO);
    other.writes().await;
    open();
    assert!(!one.lets_see().await && !other.lets_see().await);
}

/// A page that stays open asks nothing of the app.
#[tokio::test(start_paused = true)]
async fn a10_an_open_page_prolongs_a_grant_for_twelve_times_its_length() {
    let one = sidecar(&Arc::default());
    let key: Key = ("42".into(), "7".into());
    one.shows(Verdict::Shown, Duration::ZERO);
    let shown = one.0.known.get(&key).unwrap().at;
    let until = |halves: u32| {
        let at = shown + HOUR / 2 * halves;
        one.0.put(key.clone(), News::StillOpen, at);
        one.0.known.get(&key).unwrap().until
    };
    for halves in 1..=24 {
        assert_eq!(until(halves), shown + HOUR / 2 * halves + HOUR, "{halves}");
    }
    for halves in 25..50 {
        assert_eq!(until(halves), shown + HOUR * 13, "{halves}");
    }
    // The app answers again.
    one.0
        .put(key.clone(), News::Answer(Verdict::Shown), shown + HOUR * 25);
    assert_eq!(until(51), shown + HOUR / 2 * 53);
}

/// As from a member who asks for a hundred thousand communities that there are not.
#[tokio::test(start_paused = true)]
async fn a9_refusals_keep_no_grant_out() {
    let one = sidecar(&Arc::default());
    let user = UserId::from("8");
    for community in 0..CAPACITY + CAPACITY / 10 {
        let community = CommunityId::new(community.to_string());
        one.note(&community, &user, Verdict::Refused, Moment::now());
        // Asked again and again, so that they count as much used.
        one.0.known.get(&(community, user.clone()));
    }
    one.0.known.run_pending_tasks();
    one.shows(Verdict::Shown, Duration::ZERO);
    one.0.known.run_pending_tasks();
    let known = one.0.known.get(&("42".into(), "7".into()));
    assert_eq!(known.map(|known| known.verdict), Some(Verdict::Shown));
}

#[tokio::test(start_paused = true)]
async fn a9_while_the_store_is_away_a_refusal_is_told_like_what_is_not_known() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Refused, Duration::ZERO);
    one.writes().await;
    assert!(!one.lets_see().await);
    store.is_away.store(true, Ordering::Relaxed);
    one.note(&"44".into(), &"7".into(), Verdict::Refused, Moment::now());
    for community in ["42", "43", "44"] {
        let told = one.may_see(&community.into(), &"7".into(), one.soon()).await;
        assert!(told.is_err(), "{community}");
    }
}

#[tokio::test(start_paused = true)]
async fn a7_whoever_was_shown_nothing_waits_once_and_only_where_others_may_know() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    let began = Instant::now();
    assert!(!one.lets_see().await);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    let began = Instant::now();
    assert!(!one.lets_see().await);
    assert_eq!(began.elapsed(), Duration::ZERO, "a moment later");
}

#[tokio::test(start_paused = true)]
async fn a7_whoever_asks_about_many_communities_waits_once_for_all() {
    let one = sidecar(&Arc::default());
    let (began, until) = (Instant::now(), one.soon());
    for community in 0..100 {
        let community = CommunityId::new(community.to_string());
        assert!(!one.may_see(&community, &"7".into(), until).await.unwrap());
    }
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}
