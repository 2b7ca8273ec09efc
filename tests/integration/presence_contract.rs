//! What presence promises, over memory, over a Redis server and over a Redis Cluster alike.

#[macro_use]
mod stores;
mod late;
mod pages;
mod scopes;
mod sidecars;
mod site;

use std::collections::HashSet;
use std::time::Duration;

use headcount::presence::Scope;
use headcount::presence::changes::Event;
use headcount::presence::{CountChange, PresenceError, Seen, Touch};

use self::site::Site;

const WINDOW: Duration = Duration::from_secs(300);

over_every_store! {
    a_touch_is_counted_and_listed,
    a_community_never_touched_is_empty,
    communities_are_counted_in_the_order_asked,
    communities_are_known_while_somebody_is_there,
    no_more_communities_are_told_than_asked_for,
    odd_community_ids_are_kept_apart,
    overlong_community_ids_are_refused,
    sequence_numbers_rise_with_the_count_only,
    p1_a_busy_community_still_loses_the_visitor_who_left,
    p2_reading_does_not_prune,
    p4_the_count_is_that_of_the_members,
    p12_two_sessions_of_one_user_are_one_visitor,
    a_sweep_tells_decreases_once_with_rising_numbers,
    a_sweep_finds_every_community_that_is_due,
    a_touch_of_one_notices_others_who_left,
    a_subscriber_hears_of_every_change_in_order,
}

fn names(page: &[Seen]) -> Vec<String> {
    page.iter().map(|seen| seen.user.to_string()).collect()
}

async fn a_touch_is_counted_and_listed(site: Site) {
    assert_eq!(site.touch("42", &["a"]).await.current, 1);
    site.pass(Duration::from_secs(1)).await;
    let told = site.touch("42", &["b", "c"]).await;
    assert_eq!(told.current, 3);
    let count = site.count("42").await;
    assert_eq!((count.current, count.seq), (3, told.seq));
    assert_eq!(site.users("42").await, ["c", "b", "a"]);
    site.presence.ping().await.unwrap();
}

async fn a_community_never_touched_is_empty(site: Site) {
    let count = site.count("42").await;
    assert_eq!((count.current, count.seq), (0, 0));
    assert_eq!(site.users("42").await, [""; 0]);
    assert!(site.presence.all_counts(&[]).await.unwrap().value.is_empty());
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
}

async fn communities_are_counted_in_the_order_asked(site: Site) {
    let communities: Vec<Scope> = (0..1_200).map(|id| Scope::from(&*id.to_string())).collect();
    site.touch("1100", &["a", "b"]).await;
    site.touch("7", &["a"]).await;
    let counts = site.presence.all_counts(&communities).await.unwrap().value;
    assert_eq!(counts.len(), 1_200);
    for (id, count) in counts.iter().enumerate() {
        let expected = match id {
            7 => 1,
            1100 => 2,
            _ => 0,
        };
        assert_eq!(count.current, expected, "community {id}");
    }
}

async fn communities_are_known_while_somebody_is_there(site: Site) {
    assert_eq!(site.communities(10).await, [""; 0]);
    site.touch("deserted", &["a"]).await;
    site.pass(WINDOW / 2).await;
    site.touch("42", &["a", "b"]).await;
    site.touch("two words", &["a"]).await;
    assert_eq!(site.communities(10).await, ["42", "deserted", "two words"]);
    site.pass(WINDOW / 2).await;
    site.presence.sweep().await.unwrap();
    assert_eq!(site.communities(10).await, ["42", "two words"]);
}

async fn no_more_communities_are_told_than_asked_for(site: Site) {
    for id in 0..40 {
        site.touch(&id.to_string(), &["a"]).await;
    }
    for limit in [0, 1, 39] {
        let some = site.communities(limit).await;
        assert_eq!(some.iter().collect::<HashSet<_>>().len(), limit);
    }
    assert_eq!(site.communities(41).await.len(), 40);
}

async fn odd_community_ids_are_kept_apart(site: Site) {
    let odd = ["}{", "{p00}", "a b", "a", "ü", "line\nbreak", "42:due", "*"];
    for (users, community) in odd.iter().enumerate() {
        site.touch_many(community, 0..=users).await;
    }
    for (users, community) in odd.iter().enumerate() {
        assert_eq!(
            site.count(community).await.current,
            users as u64 + 1,
            "{community:?}"
        );
    }
    site.pass(WINDOW).await;
    let mut swept: Vec<_> = site.presence.sweep().await.unwrap().changes;
    swept.sort_by(|a, b| a.scope.cmp(&b.scope));
    let swept: Vec<_> = swept.iter().map(|change| change.scope.to_string()).collect();
    let mut expected = odd;
    expected.sort_unstable();
    assert_eq!(swept, expected);
}

async fn overlong_community_ids_are_refused(site: Site) {
    for id in ["", &"x".repeat(256)] {
        let community = Scope::from(id);
        let refused = site.presence.touch(&community, &[Touch::now("a")]).await;
        assert!(matches!(refused, Err(PresenceError::Community)));
        assert_eq!(site.count(id).await.current, 0);
        assert!(site.users(id).await.is_empty());
    }
    site.touch(&"x".repeat(255), &["a"]).await;
    assert_eq!(site.count(&"x".repeat(255)).await.current, 1);
}

async fn sequence_numbers_rise_with_the_count_only(site: Site) {
    let first = site.touch("42", &["a"]).await;
    let again = site.touch("42", &["a"]).await;
    assert_eq!(again.seq, first.seq, "nothing changed");
    let mut last = first.seq;
    for user in ["b", "c", "d", "e"] {
        let seq = site.touch("42", &[user]).await.seq;
        assert!(seq > last);
        last = seq;
    }
    assert!(first.seq >= 1_763_884_800_000, "not below the clock");
}

async fn p1_a_busy_community_still_loses_the_visitor_who_left(site: Site) {
    site.touch("42", &["left"]).await;
    for _ in 0..5 {
        site.pass(WINDOW / 5).await;
        site.touch("42", &["stays"]).await;
    }
    assert_eq!(site.count("42").await.current, 1);
    assert_eq!(site.users("42").await, ["stays"]);
}

async fn p2_reading_does_not_prune(site: Site) {
    site.touch("42", &["a", "b"]).await;
    site.pass(WINDOW).await;
    for _ in 0..3 {
        assert_eq!(site.count("42").await.current, 0);
        assert!(site.users("42").await.is_empty());
    }
    let changes = site.presence.sweep().await.unwrap().changes;
    assert_eq!(
        changes.len(),
        1,
        "had reading pruned, the sweep would find nothing"
    );
}

async fn p4_the_count_is_that_of_the_members(site: Site) {
    for round in 0..20 {
        site.touch_many("42", (round * 7)..(round * 7 + 30)).await;
        site.pass(WINDOW / 6).await;
        let members: HashSet<_> = site.users("42").await.into_iter().collect();
        assert_eq!(site.count("42").await.current, members.len() as u64);
    }
}

async fn p12_two_sessions_of_one_user_are_one_visitor(site: Site) {
    site.touch("42", &["alice"]).await;
    site.pass(Duration::from_secs(10)).await;
    assert_eq!(site.touch("42", &["alice", "alice"]).await.current, 1);
    assert_eq!(site.count("42").await.current, 1);
    assert_eq!(site.users("42").await, ["alice"]);
}

async fn a_sweep_tells_decreases_once_with_rising_numbers(site: Site) {
    site.touch("42", &["a"]).await;
    site.pass(Duration::from_secs(60)).await;
    let before = site.touch("42", &["b"]).await;
    assert!(
        site.presence.sweep().await.unwrap().changes.is_empty(),
        "nobody left"
    );

    site.pass(WINDOW.checked_sub(Duration::from_secs(50)).unwrap())
        .await;
    let sweep = site.presence.sweep().await.unwrap();
    assert_eq!(sweep.changes.len(), 1);
    assert_eq!(sweep.changes[0].scope.to_string(), "42");
    assert_eq!(sweep.changes[0].count.current, 1);
    assert!(sweep.changes[0].count.seq > before.seq);
    assert!(
        sweep.lag >= Duration::from_secs(10),
        "a's window passed 10 s ago: {:?}",
        sweep.lag
    );
    assert_eq!(site.count("42").await.seq, sweep.changes[0].count.seq);

    site.pass(WINDOW).await;
    let last = site.presence.sweep().await.unwrap().changes;
    assert_eq!(last[0].count.current, 0);
    assert!(last[0].count.seq > sweep.changes[0].count.seq);
    assert!(
        site.presence.sweep().await.unwrap().changes.is_empty(),
        "told already"
    );

    let back = site.touch("42", &["a"]).await;
    assert!(
        back.seq > last[0].count.seq,
        "numbers go on after the community was empty"
    );
}

async fn a_sweep_finds_every_community_that_is_due(site: Site) {
    for community in 0..1_000 {
        site.touch(&community.to_string(), &["a"]).await;
    }
    site.pass(WINDOW).await;
    let changes = site.presence.sweep().await.unwrap().changes;
    let communities: HashSet<_> = changes.iter().map(|change| &change.scope).collect();
    assert_eq!((changes.len(), communities.len()), (1_000, 1_000));
}

async fn a_touch_of_one_notices_others_who_left(site: Site) {
    let before = site.touch("42", &["a", "b"]).await;
    site.pass(WINDOW).await;
    let after = site.touch("42", &["c"]).await;
    assert_eq!(after.current, 1);
    assert!(after.seq > before.seq);
}

async fn a_subscriber_hears_of_every_change_in_order(site: Site) {
    let mut changes = site.listen().await;
    let mut expected = vec![site.touch("42", &["a"]).await];
    site.touch("42", &["a"]).await;
    site.count("42").await;
    expected.push(site.touch("42", &["b"]).await);
    site.pass(WINDOW).await;
    let swept = site.presence.sweep().await.unwrap();
    expected.push(swept.changes[0].count);
    for count in expected {
        let heard = changes.recv().await.unwrap();
        let scope = Scope::from("42");
        assert_eq!(heard, Event::Change(CountChange { scope, count }.into()));
    }
}
