//! The whole site, and what is finer than communities.

use std::collections::BTreeMap;
use std::time::Duration;

use headcount::ids::Finer;
use headcount::presence::changes::Event;
use headcount::presence::{CountChange, Scope, Touch};

use super::WINDOW;
use super::site::Site;

over_every_store! {
    p23_finer_scopes_and_the_site_are_counted_and_listed_each_by_itself,
    p23_finer_scopes_are_no_communities,
    p23_a_touch_of_something_finer_is_one_of_its_community,
    p1_a_busy_post_still_loses_the_visitor_who_left,
    p2_reading_the_site_does_not_prune,
    p14_touches_of_something_finer_may_be_made_again,
    p18_a_clock_that_was_set_back_makes_nobody_stay_on_a_post_or_the_site,
    p23_changes_of_every_scope_are_heard,
    p24_hundreds_of_finer_scopes_may_be_touched_at_once,
    p27_those_of_some_users_who_are_present_are_told,
    p26_the_peak_of_the_day_outlives_those_who_made_it,
}

const SECOND: Duration = Duration::from_secs(1);

fn finer(post: &str) -> Finer {
    Finer::new("post", post).unwrap()
}

fn post(community: &str, post: &str) -> Scope {
    Scope::Finer(community.into(), finer(post))
}

fn at(user: &str, post: &str) -> Touch {
    Touch::now(user).in_finer(finer(post))
}

/// Whom a scope has, latest first, and how many.
async fn users(site: &Site, scope: &Scope) -> Vec<String> {
    let page = site.presence.list(scope, None, 1_000).await.unwrap().value;
    let count = site
        .presence
        .all_counts(std::slice::from_ref(scope))
        .await
        .unwrap()
        .value[0];
    assert_eq!(count.current, page.len() as u64, "{scope}");
    page.iter().map(|seen| seen.user.to_string()).collect()
}

async fn p23_finer_scopes_and_the_site_are_counted_and_listed_each_by_itself(site: Site) {
    let touches = [Touch::now("c"), at("b", "7"), at("a", "7"), at("a", "8")];
    let count = site.presence.touch(&"42".into(), &touches).await.unwrap();
    assert_eq!(count.current, 3, "the community's");
    site.presence
        .touch(&Scope::Site, &[Touch::now("d"), Touch::now("a")])
        .await
        .unwrap();
    for (scope, expected) in [
        ("42".into(), &["c", "b", "a"][..]),
        (post("42", "7"), &["b", "a"]),
        (post("42", "8"), &["a"]),
        (post("42", "9"), &[]),
        (post("43", "7"), &[]),
        (Scope::Site, &["d", "a"]),
    ] {
        assert_eq!(users(&site, &scope).await, expected, "{scope}");
    }
    let asked = [Scope::Site, post("42", "7"), "42".into()];
    let counts = site.presence.all_counts(&asked).await.unwrap().value;
    assert_eq!(counts.map_current(), [2, 2, 3]);
}

trait MapCurrent {
    fn map_current(&self) -> Vec<u64>;
}

impl MapCurrent for Vec<headcount::presence::Count> {
    fn map_current(&self) -> Vec<u64> {
        self.iter().map(|count| count.current).collect()
    }
}

async fn p23_finer_scopes_are_no_communities(site: Site) {
    site.presence.touch(&"42".into(), &[at("a", "7")]).await.unwrap();
    site.presence
        .touch(&Scope::Site, &[Touch::now("a")])
        .await
        .unwrap();
    assert_eq!(site.communities(10).await, ["42"]);
}

async fn p23_a_touch_of_something_finer_is_one_of_its_community(site: Site) {
    let count = site
        .presence
        .touch(&post("42", "7"), &[Touch::now("a")])
        .await
        .unwrap();
    assert_eq!(count.current, 1);
    assert_eq!(users(&site, &"42".into()).await, ["a"]);
    assert_eq!(users(&site, &post("42", "7")).await, ["a"]);
    site.pass(WINDOW / 2).await;
    // Elsewhere in the community.
    site.presence.touch(&"42".into(), &[at("a", "8")]).await.unwrap();
    site.pass(WINDOW / 2).await;
    site.presence.sweep().await.unwrap();
    assert_eq!(users(&site, &"42".into()).await, ["a"]);
    assert_eq!(users(&site, &post("42", "7")).await, [""; 0]);
    assert_eq!(users(&site, &post("42", "8")).await, ["a"]);
}

async fn p1_a_busy_post_still_loses_the_visitor_who_left(site: Site) {
    let touch = async |user: &str| {
        site.presence.touch(&"42".into(), &[at(user, "7")]).await.unwrap();
        site.presence
            .touch(&Scope::Site, &[Touch::now(user)])
            .await
            .unwrap();
    };
    touch("left").await;
    for _ in 0..4 {
        site.pass(WINDOW / 4).await;
        touch("stays").await;
    }
    for scope in [post("42", "7"), Scope::Site] {
        assert_eq!(users(&site, &scope).await, ["stays"], "{scope}");
    }
}

async fn p2_reading_the_site_does_not_prune(site: Site) {
    site.presence
        .touch(&Scope::Site, &[Touch::now("a")])
        .await
        .unwrap();
    site.pass(WINDOW).await;
    assert_eq!(users(&site, &Scope::Site).await, [""; 0]);
    assert!(
        site.presence
            .present(&Scope::Site, &["a".into()])
            .await
            .unwrap()
            .value
            .is_empty()
    );
    let changes = site.presence.sweep().await.unwrap().changes;
    assert_eq!(changes.len(), 1, "it was still there for the sweep");
    assert_eq!((&changes[0].scope, changes[0].count.current), (&Scope::Site, 0));
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
}

async fn p14_touches_of_something_finer_may_be_made_again(site: Site) {
    let late = |age| Touch { age, ..at("a", "7") };
    let seen = async || {
        let page = site.presence.list(&post("42", "7"), None, 9).await.unwrap().value;
        page[0].last_seen
    };
    site.presence.touch(&"42".into(), &[late(SECOND)]).await.unwrap();
    let before = seen().await;
    site.presence
        .touch(&"42".into(), &[late(10 * SECOND)])
        .await
        .unwrap();
    assert_eq!(seen().await, before, "last seen never goes back");
    site.presence.touch(&"43".into(), &[late(WINDOW)]).await.unwrap();
    assert_eq!(
        users(&site, &post("43", "7")).await,
        [""; 0],
        "who left does not come back"
    );
}

async fn p18_a_clock_that_was_set_back_makes_nobody_stay_on_a_post_or_the_site(site: Site) {
    site.presence.touch(&"42".into(), &[at("a", "7")]).await.unwrap();
    site.presence
        .touch(&Scope::Site, &[Touch::now("a")])
        .await
        .unwrap();
    site.presence.sweep().await.unwrap();
    site.is_set_back(WINDOW * 20).await;
    site.presence.sweep().await.unwrap();
    site.pass(WINDOW).await;
    site.presence.sweep().await.unwrap();
    for scope in [post("42", "7"), Scope::Site, "42".into()] {
        assert_eq!(users(&site, &scope).await, [""; 0], "{scope}");
    }
}

async fn p23_changes_of_every_scope_are_heard(site: Site) {
    let mut changes = site.listen().await;
    site.presence.touch(&"42".into(), &[at("a", "7")]).await.unwrap();
    site.presence
        .touch(&Scope::Site, &[Touch::now("a")])
        .await
        .unwrap();
    site.presence.touch(&"42".into(), &[at("a", "7")]).await.unwrap();
    site.presence.touch(&"42".into(), &[at("b", "7")]).await.unwrap();
    // In order of each; the site may be on another node of a Cluster.
    let mut heard: BTreeMap<Scope, Vec<u64>> = BTreeMap::new();
    for _ in 0..5 {
        let Event::Change(change) = changes.recv().await.unwrap() else {
            panic!("another event");
        };
        let CountChange { scope, count } = (*change).clone();
        heard.entry(scope).or_default().push(count.current);
    }
    let expected = [
        ("42".into(), vec![1, 2]),
        (post("42", "7"), vec![1, 2]),
        (Scope::Site, vec![1]),
    ];
    assert_eq!(heard, expected.into());
}

async fn p24_hundreds_of_finer_scopes_may_be_touched_at_once(site: Site) {
    let posts: Vec<_> = (0..350).map(|id| id.to_string()).collect();
    let touches: Vec<_> = posts.iter().map(|post| at(&format!("u{post}"), post)).collect();
    let count = site.presence.touch(&"42".into(), &touches).await.unwrap();
    assert_eq!(count.current, 350);
    let scopes: Vec<_> = posts.iter().map(|id| post("42", id)).collect();
    let counts = site.presence.all_counts(&scopes).await.unwrap().value;
    assert_eq!(counts.map_current(), vec![1; 350]);
    site.pass(WINDOW).await;
    let changes = site.presence.sweep().await.unwrap().changes;
    assert_eq!(changes.len(), 351);
}

async fn p27_those_of_some_users_who_are_present_are_told(site: Site) {
    let left = Touch {
        age: WINDOW / 2,
        ..Touch::now("left")
    };
    site.presence
        .touch(&Scope::Site, &[left, Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    site.pass(WINDOW / 2).await;
    let asked: Vec<_> = ["b", "left", "nobody", "a"].map(Into::into).to_vec();
    let mut present = site.presence.present(&Scope::Site, &asked).await.unwrap().value;
    present.sort_by(|one, other| one.user.cmp(&other.user));
    let page = site.presence.list(&Scope::Site, None, 9).await.unwrap().value;
    let listed: Vec<_> = page.into_iter().rev().collect();
    assert_eq!(present, listed, "the same as the list");
    assert_eq!(present.len(), 2);
    assert!(
        site.presence
            .present(&Scope::Site, &[])
            .await
            .unwrap()
            .value
            .is_empty()
    );
    assert!(
        site.presence
            .present(&"42".into(), &asked)
            .await
            .unwrap()
            .value
            .is_empty()
    );
}

async fn p26_the_peak_of_the_day_outlives_those_who_made_it(site: Site) {
    let peak = async || site.presence.peak_of_the_day().await.unwrap().value;
    assert_eq!(peak().await, 0);
    site.presence
        .touch(&Scope::Site, &[Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    assert_eq!(peak().await, 2);
    site.pass(WINDOW).await;
    site.presence
        .touch(&Scope::Site, &[Touch::now("c")])
        .await
        .unwrap();
    site.presence
        .touch(&"42".into(), &[Touch::now("d"), Touch::now("e"), Touch::now("f")])
        .await
        .unwrap();
    assert_eq!(users(&site, &Scope::Site).await, ["c"]);
    assert_eq!(peak().await, 2);
}
