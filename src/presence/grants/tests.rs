//! Tests of grants, with a store that two sidecars share, that may be away, and that may lose everything.

mod losses;

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::memory::Recorded;
use super::*;
use crate::ids::CommunityId;
use crate::presence::failure_domain::FailureDomains;
use crate::presence::fake::Fake;

const HOUR: Duration = Duration::from_secs(60 * 60);
const SHOWN: News = News::Answer(Verdict::Shown);

/// What a store has, in memory: verdict, when that was, and until when it counts.
#[derive(Default)]
struct Shared {
    noted: Mutex<HashMap<GrantKey, (Verdict, Moment, Moment)>>,
    writes: AtomicUsize,
    questions: AtomicUsize,
    is_away: AtomicBool,
}

/// The way of one sidecar to it.
struct Link {
    store: Arc<Shared>,
    is_away: AtomicBool,
    takes_nothing: AtomicBool,
    /// What happens while the next note is under way.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    domains: FailureDomains,
}

impl Link {
    fn is_there(&self) -> Result<(), PresenceError> {
        if self.is_away.load(Ordering::Relaxed) || self.store.is_away.load(Ordering::Relaxed) {
            return Err(PresenceError::Unexpected("away".into()));
        }
        Ok(())
    }
}

fn told(&(verdict, at, until): &(Verdict, Moment, Moment)) -> Option<NotedGrant> {
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
struct Sidecar {
    grants: Grants,
    link: Arc<Link>,
}

impl std::ops::Deref for Sidecar {
    type Target = Grants;

    fn deref(&self) -> &Grants {
        &self.grants
    }
}

fn sidecar(store: &Arc<Shared>) -> Sidecar {
    let link = Arc::new(Link {
        store: store.clone(),
        is_away: AtomicBool::default(),
        takes_nothing: AtomicBool::default(),
        meanwhile: Mutex::default(),
        domains: FailureDomains::new(NonZeroU16::MIN),
    });
    let tasks = Tasks::on_current_runtime();
    let patience = Duration::from_secs(1);
    Sidecar {
        grants: Grants::start(HOUR, patience, link.clone(), Arc::default(), &tasks),
        link,
    }
}

impl Grants {
    fn shows(&self, verdict: Verdict, ago: Duration) {
        let at = Moment::now().before(ago);
        self.note(&"42".into(), &"7".into(), News::Answer(verdict), at);
    }

    fn still_shows(&self) {
        self.note(&"42".into(), &"7".into(), News::StillShown, Moment::now());
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.patience()
    }

    async fn lets_see(&self) -> bool {
        self.may_see(&"42".into(), &"7".into(), self.soon())
            .await
            .unwrap()
    }

    fn known(&self) -> Option<Known> {
        self.0.memory.get(&("42".into(), "7".into()))
    }

    /// Until nothing waits to be written.
    async fn writes(&self) {
        while !self
            .known()
            .is_some_and(|known| matches!(known.recorded, Recorded::There { .. }))
        {
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
async fn a9_page_after_page_is_written_once_in_some_seconds_and_an_open_one_in_a_quarter_of_the_time() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    // From the oldest on, two a second.
    for half in (0..60).rev() {
        one.shows(Verdict::Shown, Duration::from_millis(500 * half));
        one.writes().await;
    }
    assert_eq!(store.writes.swap(0, Ordering::Relaxed), 6);
    let shown = one.known().unwrap().at;
    for minute in 1..=60 {
        let at = shown + Duration::from_secs(60 * minute);
        one.note(&"42".into(), &"7".into(), News::StillShown, at);
        one.writes().await;
    }
    assert_eq!(store.writes.load(Ordering::Relaxed), 4);
    assert!(one.lets_see().await);
}

/// Each has told the other once, and hears nothing of the other's answer since.
#[tokio::test(start_paused = true)]
async fn a8_an_answer_like_the_one_before_is_told_to_whom_another_was_given() {
    for (verdict, between) in [
        (Verdict::Shown, Verdict::Refused),
        (Verdict::Refused, Verdict::Shown),
    ] {
        let store = Arc::<Shared>::default();
        let (one, other) = (sidecar(&store), sidecar(&store));
        let ago = Duration::from_secs;
        one.shows(verdict, ago(30));
        one.writes().await;
        other.shows(between, ago(20));
        other.writes().await;
        one.shows(verdict, ago(10));
        one.writes().await;
        assert_eq!(other.lets_see().await, verdict == Verdict::Shown, "{verdict:?}");
    }
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
    // Nobody has noticed; it is this call that does.
    assert!(one.may_see(&"42".into(), &"7".into(), one.soon()).await.is_err());
    one.writes().await;
    assert!(one.lets_see().await && other.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a10_an_open_page_prolongs_a_grant_and_takes_no_refusal_back() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let nearly = HOUR.checked_sub(Duration::from_secs(60)).unwrap();
    let open = || one.still_shows();
    open();
    assert!(!one.lets_see().await, "it gives nothing");
    one.shows(Verdict::Shown, nearly);
    one.writes().await;
    open();
    one.writes().await;
    let noted = store.noted.lock().unwrap()[&("42".into(), "7".into())];
    assert!(told(&noted).unwrap().left > nearly, "{noted:?}");
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
    let key: GrantKey = ("42".into(), "7".into());
    one.shows(Verdict::Shown, Duration::ZERO);
    let shown = one.known().unwrap().at;
    let until = |halves: u32| {
        let at = shown + HOUR / 2 * halves;
        one.0.memory.put(key.clone(), News::StillShown, at);
        one.known().unwrap().until
    };
    for halves in 1..=24 {
        assert_eq!(until(halves), shown + HOUR / 2 * halves + HOUR, "{halves}");
    }
    for halves in 25..50 {
        assert_eq!(until(halves), shown + HOUR * 13, "{halves}");
    }
    // The app answers again.
    one.0.memory.put(key.clone(), SHOWN, shown + HOUR * 25);
    assert_eq!(until(51), shown + HOUR / 2 * 53);
}

/// As from a member who asks for a hundred thousand communities that there are not.
#[tokio::test(start_paused = true)]
async fn a9_refusals_keep_no_grant_out() {
    let one = sidecar(&Arc::default());
    let user = UserId::from("8");
    for community in 0..CAPACITY + CAPACITY / 10 {
        let community = Scope::from(CommunityId::new(community.to_string()));
        one.note(&community, &user, News::Answer(Verdict::Refused), Moment::now());
        // Asked again and again, so that they count as much used.
        one.0.memory.get(&(community, user.clone()));
    }
    one.0.memory.settle();
    one.shows(Verdict::Shown, Duration::ZERO);
    one.0.memory.settle();
    assert_eq!(one.known().map(|known| known.verdict), Some(Verdict::Shown));
}

#[tokio::test(start_paused = true)]
async fn a9_while_the_store_is_away_a_refusal_is_told_like_what_is_not_known() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Refused, Duration::ZERO);
    one.writes().await;
    assert!(!one.lets_see().await);
    store.is_away.store(true, Ordering::Relaxed);
    one.note(
        &"44".into(),
        &"7".into(),
        News::Answer(Verdict::Refused),
        Moment::now(),
    );
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
        let community = Scope::from(CommunityId::new(community.to_string()));
        assert!(!one.may_see(&community, &"7".into(), until).await.unwrap());
    }
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

/// A client that asks about a hundred communities at a time, each in a request of its own.
#[tokio::test(start_paused = true)]
async fn a19_one_user_who_waits_often_keeps_no_other_from_waiting() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let asks = |community: u32| {
        let (grants, until) = (one.grants.clone(), one.soon());
        async move {
            let community = Scope::from(CommunityId::new(community.to_string()));
            grants.may_see(&community, &"8".into(), until).await.unwrap()
        }
    };
    let crowd: Vec<_> = (100..200)
        .map(|community| tokio::spawn(asks(community)))
        .collect();
    // All of them are at it.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (grants, until) = (one.grants.clone(), one.soon());
    let waits = tokio::spawn(async move { grants.may_see(&"42".into(), &"7".into(), until).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    other.shows(Verdict::Shown, Duration::ZERO);
    assert!(waits.await.unwrap().unwrap(), "it waits until the other has told");
    for asked in crowd {
        assert!(!asked.await.unwrap());
    }
}

/// The browser has the page, the app compares times before it looks at who asks: whoever it once refused is not let in.
#[tokio::test(start_paused = true)]
async fn a20_what_is_still_shown_prolongs_a_grant_and_gives_none() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.still_shows();
    assert!(!one.lets_see().await, "nothing was shown");
    one.shows(Verdict::Shown, Duration::from_secs(3_000));
    one.still_shows();
    let left = one.known().unwrap().until.since(Moment::now());
    assert!(left > Duration::from_secs(3_500), "{left:?}");
    one.writes().await;
    // Refused elsewhere, which this sidecar has not heard.
    other.shows(Verdict::Refused, Duration::from_secs(20));
    other.writes().await;
    one.still_shows();
    assert!(!one.lets_see().await && !other.lets_see().await);
    one.still_shows();
    assert!(!one.lets_see().await, "now it has");
}

#[tokio::test(start_paused = true)]
async fn a26_a_grant_of_something_in_a_community_is_one_of_its_own_and_written_with_the_others() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    let post = |key: &str| Scope::Finer("42".into(), Finer::new("post", key).unwrap());
    let user = "7".into();
    one.link.is_away.store(true, Ordering::Relaxed);
    one.shows(Verdict::Shown, Duration::ZERO);
    for (key, verdict) in [("7", Verdict::Shown), ("8", Verdict::Refused)] {
        one.note(&post(key), &user, News::Answer(verdict), Moment::now());
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    one.link.is_away.store(false, Ordering::Relaxed);
    one.writes().await;
    assert_eq!(store.writes.load(Ordering::Relaxed), 1, "in one call");
    for sidecar in [&one, &other] {
        let sees = async |scope: &Scope| sidecar.may_see(scope, &user, sidecar.soon()).await.unwrap();
        assert!(sees(&"42".into()).await && sees(&post("7")).await);
        assert!(!sees(&post("8")).await && !sees(&post("9")).await);
    }
    // A post is gone; its community is not.
    other.note(&post("7"), &user, News::Answer(Verdict::Refused), Moment::now());
    while store.writes.load(Ordering::Relaxed) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!one.may_see(&post("7"), &user, one.soon()).await.unwrap());
    assert!(one.lets_see().await);
}
