//! Tests of grants, with a store that two sidecars share, that may be away, and that may lose everything.

mod losses;
mod shared_store;
mod waiting;

use std::sync::atomic::Ordering;

use self::shared_store::{HOUR, SHOWN, Shared, shown_by_one_and_refused_by_the_other, sidecar, told};
use super::*;
use crate::ids::CommunityId;

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
    let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
    let ago = Duration::from_secs;
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
    let (one, other) = shown_by_one_and_refused_by_the_other(&store).await;
    one.shows(Verdict::Shown, Duration::from_secs(10));
    assert!(one.lets_see().await);
    one.writes().await;
    assert!(other.lets_see().await);
}

#[tokio::test(start_paused = true)]
async fn a9_page_after_page_is_written_once_in_some_seconds_and_an_open_one_in_a_quarter_of_the_time() {
    let store = Arc::<Shared>::default();
    let one = sidecar(&store);
    // From the oldest on, two a second.
    let now = Moment::now();
    for half in (0..60).rev() {
        let at = now.before(Duration::from_millis(500 * half));
        one.note(&"42".into(), &"7".into(), News::Answer(Verdict::Shown), at);
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

/// It waits for the refusals of others, whatever an open page says.
#[tokio::test(start_paused = true)]
async fn a9_a_lost_grant_that_an_open_page_prolongs_stays_lost_until_it_is_written_again() {
    let one = sidecar(&Arc::default());
    let key: GrantKey = ("42".into(), "7".into());
    one.shows(Verdict::Shown, Duration::ZERO);
    one.writes().await;
    let before = one.known().unwrap();
    assert!(one.0.memory.lose(&key, before).is_some());
    one.0
        .memory
        .put(key.clone(), News::StillShown, before.at + HOUR / 2);
    let after = one.known().unwrap();
    assert!(after.is_lost() && after.until > before.until, "{after:?}");
    let queued = one.0.memory.mark_queued(|_, known| known.is_lost());
    assert_eq!(queued, vec![key]);
    assert!(one.known().unwrap().is_queued());
    assert_eq!(one.0.memory.mark_queued(|_, _| true), Vec::new(), "it is queued");
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
    one.shows(Verdict::Shown, Duration::ZERO);
    // Nor are further ones in its way, before it is asked about.
    for community in 0..CAPACITY * 3 / 10 {
        let name = Scope::from(CommunityId::new(format!("another {community}")));
        one.note(&name, &user, News::Answer(Verdict::Refused), Moment::now());
        one.0.memory.get(&(name, user.clone()));
    }
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

fn post(key: usize) -> Scope {
    Scope::Finer("42".into(), Finer::new("post", &key.to_string()).unwrap())
}

/// As from members who read one post after the other.
#[tokio::test(start_paused = true)]
async fn a9_views_of_many_posts_keep_no_grant_of_a_community_out() {
    let one = sidecar(&Arc::default());
    let reader = UserId::from("8");
    let reads = |keys: std::ops::Range<usize>| {
        for key in keys {
            one.note(&post(key), &reader, SHOWN, Moment::now());
            one.0.memory.get(&(post(key), reader.clone()));
        }
    };
    reads(0..CAPACITY);
    one.shows(Verdict::Shown, Duration::ZERO);
    reads(CAPACITY..2 * CAPACITY);
    assert_eq!(one.known().map(|known| known.verdict), Some(Verdict::Shown));
    let all = one.0.memory.all(|(scope, _), _| scope.finer().is_some());
    assert!(all.len() <= CAPACITY, "{}", all.len());
}

/// Somebody tries many posts that there are not: that a community is refused to them counts as long as for anybody.
#[tokio::test(start_paused = true)]
async fn a18_refusals_of_many_posts_shorten_none_of_a_community() {
    let one = sidecar(&Arc::default());
    let user = UserId::from("7");
    for key in 0..300 {
        one.note(&post(key), &user, News::Answer(Verdict::Refused), Moment::now());
    }
    one.shows(Verdict::Refused, Duration::ZERO);
    let left = one.known().unwrap().until.since(Moment::now());
    assert!(left > HOUR / 2, "{left:?}");
}
