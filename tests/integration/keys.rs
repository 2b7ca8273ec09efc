//! Keys of communities, end to end: whatever their type, and however a page spells one, presence, rows, statistics and
//! the site's own code speak of the same community.

use serde_json::{Value, json};

use crate::support::backend::Variant;
use crate::support::member::Member;
use crate::support::world::{Parts, Wanted, World};

/// Whatever stands in the place of a key is one, as the routes have it.
const ROUTES: &str = "
[[route]]
name = 'by-key'
pattern = '^/communities/(?P<community>[^/]+)/$'
page_type = 'community'

[[route]]
name = 'about'
pattern = '^/(?P<community>about)/$'
page_type = 'community'
";

async fn start(parts: Parts, variant: Variant) -> World {
    let world = Wanted::new(parts, variant).start().await;
    let reloads = "headcount_config_reloads_total{outcome=\"success\"}";
    let before = world.sidecar.metric(reloads).await;
    let file = world.sidecar.directory().join("routes.d/0-keys.toml");
    std::fs::write(file, ROUTES).expect("a route file");
    world.sidecar.signal("HUP");
    world.sidecar.wait_for_metric(reloads, |now| now > before).await;
    world
}

/// Each of these members looks at one of the spellings.
async fn look(world: &World, spellings: &[(&str, &str)]) -> Vec<Member> {
    let mut members = Vec::new();
    for (name, spelling) in spellings {
        let member = world.member(name).await;
        member.sees(&format!("/communities/{spelling}/")).await;
        members.push(member);
    }
    world.wait_for_views(spellings.len()).await;
    members
}

async fn is_one_community(parts: Parts, variant: Variant, spellings: impl Fn(&str) -> [String; 4]) {
    let world = start(parts, variant).await;
    let key = world.seeded.community("rust");
    let spelt = spellings(&key);
    let names = ["alice", "bob", "carol", "dave"];
    let visits: Vec<_> = names.into_iter().zip(spelt.iter().map(String::as_str)).collect();
    let members = look(&world, &visits).await;

    let shown = match variant {
        Variant::Default | Variant::Django | Variant::Counters => {
            json!(key.parse::<i64>().expect("a number"))
        }
        Variant::Uuid | Variant::Text => json!(key),
    };
    for spelling in &spelt {
        let list = members[0]
            .json(&format!("/api/communities/{spelling}/visitors"))
            .await;
        assert_eq!(list["current_visitors"], 4, "{spelling}");
        assert_eq!(list["community_id"], shown, "{spelling}");
        let stats = members[0]
            .json(&format!("/api/communities/{spelling}/visitors/stats"))
            .await;
        assert_eq!(
            (&stats["page_views"], &stats["total_visitors"]),
            (&json!(4), &json!(4))
        );
    }
    // The site's own code finds them, too.
    let written = world.page_views().await;
    assert!(
        written
            .iter()
            .all(|view| view["metadata"]["community_id"] == json!(key)),
        "{written:?}"
    );
    assert_eq!(
        world
            .site
            .ask(&format!("oracle/events?community={key}"))
            .await
            .as_array()
            .map(Vec::len),
        Some(4)
    );
}

fn padded(key: &str) -> [String; 4] {
    ["", "0", "00", "000000"].map(|zeros| format!("{zeros}{key}"))
}

fn written_otherwise(key: &str) -> [String; 4] {
    [
        key.to_owned(),
        key.replace('-', ""),
        key.to_uppercase(),
        format!("%7B{key}%7D"),
    ]
}

#[tokio::test]
async fn v20_an_integer_is_one_community_with_zeros_and_without() {
    is_one_community(Parts::Production, Variant::Default, padded).await;
}

#[tokio::test]
async fn v20_a_uuid_is_one_community_in_every_spelling() {
    is_one_community(Parts::Production, Variant::Uuid, written_otherwise).await;
}

#[tokio::test]
async fn v20_a_uuid_is_one_community_in_every_spelling_where_it_is_char_32() {
    is_one_community(Parts::Embedded, Variant::Uuid, written_otherwise).await;
}

async fn text_keys_are_as_they_are(parts: Parts) {
    let world = start(parts, Variant::Text).await;
    let visits = [("alice", "7"), ("bob", "007"), ("carol", "007")];
    let members = look(&world, &visits).await;
    for (key, visitors) in [("7", 1), ("007", 2)] {
        let list = members[0].json(&format!("/api/communities/{key}/visitors")).await;
        assert_eq!(list["current_visitors"], visitors, "{key}");
        assert_eq!(list["community_id"], json!(key));
        let stats = members[0]
            .json(&format!("/api/communities/{key}/visitors/stats"))
            .await;
        assert_eq!(
            (&stats["page_views"], &stats["community_id"]),
            (&json!(visitors), &json!(key))
        );
        let of_the_site = world.site.ask(&format!("oracle/events?community={key}")).await;
        assert_eq!(of_the_site.as_array().map(Vec::len), Some(visitors), "{key}");
    }
    let counts = members[0].json("/api/visitors/counts?communities=7,007,07").await;
    let counts: Vec<&Value> = counts["counts"].as_array().expect("a list").iter().collect();
    let expected = [("7", 1), ("007", 2)]
        .map(|(key, current)| json!({"community_id": key, "current_visitors": current}));
    assert_eq!(
        counts,
        expected.iter().collect::<Vec<_>>(),
        "no community is called 07"
    );
}

#[tokio::test]
async fn v20_keys_that_are_text_are_not_numbers_in_postgres() {
    text_keys_are_as_they_are(Parts::Production).await;
}

#[tokio::test]
async fn v20_keys_that_are_text_are_not_numbers_in_sqlite() {
    text_keys_are_as_they_are(Parts::Embedded).await;
}

#[tokio::test]
async fn v21_a_page_that_is_named_by_no_key_is_not_counted() {
    let world = start(Parts::Embedded, Variant::Default).await;
    let alice = world.member("alice").await;
    // The first is looked up, the second is known.
    alice.sees("/about/").await;
    alice.sees("/communities/42/").await;
    world.wait_for_views(1).await;
    alice.sees("/about/").await;
    let not_counted = "headcount_page_views_not_counted_total{reason=\"community_key\"}";
    world
        .sidecar
        .wait_for_metric(not_counted, |views| views >= 2.0)
        .await;
    let told = world.sidecar.says("is no key of a community");
    assert_eq!(told.matches("is no key of a community").count(), 1, "{told}");
    world.sidecar.wait_until_idle().await;
    assert_eq!(world.page_views().await.len(), 1);
    let answer = alice.get("/api/communities/about/visitors").await;
    assert_eq!(answer.status(), 404);
}
