//! The memory in front of a store that is away, hangs, forgets and comes back when a test says so. Its clock
//! stands still, in 2001.

use std::num::NonZeroU16;
use std::sync::Mutex;

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;

use super::*;
use crate::ids::UserId;
use crate::presence::CountChange;
use crate::presence::changes::Event;

const WINDOW: Duration = Duration::from_secs(300);
/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Fine,
    Away,
    Hung,
    Broken,
}

struct Store {
    mood: Mutex<Mood>,
    memory: Mutex<Arc<InMemory>>,
    /// Touches in this community wait.
    held: watch::Sender<Option<CommunityId>>,
    /// A failure domain that is away, while the others are as the mood is.
    away: Mutex<Option<u16>>,
    domains: FailureDomains,
    /// What each sidecar knows of them.
    known: Mutex<Vec<FailureDomains>>,
    number: NonZeroU16,
}

fn in_2001() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_000_000_000_000).unwrap()
}

fn empty() -> Arc<InMemory> {
    Arc::new(InMemory::new(WINDOW, SteadyClock::steady(Arc::new(in_2001))))
}

impl Store {
    fn new() -> Arc<Self> {
        Self::of_domains(1)
    }

    fn of_domains(number: u16) -> Arc<Self> {
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

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// It can be reached, as from a new connection.
    fn connects(&self) {
        for known in &*self.known.lock().unwrap() {
            known.all().for_each(|domain| domain.note_loss());
        }
        self.is(Mood::Fine);
    }

    /// As a sidecar knows it, which is connected to it if it can be reached.
    fn known_to_a_sidecar(&self) -> FailureDomains {
        let known = FailureDomains::new(self.number);
        if *self.mood.lock().unwrap() == Mood::Fine {
            known.all().for_each(|domain| domain.note_loss());
        }
        self.known.lock().unwrap().push(known.clone());
        known
    }

    fn forgets(&self) {
        *self.memory.lock().unwrap() = empty();
    }

    fn is_away(&self, community: &CommunityId) -> bool {
        let away = *self.away.lock().unwrap();
        away.is_some_and(|away| Arc::ptr_eq(self.domains.of(community), self.domains.of_partition(away)))
    }

    /// A community that a failure domain keeps.
    fn community_of(&self, domain: u16, but: &[&String]) -> String {
        let mut ids = (0..)
            .map(|id: u32| id.to_string())
            .filter(|id| !but.contains(&id));
        let domain = self.domains.of_partition(domain);
        ids.find(|id| Arc::ptr_eq(self.domains.of(&id.as_str().into()), domain))
            .unwrap()
    }

    async fn reached_for(&self, community: &CommunityId) -> Result<Arc<InMemory>, PresenceError> {
        if self.is_away(community) {
            return Err(unavailable("its server is away"));
        }
        let memory = self.reached().await?;
        for known in &*self.known.lock().unwrap() {
            let clock = &known.of(community).clock;
            let now = Moment::now();
            clock.note_answer(in_2001().timestamp_millis(), now, now, Duration::MAX);
        }
        Ok(memory)
    }

    async fn reached(&self) -> Result<Arc<InMemory>, PresenceError> {
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
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        let memory = self.reached_for(community).await?;
        let mut held = self.held.subscribe();
        let _ = held.wait_for(|held| held.as_ref() != Some(community)).await;
        memory.touch(community, touches).await
    }

    fn counts(&self, communities: Vec<CommunityId>) -> Counts<'_> {
        let answers = stream::iter(communities).then(move |community| async move {
            let reached = self.reached_for(&community).await;
            let answer = reached.map(|memory| Answer::current(memory.count(&community)));
            (community, answer)
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
            .retain(|community| self.domains.index_of(community) == domain);
        Ok(all)
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let memory = self.reached_for(community).await?;
        memory.list(community, after, limit).await
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
struct Sidecar {
    presence: Mirrored,
    metrics: Arc<Metrics>,
}

impl Sidecar {
    fn of(store: &Arc<Store>) -> Self {
        Self::with(store, WINDOW, PATIENCE)
    }

    fn with(store: &Arc<Store>, window: Duration, patience: Duration) -> Self {
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

    async fn touch(&self, community: &str, user: &str) -> Result<Count, PresenceError> {
        self.presence.touch(&community.into(), &[Touch::now(user)]).await
    }

    async fn saw(&self, community: &str, user: &str, ago: Duration) -> Result<Count, PresenceError> {
        let user = UserId::from(user);
        let touch = Touch { user, age: ago };
        self.presence.touch(&community.into(), &[touch]).await
    }

    /// The count, and whether it is stale.
    async fn count(&self, community: &str) -> (u64, bool) {
        let answer = self.presence.all_counts(&[community.into()]).await.unwrap();
        (answer.value[0].current, answer.stale)
    }

    /// Where somebody is, sorted, and whether that is stale.
    async fn communities(&self) -> (Vec<String>, bool) {
        let answer = self.presence.communities(100).await.unwrap();
        let mut communities: Vec<_> = answer.value.iter().map(ToString::to_string).collect();
        communities.sort();
        (communities, answer.stale)
    }

    /// Who is there, and whether that is stale.
    async fn users(&self, community: &str) -> (Vec<String>, bool) {
        let page = self.presence.list(&community.into(), None, 100).await.unwrap();
        let users = page.value.iter().map(|seen| seen.user.to_string());
        (users.collect(), page.stale)
    }
}

/// Waits until it is so.
async fn until(is_so: impl AsyncFn() -> bool) {
    let tries = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(Duration::from_secs(60), tries).await;
    waited.expect("in time");
}

#[tokio::test]
async fn the_store_answers_while_it_can() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    let touched = one.touch("42", "a").await.unwrap();
    other.touch("42", "b").await.unwrap();
    until(async || one.count("42").await == (2, false)).await;
    assert_eq!(one.users("42").await, (vec!["b".into(), "a".into()], false));
    let count = one.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    assert!(count.seq >= touched.seq && touched.seq > 0);
    one.presence.ping().await.unwrap();
}

#[tokio::test]
async fn p14_while_the_store_is_away_a_sidecar_tells_whom_it_saw_itself() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    one.touch("42", "a").await.unwrap();
    other.touch("42", "b").await.unwrap();
    store.is(Mood::Away);
    assert!(one.touch("42", "c").await.is_err(), "the store did not take it");
    assert_eq!(one.count("42").await, (2, true));
    assert_eq!(one.users("42").await, (vec!["c".into(), "a".into()], true));
    assert_eq!(other.count("42").await, (1, true));
    assert_eq!(one.count("43").await, (0, true));
    assert_eq!(one.metrics.stale_answers.get(), 3);
    let count = one.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    assert_eq!(count.seq, 0, "it has no place in the community's history");
}

#[tokio::test]
async fn p14_while_the_store_is_away_a_sidecar_tells_the_communities_that_it_knows_itself() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    one.touch("42", "a").await.unwrap();
    other.touch("43", "b").await.unwrap();
    until(async || one.communities().await == (vec!["42".into(), "43".into()], false)).await;
    store.is(Mood::Away);
    assert_eq!(one.communities().await, (vec!["42".into()], true));
}

#[tokio::test]
async fn p14_while_a_part_is_away_the_communities_of_the_others_are_the_stores() {
    let store = Store::of_domains(4);
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    let (here, mine) = (store.community_of(0, &[]), store.community_of(3, &[]));
    let others = store.community_of(3, &[&mine]);
    one.touch(&mine, "a").await.unwrap();
    other.touch(&here, "b").await.unwrap();
    other.touch(&others, "b").await.unwrap();
    // Until each has what was touched before it was known.
    let all = async || matches!(one.presence.communities(100).await, Ok(answer) if answer.value.len() == 3);
    until(all).await;
    *store.away.lock().unwrap() = Some(3);
    let mut expected = vec![here, mine];
    expected.sort();
    assert_eq!(one.communities().await, (expected, true));
}

#[tokio::test]
async fn communities_of_a_part_that_never_answered_are_not_left_out() {
    let store = Store::of_domains(4);
    store.is(Mood::Fine);
    let sidecar = Sidecar::of(&store);
    let here = store.community_of(0, &[]);
    sidecar.touch(&here, "a").await.unwrap();
    // Until the store lacks nothing.
    until(async || matches!(sidecar.presence.communities(100).await, Ok(answer) if !answer.stale)).await;
    *store.away.lock().unwrap() = Some(3);
    let communities = sidecar.presence.communities(100).await;
    assert!(
        matches!(communities, Err(PresenceError::Unavailable(_))),
        "memory does not have them either: {communities:?}"
    );
    *store.away.lock().unwrap() = None;
    store.is(Mood::Broken);
    let communities = sidecar.presence.communities(100).await;
    assert!(
        matches!(communities, Err(PresenceError::Unexpected(_))),
        "not away: {communities:?}"
    );
}

#[tokio::test]
async fn communities_of_a_store_that_lacks_touches_are_told_without_waiting_for_it() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "a").await.unwrap();
    until(async || sidecar.communities().await == (vec!["42".into()], false)).await;
    store.connects();
    store.is(Mood::Hung);
    // A store that is waited for makes the test wait for an hour.
    assert_eq!(sidecar.communities().await, (vec!["42".into()], true));
}

/// One answer for each, whatever the store answers later, twice, or not at all.
#[tokio::test(start_paused = true)]
async fn each_community_has_one_count() {
    let community = |id: usize| CommunityId::from(id.to_string().as_str());
    let answered_after = |seconds: &[u64]| {
        let answers: Vec<_> = seconds.iter().copied().enumerate().collect();
        let answers = stream::iter(answers).then(move |(id, seconds)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let count = empty().count(&community(id));
            (community(id), Ok(Answer::current(count)))
        });
        answers.boxed()
    };
    let counted = async |answers: Counts<'static>| {
        let asked: BTreeSet<_> = (0..3).map(community).collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut answers = in_time(answers, asked, deadline);
        let mut counted = Vec::new();
        while let Some((community, answer)) = answers.next().await {
            counted.push((community.to_string(), answer.is_ok()));
            // Whoever asks takes long, too.
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        counted
    };
    let told = |answers: [bool; 3]| (0..3).map(|id| id.to_string()).zip(answers).collect::<Vec<_>>();
    let late = counted(answered_after(&[0, 15, 0])).await;
    assert_eq!(late, told([true, false, true]));
    assert_eq!(counted(answered_after(&[0])).await, told([true, false, false]));
}

#[tokio::test]
async fn p3_stale_answers_go_by_the_stores_time() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "a").await.unwrap();
    store.is(Mood::Away);
    let count = sidecar.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    let seen = sidecar.presence.list(&"42".into(), None, 1).await.unwrap().value[0].clone();
    for time in [count.as_of, seen.last_seen] {
        assert!((time - in_2001()).num_hours() == 0, "{time}");
    }
}

#[tokio::test]
async fn a_page_goes_on_in_memory_where_the_store_left_off() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    for seconds in 0..6 {
        let user = format!("u{seconds}");
        sidecar
            .saw("42", &user, Duration::from_secs(10 * seconds))
            .await
            .unwrap();
    }
    until(async || !sidecar.users("42").await.1).await;
    let community = CommunityId::from("42");
    let first = sidecar.presence.list(&community, None, 3).await.unwrap();
    store.is(Mood::Away);
    let second = sidecar
        .presence
        .list(&community, first.value.last(), 4)
        .await
        .unwrap();
    assert_eq!((first.stale, second.stale), (false, true));
    let users = |page: &Answer<Vec<Seen>>| {
        page.value
            .iter()
            .map(|seen| seen.user.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(users(&first), ["u0", "u1", "u2"]);
    assert!(
        users(&second).ends_with(&["u3", "u4", "u5"].map(String::from)),
        "{second:?}"
    );

    for last_seen in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let made_up = Seen {
            user: "u9".into(),
            last_seen,
        };
        sidecar
            .presence
            .list(&community, Some(&made_up), 3)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_memory_cannot_tell_is_not_told() {
    let store = Store::new();
    let sidecar = Sidecar::of(&store);
    assert!(sidecar.touch("42", "a").await.is_err());
    let count = sidecar.presence.all_counts(&["42".into()]).await;
    assert!(
        matches!(count, Err(PresenceError::Unavailable(_))),
        "never connected: {count:?}"
    );
    let list = sidecar.presence.list(&"42".into(), None, 1).await;
    assert!(
        matches!(list, Err(PresenceError::Unavailable(_))),
        "never connected: {list:?}"
    );
    assert_eq!(sidecar.metrics.stale_answers.get(), 0);

    let of_a_window = Sidecar::with(&store, Duration::from_millis(1), PATIENCE);
    until(async || of_a_window.presence.all_counts(&["42".into()]).await.is_ok()).await;
    assert_eq!(
        of_a_window.count("42").await,
        (0, true),
        "a window has passed since it started"
    );

    store.connects();
    // There it is, but it has not answered yet.
    until(async || sidecar.presence.all_counts(&["42".into()]).await.is_ok()).await;
    assert_eq!(sidecar.count("42").await, (1, false));
    store.is(Mood::Broken);
    let count = sidecar.presence.all_counts(&["42".into()]).await;
    assert!(
        matches!(count, Err(PresenceError::Unexpected(_))),
        "not away: {count:?}"
    );
}

#[tokio::test]
async fn a_read_waits_for_a_store_that_hangs_no_longer_than_it_may() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::with(&store, WINDOW, Duration::from_millis(10));
    sidecar.touch("42", "a").await.unwrap();
    until(async || sidecar.count("42").await == (1, false)).await;
    store.is(Mood::Hung);
    assert_eq!(sidecar.count("42").await, (1, true));
    assert_eq!(sidecar.users("42").await, (vec!["a".into()], true));
    assert_eq!(sidecar.communities().await, (vec!["42".into()], true));
}

#[tokio::test]
async fn p14_what_the_store_lost_is_touched_again_by_itself_and_with_its_age() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    let touch = |user, age| Touch {
        age: Duration::from_secs(age),
        ..Touch::now(user)
    };
    let touches = [
        touch("a", 0),
        touch("b", 100),
        touch("c", 299),
        touch("left", 300),
    ];
    sidecar.presence.touch(&"42".into(), &touches).await.unwrap();
    sidecar.touch("43", "a").await.unwrap();
    until(async || sidecar.count("42").await == (3, false)).await;

    let before = sidecar.metrics.retouches.get();
    store.forgets();
    store.connects();
    until(async || sidecar.count("42").await == (3, false) && sidecar.count("43").await == (1, false)).await;
    let page = sidecar.presence.list(&"42".into(), None, 10).await.unwrap().value;
    let users: Vec<_> = page.iter().map(|seen| seen.user.as_str()).collect();
    assert_eq!(users, ["a", "b", "c"]);
    assert!(page[0].last_seen <= in_2001(), "not fresher than it was");
    assert_eq!(
        (page[0].last_seen - page[1].last_seen).num_milliseconds(),
        100_000
    );
    assert_eq!(
        (page[1].last_seen - page[2].last_seen).num_milliseconds(),
        199_000
    );
    assert_eq!(sidecar.metrics.retouches.get() - before, 4);
}

#[tokio::test]
async fn p14_nobody_who_left_meanwhile_comes_back() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "stays").await.unwrap();
    let nearly = WINDOW.checked_sub(Duration::from_millis(100)).unwrap();
    sidecar.saw("42", "leaves", nearly).await.unwrap();
    store.is(Mood::Away);
    until(async || sidecar.count("42").await == (1, true)).await;
    store.forgets();
    store.connects();
    until(async || sidecar.count("42").await == (1, false)).await;
    assert_eq!(sidecar.users("42").await, (vec!["stays".into()], false));
}

#[tokio::test]
async fn p14_until_all_are_touched_again_answers_are_from_memory() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    for community in ["1", "2", "3"] {
        sidecar.touch(community, "a").await.unwrap();
    }
    until(async || sidecar.count("1").await == (1, false)).await;
    store.held.send_replace(Some("1".into()));
    store.forgets();
    store.connects();
    assert_eq!(
        sidecar.count("1").await,
        (1, true),
        "at once: the store would say 0"
    );
    assert_eq!(sidecar.users("1").await, (vec!["a".into()], true));
    // Fresh touches do not stand behind the others.
    sidecar.touch("2", "b").await.unwrap();
    assert_eq!(sidecar.count("2").await, (2, true));
    store.held.send_replace(None);
    until(async || sidecar.count("1").await == (1, false)).await;
    assert_eq!(sidecar.count("2").await, (2, false));
    assert_eq!(sidecar.count("3").await, (1, false));
}

/// Or listeners would be told of the first few to be touched again, and then of all.
#[tokio::test]
async fn p14_changes_of_a_store_that_lacks_somebody_are_held_back_until_it_does_not() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("1", "a").await.unwrap();
    until(async || sidecar.count("1").await == (1, false)).await;
    let mut changes = sidecar.presence.subscribe();

    store.held.send_replace(Some("1".into()));
    store.connects();
    // Another sidecar was faster.
    let other = Arc::clone(&store.memory.lock().unwrap());
    other.touch(&"1".into(), &[Touch::now("b")]).await.unwrap();
    let domain = sidecar.presence.mirror.domains.of_partition(0);
    until(async || domain.holds_back()).await;
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
    store.held.send_replace(None);
    assert_eq!(changes.recv().await, Ok(Event::Listening));
    assert_eq!(sidecar.count("1").await, (2, false));

    let count = other.touch(&"1".into(), &[Touch::now("c")]).await.unwrap();
    let community = "1".into();
    assert_eq!(
        changes.recv().await,
        Ok(Event::Change(CountChange { community, count }))
    );
}

#[tokio::test]
async fn p14_a_touch_that_was_not_taken_is_made_again_without_a_new_connection() {
    for mood in [Mood::Away, Mood::Broken] {
        let store = Store::new();
        store.connects();
        let sidecar = Sidecar::of(&store);
        sidecar.touch("42", "a").await.unwrap();
        store.is(mood);
        assert!(sidecar.touch("42", "b").await.is_err());
        store.is(Mood::Fine);
        assert_eq!(sidecar.count("42").await, (2, true), "the store lacks b");
        until(async || sidecar.count("42").await == (2, false)).await;
    }
}

#[tokio::test]
async fn p12_p14_a_user_whom_two_sidecars_touch_again_is_one_visitor() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    for sidecar in [&one, &other] {
        sidecar.touch("42", "both").await.unwrap();
    }
    one.touch("42", "one").await.unwrap();
    other.touch("42", "other").await.unwrap();
    store.forgets();
    store.connects();
    for sidecar in [&one, &other] {
        until(async || sidecar.count("42").await == (3, false)).await;
    }
    assert_eq!(one.users("42").await.0.len(), 3);
}

#[tokio::test]
async fn p14_what_one_part_lacks_makes_no_others_answers_stale() {
    let store = Store::of_domains(4);
    let sidecar = Sidecar::of(&store);
    store.connects();
    let (here, there) = (store.community_of(0, &[]), store.community_of(3, &[]));
    for community in [&here, &there] {
        sidecar.touch(community, "a").await.unwrap();
        until(async || !sidecar.count(community).await.1).await;
    }
    *store.away.lock().unwrap() = Some(3);
    assert!(sidecar.touch(&there, "b").await.is_err());
    sidecar.touch(&here, "b").await.unwrap();
    assert_eq!(sidecar.count(&there).await, (2, true));
    assert_eq!(sidecar.count(&here).await, (2, false));
    assert!(!sidecar.users(&here).await.1);
    let asked = [here.as_str().into(), there.as_str().into(), here.as_str().into()];
    let together = sidecar.presence.all_counts(&asked).await.unwrap();
    let numbered: Vec<_> = together
        .value
        .iter()
        .map(|count| (count.current, count.seq > 0))
        .collect();
    assert_eq!(numbered, [(2, true), (2, false), (2, true)]);
    assert!(together.stale, "one of them is");
    let before = sidecar.metrics.retouches.get();
    *store.away.lock().unwrap() = None;
    until(async || sidecar.count(&there).await == (2, false)).await;
    let retouched = sidecar.metrics.retouches.get() - before;
    assert_eq!(retouched, 2, "of the part that was away");
}

#[tokio::test]
async fn who_was_touched_in_no_community_is_not_remembered() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    let refused = sidecar.touch("", "a").await;
    assert!(matches!(refused, Err(PresenceError::Community)), "{refused:?}");
    assert_eq!(sidecar.presence.mirror.memory.members(), 0);
}

#[tokio::test]
async fn sweeps_forget_in_memory_too() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "stays").await.unwrap();
    let nearly = WINDOW.checked_sub(Duration::from_millis(1)).unwrap();
    sidecar.saw("42", "leaves", nearly).await.unwrap();
    until(async || {
        sidecar.presence.sweep().await.unwrap();
        sidecar.presence.mirror.memory.members() == 1
    })
    .await;
    let remembered = sidecar.metrics.remembered.get();
    assert!((remembered - 1.0).abs() < f64::EPSILON, "{remembered}");
}

#[tokio::test]
async fn dropping_it_ends_its_task() {
    let store = Store::new();
    let sidecar = Sidecar::of(&store);
    assert_eq!(Arc::strong_count(&store), 2);
    drop(sidecar);
    until(async || Arc::strong_count(&store) == 1).await;
}
