//! Tests of callers who wait for another sidecar's answer: once, for all communities together, and within bounds.

use super::*;

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
