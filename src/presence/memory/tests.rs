//! Tests of presence in memory, with a clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const WINDOW: Duration = Duration::from_secs(300);

fn memory() -> (InMemory, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(1_763_884_800_000));
    let clock = Arc::clone(&time);
    let now = move || DateTime::from_timestamp_millis(clock.load(Ordering::Relaxed)).unwrap();
    (InMemory::new(WINDOW, SteadyClock::steady(Arc::new(now))), time)
}

#[tokio::test]
async fn p2_reading_forgets_nobody() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    memory
        .touch(&community, &[Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    time.fetch_add(millis(WINDOW), Ordering::Relaxed);
    let counts = memory.all_counts(std::slice::from_ref(&community)).await;
    assert_eq!(counts.unwrap().value[0].current, 0);
    assert!(memory.list(&community, None, 10).await.unwrap().value.is_empty());
    let kept = memory.shard(&community).scopes[&community].by_time.len();
    assert_eq!(kept, 2, "only sweeps and touches forget");
}

#[tokio::test]
async fn a_deserted_community_is_forgotten_after_a_day() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    memory.touch(&community, &[Touch::now("a")]).await.unwrap();
    time.fetch_add(millis(WINDOW), Ordering::Relaxed);
    assert_eq!(memory.sweep().await.unwrap().changes.len(), 1);
    assert_eq!(memory.shard(&community).scopes.len(), 1);
    time.fetch_add(millis(REMEMBERED), Ordering::Relaxed);
    assert_eq!(memory.sweep().await.unwrap().changes, []);
    let shard = memory.shard(&community);
    assert!(shard.scopes.is_empty() && shard.due.is_empty());
}

#[tokio::test]
async fn what_is_finer_is_forgotten_minutes_after_it_is_deserted_and_its_numbers_go_on_rising() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    let post = Scope::Finer("42".into(), Finer::new("post", "7").unwrap());
    memory.touch(&post, &[Touch::now("a")]).await.unwrap();
    let before = memory.count(&post).seq;
    time.fetch_add(millis(WINDOW), Ordering::Relaxed);
    assert_eq!(memory.sweep().await.unwrap().changes.len(), 2);
    let swept = memory.count(&post).seq;
    assert!(swept > before);
    time.fetch_add(millis(FINER_REMEMBERED), Ordering::Relaxed);
    assert_eq!(memory.sweep().await.unwrap().changes, []);
    {
        let shard = memory.shard(&community);
        let scopes: Vec<_> = shard.scopes.keys().collect();
        assert_eq!((scopes, shard.due.len()), (vec![&community], 1));
    }
    memory.touch(&post, &[Touch::now("a")]).await.unwrap();
    assert!(memory.count(&post).seq > swept);
}

#[tokio::test]
async fn last_seen_does_not_go_back_with_the_clock() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    memory.touch(&community, &[Touch::now("a")]).await.unwrap();
    let before = memory.list(&community, None, 1).await.unwrap();
    time.fetch_sub(60_000, Ordering::Relaxed);
    memory.touch(&community, &[Touch::now("a")]).await.unwrap();
    assert_eq!(memory.list(&community, None, 1).await.unwrap(), before);
}

#[tokio::test]
async fn a_sweep_tells_how_late_it_is() {
    let (memory, time) = memory();
    memory.touch(&"1".into(), &[Touch::now("a")]).await.unwrap();
    time.fetch_add(2_000, Ordering::Relaxed);
    memory.touch(&"2".into(), &[Touch::now("a")]).await.unwrap();
    time.fetch_add(millis(WINDOW) + 500, Ordering::Relaxed);
    let sweep = memory.sweep().await.unwrap();
    assert_eq!(sweep.changes.len(), 2);
    assert_eq!(sweep.lag, Duration::from_millis(2_500));
}

#[tokio::test]
async fn one_entry_per_community_is_due() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    for _ in 0..10 {
        memory
            .touch(&community, &[Touch::now("a"), Touch::now("b")])
            .await
            .unwrap();
        time.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(memory.shard(&community).due.len(), 1);
}

fn bounded(capacity: usize) -> (InMemory, Arc<AtomicI64>) {
    let (InMemory { clock, .. }, time) = memory();
    let capacity = NonZeroUsize::new(capacity).unwrap();
    (InMemory::bounded(Window::new(WINDOW), clock, capacity), time)
}

async fn users(memory: &InMemory, community: &str) -> Vec<String> {
    let page = memory.list(&community.into(), None, 1_000).await.unwrap().value;
    page.iter().map(|seen| seen.user.to_string()).collect()
}

#[tokio::test]
async fn promise_6_with_a_bound_the_oldest_are_forgotten_first_wherever_they_are() {
    let (memory, time) = bounded(3);
    for (community, user) in [
        ("1", "a"),
        ("2", "b"),
        ("1", "c"),
        ("3", "d"),
        ("2", "b"),
        ("4", "e"),
    ] {
        memory
            .touch(&community.into(), &[Touch::now(user)])
            .await
            .unwrap();
        time.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(memory.members(), 3);
    assert_eq!(users(&memory, "1").await, [""; 0], "a went for d, c for e");
    assert_eq!(users(&memory, "2").await, ["b"], "seen again");
    assert_eq!(users(&memory, "3").await, ["d"]);
    assert_eq!(users(&memory, "4").await, ["e"]);

    let crowd: Vec<_> = (0..10).map(|user| Touch::now(&*format!("u{user}"))).collect();
    memory.touch(&"5".into(), &crowd).await.unwrap();
    assert_eq!(users(&memory, "5").await, ["u9", "u8", "u7"]);
    assert_eq!(memory.members(), 3);
    time.fetch_add(millis(WINDOW), Ordering::Relaxed);
    memory.sweep().await.unwrap();
    time.fetch_add(1, Ordering::Relaxed);
    memory.sweep().await.unwrap();
    assert_eq!(memory.members(), 0);
    let shard = memory.shard(&"1".into());
    assert!(shard.scopes.is_empty() && shard.due.is_empty());
}

#[tokio::test]
async fn members_are_counted_as_they_come_and_go() {
    let (memory, time) = memory();
    for (community, users) in [("1", &["a", "b"][..]), ("2", &["a"]), ("1", &["b", "c"])] {
        let touches: Vec<_> = users.iter().map(|user| Touch::now(*user)).collect();
        memory.touch(&community.into(), &touches).await.unwrap();
        time.fetch_add(millis(WINDOW) / 2, Ordering::Relaxed);
    }
    // b and c, and in 2 nobody who has not been swept yet.
    assert_eq!(memory.members(), 3);
    memory.sweep().await.unwrap();
    assert_eq!(memory.members(), 2);
}

#[tokio::test]
async fn p14_what_is_remembered_can_be_touched_again_with_its_age() {
    let (memory, time) = memory();
    let community = Scope::from("42");
    let touch = |user, age| Touch {
        age: Duration::from_secs(age),
        ..Touch::now(user)
    };
    let touches = [touch("a", 299), touch("b", 10), touch("c", 0)];
    memory.touch(&community, &touches).await.unwrap();
    assert_eq!(memory.touches(&community), touches);
    time.fetch_add(2_000, Ordering::Relaxed);
    let older = [touch("b", 12), touch("c", 2)];
    assert_eq!(memory.touches(&community), older, "a has left");
    assert_eq!(memory.communities(10).await.unwrap().value, ["42".into()]);
    assert_eq!(memory.touches(&"43".into()), []);
}

#[tokio::test]
async fn p26_the_peak_of_the_day_is_the_most_at_a_time_and_begins_with_whoever_is_there() {
    let (memory, time) = memory();
    let peak = async || memory.peak_of_the_day().await.unwrap().value;
    assert_eq!(peak().await, 0);
    memory
        .touch(&Scope::Site, &[Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    time.fetch_add(millis(WINDOW) / 2, Ordering::Relaxed);
    memory.touch(&Scope::Site, &[Touch::now("c")]).await.unwrap();
    time.fetch_add(millis(WINDOW) / 2, Ordering::Relaxed);
    memory.sweep().await.unwrap();
    assert_eq!((memory.count(&Scope::Site).current, peak().await), (1, 3));
    // Midnight, with one there who leaves before anybody comes.
    time.fetch_add(24 * 60 * 60 * 1_000, Ordering::Relaxed);
    assert_eq!(peak().await, 1);
    memory.sweep().await.unwrap();
    assert_eq!((memory.count(&Scope::Site).current, peak().await), (0, 1));
    memory.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
    assert_eq!(peak().await, 1, "a community is not the site");
}
