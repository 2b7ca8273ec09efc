//! Tests of grants that the store loses or cannot be told: the later of two answers counts, as far as any sidecar knows it.

use std::num::NonZeroU16;

use super::shared_store::{Sidecar, shown_by_one_and_refused_by_the_other, sidecar_with};
use super::*;
use crate::presence::grants::known::Recorded;

const AGO: fn(u64) -> Duration = Duration::from_secs;
/// As late as another sidecar may notice: a moment is left in which it writes.
const LATE: Duration = GRANTS_AFTER.checked_sub(Duration::from_millis(200)).unwrap();
const _: () = assert!(LATE.as_millis() > LONGEST_LOOK.as_millis());

impl Shared {
    fn loses_everything(&self) {
        self.noted.lock().unwrap().clear();
    }

    fn has_an_older_refusal_again(&self) {
        let before = (
            Verdict::Refused,
            Moment::now().before(AGO(40)),
            Moment::now() + HOUR,
        );
        self.noted
            .lock()
            .unwrap()
            .insert(("42".into(), "7".into()), before);
    }

    fn verdict(&self) -> Option<Verdict> {
        let noted = self.noted.lock().unwrap();
        noted
            .get(&("42".into(), "7".into()))
            .map(|(verdict, ..)| *verdict)
    }
}

impl Sidecar {
    /// Its connection was made anew, or its mark is gone.
    fn notices(&self) {
        self.link.domains.all().for_each(|domain| domain.note_loss());
    }
}

/// Whichever of them notices first.
#[tokio::test(start_paused = true)]
async fn a18_a_refusal_that_the_store_has_lost_is_written_again_before_any_grant() {
    for is_first in [true, false] {
        let store = Arc::<Shared>::default();
        let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
        store.loses_everything();
        // Somebody asks meanwhile, where the grant is.
        let (grants, until) = (one.grants.clone(), one.soon());
        let asked = tokio::spawn(async move { grants.may_see(&"42".into(), &"7".into(), until).await });
        let (early, late) = if is_first { (&one, &other) } else { (&other, &one) };
        early.notices();
        tokio::time::sleep(Duration::from_millis(500)).await;
        late.notices();
        assert!(!asked.await.unwrap().unwrap(), "{is_first}");
        tokio::time::sleep(AGO(10)).await;
        assert_eq!(store.verdict(), Some(Verdict::Refused), "{is_first}");
        assert!(!one.lets_see().await && !other.lets_see().await, "{is_first}");
    }
}

/// Those who wait in vain, and those who get no place or have waited before, are told that nothing is known; by the time the
/// grant counts again, the refusal is there.
#[tokio::test(start_paused = true)]
async fn a18_no_caller_is_told_of_a_lost_grant_before_others_have_told_of_refusals() {
    for is_noticed in [true, false] {
        let store = Arc::<Shared>::default();
        let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
        let (began, mut refused) = (Instant::now(), 0);
        store.loses_everything();
        if is_noticed {
            one.notices();
        }
        let crowd: Vec<_> = (0..20)
            .map(|_| {
                let (grants, until) = (one.grants.clone(), one.soon());
                tokio::spawn(async move { grants.may_see(&"42".into(), &"7".into(), until).await })
            })
            .collect();
        for asked in crowd {
            let told = asked.await.unwrap();
            assert!(
                matches!(told, Err(PresenceError::GrantLost)),
                "{is_noticed} {told:?}"
            );
        }
        // The other one is late.
        while began.elapsed() < LATE {
            let told = one.may_see(&"42".into(), &"7".into(), Instant::now()).await;
            assert!(told.is_err(), "{is_noticed} {:?} {told:?}", began.elapsed());
            assert_eq!(store.verdict(), None, "{is_noticed} {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        other.notices();
        while began.elapsed() < AGO(10) {
            let told = one.may_see(&"42".into(), &"7".into(), Instant::now()).await;
            refused += usize::from(matches!(told, Ok(false)));
            assert!(!matches!(told, Ok(true)), "{is_noticed} {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(refused > 100, "{is_noticed} {refused}");
    }
}

/// For ten seconds, in which the second sidecar, which refused, is late to notice the loss. `holds` is called each time with
/// the time since the loss.
async fn nobody_sees_it(one: &Sidecar, other: &Sidecar, holds: impl Fn(Duration)) {
    let (began, mut has_noticed) = (Instant::now(), false);
    while began.elapsed() < AGO(10) {
        let told = one.may_see(&"42".into(), &"7".into(), Instant::now()).await;
        assert!(!matches!(told, Ok(true)), "{:?}", began.elapsed());
        holds(began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
        if !has_noticed && began.elapsed() >= LATE {
            other.notices();
            has_noticed = true;
        }
    }
}

/// Redis comes back with what it had before: an older refusal is in the place of the grant and of the later refusal.
#[tokio::test(start_paused = true)]
async fn a18_a_grant_later_than_an_older_refusal_that_came_back_waits_for_the_refusals_of_others() {
    let store = Arc::<Shared>::default();
    let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
    store.has_an_older_refusal_again();
    nobody_sees_it(&one, &other, |_| {}).await;
    assert!(!one.lets_see().await && !other.lets_see().await);
}

/// The same where nobody has refused since: it counts, and is there again.
#[tokio::test(start_paused = true)]
async fn a18_a_grant_later_than_an_older_refusal_that_came_back_counts_again() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Shown, AGO(30));
    one.writes().await;
    store.has_an_older_refusal_again();
    let told = one.may_see(&"42".into(), &"7".into(), Instant::now()).await;
    assert!(told.is_err(), "{told:?}");
    while store.verdict() != Some(Verdict::Shown) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(one.lets_see().await);
}

/// A page that is open prolongs a grant at the moment of the loss.
#[tokio::test(start_paused = true)]
async fn a18_an_open_page_brings_no_grant_back_that_the_store_has_lost() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.shows(Verdict::Shown, AGO(50 * 60));
    one.writes().await;
    other.shows(Verdict::Refused, AGO(20));
    other.writes().await;
    store.loses_everything();
    one.still_shows();
    let brings_nothing = |at: Duration| assert_ne!(store.verdict(), Some(Verdict::Shown), "{at:?}");
    nobody_sees_it(&one, &other, brings_nothing).await;
    assert_eq!(store.verdict(), Some(Verdict::Refused));
}

/// The store was away for long: the refusals of the moment do not wait behind a question for each open page.
#[tokio::test(start_paused = true)]
async fn a18_open_pages_of_a_community_are_prolonged_by_one_call() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    let user = |number: u32| UserId::new(number.to_string());
    let all_send = |news: News, at: Moment| {
        (0..1_000).for_each(|number| one.note(&"42".into(), &user(number), news, at));
    };
    all_send(SHOWN, Moment::now().before(AGO(50 * 60)));
    one.writes().await;
    one.link.is_away.store(true, Ordering::Relaxed);
    all_send(News::StillShown, Moment::now());
    tokio::time::sleep(AGO(10)).await;
    let is_prolonged = || matches!(one.known().unwrap().recorded, Recorded::Prolonged { .. });
    assert!(is_prolonged());
    store.writes.store(0, Ordering::Relaxed);
    one.link.is_away.store(false, Ordering::Relaxed);
    one.writes().await;
    assert_eq!(store.questions.load(Ordering::Relaxed), 0);
    assert_eq!(store.writes.load(Ordering::Relaxed), 1);
    let noted = store.noted.lock().unwrap();
    assert_eq!(noted.len(), 1_000);
    let left = |noted: &(Verdict, Moment, Moment)| told(noted).unwrap().left;
    assert!(noted.values().all(|noted| left(noted) > AGO(59 * 60)));
}

/// Another heartbeat of the page comes while the store is told of the one before, and has lost the grant.
#[tokio::test(start_paused = true)]
async fn a18_what_is_still_shown_while_the_store_is_told_is_written_as_well() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Shown, AGO(50 * 60));
    one.writes().await;
    store.loses_everything();
    let grants = one.grants.clone();
    let beats = move || {
        let at = Moment::now() + Duration::from_millis(1);
        grants.note(&"42".into(), &"7".into(), News::StillShown, at);
    };
    *one.link.meanwhile.lock().unwrap() = Some(Box::new(beats));
    one.still_shows();
    tokio::time::sleep(AGO(10)).await;
    assert_eq!(store.verdict(), Some(Verdict::Shown));
    assert!(one.lets_see().await);
}

/// The one that refused writes again; the other has noticed nothing, and is told when it writes.
#[tokio::test(start_paused = true)]
async fn a18_a_sidecar_whose_grant_does_not_stand_learns_of_the_refusal() {
    let store = Arc::<Shared>::default();
    let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
    store.loses_everything();
    other.notices();
    while store.verdict().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    one.notices();
    while one.known().is_some_and(|known| known.verdict == Verdict::Shown) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Without asking, it knows also while the store is away.
    store.is_away.store(true, Ordering::Relaxed);
    let told = one.may_see(&"42".into(), &"7".into(), one.soon()).await;
    assert!(told.is_err(), "{told:?}");
}

/// Nobody else knows of a refusal: what was shown counts, and the store is told again.
#[tokio::test(start_paused = true)]
async fn a18_a_grant_that_the_store_has_lost_is_written_again() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Shown, AGO(30));
    one.writes().await;
    store.loses_everything();
    one.notices();
    while store.verdict().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.verdict(), Some(Verdict::Shown));
    assert!(one.lets_see().await);
}

/// As in a Cluster, one of whose nodes accepts connections and drops them.
#[tokio::test(start_paused = true)]
async fn a18_what_one_part_of_the_store_loses_over_and_over_delays_nothing_of_another() {
    let store = Arc::<Shared>::default();
    let one = sidecar_with(&store, NonZeroU16::new(16).unwrap());
    one.shows(Verdict::Shown, AGO(30));
    one.writes().await;
    store.loses_everything();
    let its_own = one.link.domains.of(&"42".into());
    let another = one
        .link
        .domains
        .all()
        .find(|domain| !Arc::ptr_eq(domain, its_own));
    its_own.note_loss();
    let began = Instant::now();
    while store.verdict().is_none() {
        another.unwrap().note_loss();
        tokio::time::sleep(AGO(1)).await;
        assert!(began.elapsed() < AGO(60), "never written again");
    }
    assert_eq!(store.verdict(), Some(Verdict::Shown));
    assert!(one.lets_see().await);
}

/// A page that is open for longer than a grant lasts is the reason for one whose answer is old.
#[tokio::test(start_paused = true)]
async fn a18_what_an_open_page_has_prolonged_is_written_again_as_long_as_it_lasts() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    one.shows(Verdict::Shown, AGO(50 * 60));
    one.still_shows();
    one.writes().await;
    store.loses_everything();
    one.notices();
    while store.verdict().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let noted = store.noted.lock().unwrap()[&("42".into(), "7".into())];
    assert!(told(&noted).unwrap().left > AGO(59 * 60), "{noted:?}");
}

/// The sidecar with the grant cannot reach the store when the other one refuses.
#[tokio::test(start_paused = true)]
async fn a18_a_refusal_is_kept_for_as_long_as_a_grant_may_be_under_way() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.link.is_away.store(true, Ordering::Relaxed);
    one.shows(Verdict::Shown, AGO(30));
    other.shows(Verdict::Refused, AGO(20));
    other.writes().await;
    let noted = store.noted.lock().unwrap()[&("42".into(), "7".into())];
    assert!(told(&noted).unwrap().left > AGO(59 * 60), "{noted:?}");
    one.link.is_away.store(false, Ordering::Relaxed);
    one.writes().await;
    assert_eq!(one.known().map(|known| known.verdict), Some(Verdict::Refused));
    assert!(!one.lets_see().await);
}

/// Whoever tries what there is fills the store with nothing that stays.
#[tokio::test(start_paused = true)]
async fn a18_of_many_refusals_of_one_user_the_first_are_kept() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    let user = UserId::from("7");
    let refuses = |community: u32| {
        let community = Scope::from(CommunityId::new(community.to_string()));
        one.note(&community, &user, News::Answer(Verdict::Refused), Moment::now());
    };
    (0..300).for_each(refuses);
    // Asked for again, they are still the same.
    (0..300).for_each(refuses);
    while store.noted.lock().unwrap().len() < 300 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = |noted: &(Verdict, Moment, Moment)| noted.2.since(Moment::now());
    let noted = store.noted.lock().unwrap();
    let kept = noted.values().filter(|noted| left(noted) > AGO(120)).count();
    assert_eq!(kept, 100);
}

/// The store can be read, and takes nothing: as a Redis that is full.
#[tokio::test(start_paused = true)]
async fn a18_the_store_is_asked_also_where_an_answer_is_not_written() {
    let store = Arc::<Shared>::default();
    let (one, other) = (sidecar(&store), sidecar(&store));
    one.link.takes_nothing.store(true, Ordering::Relaxed);
    one.shows(Verdict::Shown, AGO(30));
    assert!(one.lets_see().await);
    other.shows(Verdict::Refused, AGO(20));
    other.writes().await;
    assert!(!one.lets_see().await);
}

/// More answers at once than the queue holds.
#[tokio::test(start_paused = true)]
async fn a18_what_does_not_fit_into_the_queue_is_written_all_the_same() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    for user in 0..25_000 {
        one.note(&"42".into(), &UserId::new(user.to_string()), SHOWN, Moment::now());
    }
    while store.noted.lock().unwrap().len() < 25_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
