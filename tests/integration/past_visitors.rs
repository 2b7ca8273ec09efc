//! Past visitors and event types of routes, from the browser to the site's own functions; and that no statement reads the
//! whole event table.

mod by_visits;
mod long_values;
mod many_views;
mod rows_read;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use headcount::ids::CommunityId;
use headcount::store::{PastAsked, PastPlace, PastSort, PastWindow, migrate};

use crate::store_site::{Site, Variant, at};
use crate::support::postgres::Postgres;
use crate::support::process::{self, Told};
use crate::support::redis::eventually;
use crate::support::sidecar::{ROUTES, Sidecar};
use crate::support::world::{Wanted, World};

/// Pages of posts have an event type of their own.
fn routes() -> String {
    ROUTES.replacen(
        "page_type = \"post\"\n",
        "page_type = \"post\"\nevent_type = \"post_view\"\nmetadata = { post_id = \"post\", tab = \"?tab\" }\n\
         description = \"Post {post}\"\n",
        1,
    )
}

async fn alter(world: &World, sql: &str) {
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute(AssertSqlSafe(sql)).await.expect("the app migrates");
    pool.close().await;
}

fn tells(sidecar: &Sidecar, command: &[&str]) -> Told {
    let config = sidecar.directory().join("headcount.toml");
    let config = ["--config", config.to_str().expect("UTF-8")];
    process::run(&[command, &config].concat(), &[])
}

/// Waits until the sidecars have written so many page views.
async fn written(world: &World, count: usize) -> Vec<Value> {
    let mut views = Vec::new();
    eventually(async || {
        views = world.page_views().await;
        views.len() >= count
    })
    .await;
    views
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().expect("a time").parse().expect("a time")
}

/// What both say of a visitor, in one form.
fn told(visitor: &Value) -> Value {
    let pages = match &visitor["pages"] {
        Value::Object(pages) => pages
            .iter()
            .map(|(url, views)| (url.clone(), views.clone()))
            .collect(),
        Value::Array(pages) => {
            let of = |page: &Value| {
                (
                    page["url"].as_str().expect("a URL").to_owned(),
                    page["views"].clone(),
                )
            };
            pages.iter().map(of).collect::<std::collections::BTreeMap<_, _>>()
        }
        other => panic!("{other}"),
    };
    json!({
        "user_id": visitor["user_id"],
        "visit_count": visitor["visit_count"],
        "page_views": visitor["page_views"],
        "first_visit": time(&visitor["first_visit"]),
        "last_visit": time(&visitor["last_visit"]),
        "pages": pages,
    })
}

/// Three sidecars, one of which is killed; views that the database refuses and takes later; and the site's own functions.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, step by step")]
async fn s34_past_visitors_are_whom_the_sites_own_functions_find() {
    let world = Wanted::usual().start().await;
    let wanted = Wanted {
        config: "[privacy]\nquery_allow = [\"tab\"]\n[api]\npages = \"all\"\n".into(),
        ..Wanted::usual()
    };
    let config = wanted.configuration(&world.site, &world.database);
    let mut sidecars = [(); 3].map(|()| Sidecar::start_with(&config, &routes()));
    let rust = world.community("rust");
    let post = |n: u32| format!("{rust}posts/{n}/?tab=new&token=secret");
    let mut members = Vec::new();
    for name in ["alice", "bob", "carol"] {
        members.push(world.member(name).await);
    }
    for (member, sidecar) in members.iter().zip(&sidecars) {
        let member = member.at(sidecar.url(""));
        member.sees(&rust).await;
        member.sees(&post(1)).await;
    }
    written(&world, 6).await;
    sidecars[2].kill();
    sidecars[2].restart();
    // V33: the database takes no such type any more: each is a dead letter, and no sidecar starts with such routes.
    alter(
        &world,
        "ALTER TABLE accounts_userevent ADD CONSTRAINT no_posts CHECK (event_type <> 'post_view') NOT VALID",
    )
    .await;
    let (alice, carol) = (
        members[0].at(sidecars[0].url("")),
        members[2].at(sidecars[2].url("")),
    );
    alice.sees(&post(1)).await;
    let letters = "headcount_dead_letters";
    sidecars[0]
        .wait_for_metric(letters, |letters| letters == 1.0)
        .await;
    let refused = tells(&sidecars[0], &["check"]);
    assert_eq!(refused.code, Some(64), "{refused:?}");
    let place =
        ":6: route `community-post`: `event_type` \"post_view\" is forbidden by the constraint \"no_posts\"";
    assert!(refused.err.contains(place), "{refused:?}");
    sidecars[1].kill();
    let refused = tells(&sidecars[1], &["run"]);
    assert!(
        refused.code == Some(64) && refused.err.contains(place),
        "{refused:?}"
    );
    alter(&world, "ALTER TABLE accounts_userevent DROP CONSTRAINT no_posts").await;
    sidecars[1].restart();
    carol.sees(&rust).await;
    assert_eq!(
        tells(&sidecars[0], &["dead-letters", "retry", "--all"]).code,
        Some(0)
    );
    let views = written(&world, 8).await;

    // V30: as the site's ORM reads them.
    let of_posts: Vec<_> = views
        .iter()
        .filter(|view| view["event_type"] == "post_view")
        .collect();
    assert_eq!(of_posts.len(), 4);
    assert!(of_posts.iter().all(|view| view["description"] == "Post 1"));
    let metadata = &of_posts[0]["metadata"];
    assert_eq!(
        (&metadata["post_id"], &metadata["tab"]),
        (&json!("1"), &json!("new"))
    );
    assert_eq!(metadata["token"], Value::Null);

    let community = world.seeded.community("rust");
    let of_the_site = world
        .site
        .ask(&format!("oracle/visits/{community}?types=page_view,post_view"))
        .await;
    let expected: Vec<_> = of_the_site.as_array().unwrap().iter().map(told).collect();
    assert_eq!(expected.len(), 3);
    for sort in ["last_visit", "visit_count", "first_visit"] {
        let path = world.visitors("rust", &format!("/history?sort={sort}"));
        let answer = alice.json(&path).await;
        assert_eq!(answer["event_types"], json!(["page_view", "post_view"]));
        assert_eq!((&answer["sort"], &answer["next"]), (&json!(sort), &Value::Null));
        let mut visitors: Vec<_> = answer["visitors"].as_array().unwrap().iter().map(told).collect();
        if sort != "visit_count" {
            let order: Vec<_> = visitors.iter().map(|visitor| time(&visitor[sort])).collect();
            assert!(order.is_sorted_by(|one, other| one >= other), "{order:?}");
        }
        visitors.sort_by_key(|visitor| visitor["user_id"].to_string());
        assert_eq!(visitors, expected, "{sort}");
    }
    for visitor in &expected {
        let path = world.visitors("rust", &format!("/history/{}", visitor["user_id"]));
        assert_eq!(told(&alice.json(&path).await), *visitor);
    }
    let stats = alice.json(&world.visitors("rust", "/stats")).await;
    assert_eq!(
        (&stats["page_views"], &stats["total_visitors"]),
        (&json!(8), &json!(3))
    );
    let everybody = world
        .site
        .ask(&format!("oracle/visitors/{community}?all=1"))
        .await;
    let users: Vec<_> = expected
        .iter()
        .map(|visitor| visitor["user_id"].clone())
        .collect();
    assert_eq!(everybody["user_ids"], json!(users));

    // What the app writes itself is told, and so is a missing index.
    let told = tells(&sidecars[0], &["check"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(!told.out.contains("the app writes events"), "{told:?}");
    alter(
        &world,
        "INSERT INTO accounts_userevent (user_id, event_type, description, metadata, ip_address, user_agent, device_info,
                                         location_data, timestamp)
         SELECT user_id, event_type, '', '{}', ip_address, '', '{}', '{}', now() FROM accounts_userevent WHERE event_type = 'post_view';
         DROP INDEX IF EXISTS headcount_event_visitor",
    )
    .await;
    let told = tells(&sidecars[0], &["check"]);
    let twice = "the app writes events of the type \"post_view\" itself: 4 in the last day, beside 4 of the sidecar's";
    assert!(told.out.contains(twice), "{told:?}");
    assert!(
        told.out.contains("the index headcount_event_visitor is missing"),
        "{told:?}"
    );
    alter(
        &world,
        "CREATE INDEX headcount_event_visitor ON accounts_userevent ((metadata ->> 'community_id'), user_id, timestamp)",
    )
    .await;
    let told = tells(&sidecars[0], &["check"]);
    let earlier = "the index headcount_event_visitor is that of an earlier version, or of other columns";
    assert!(told.out.contains(earlier), "{told:?}");
    assert!(
        !told.out.contains("the index headcount_event_community"),
        "{told:?}"
    );
}

#[tokio::test]
async fn s36_past_visitors_that_take_too_long_are_answered_503() {
    let world = Wanted {
        database: "statement_timeout = \"1s\"".into(),
        ..Wanted::usual()
    };
    let world = world.start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let of_alice = format!("/history/{}", world.seeded.user("alice"));
    let pool = Postgres::shared().pool(world.database.name());
    let mut app = pool.begin().await.expect("a transaction");
    app.execute("LOCK TABLE accounts_userevent IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("a lock");
    for rest in ["/history", &of_alice] {
        let answer = alice.get(&world.visitors("rust", rest)).await;
        assert_eq!(answer.status(), 503, "{rest}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    app.rollback().await.expect("an end");
    pool.close().await;
    let answer = alice.json(&world.visitors("rust", "/history")).await;
    assert_eq!(answer["visitors"].as_array().map(Vec::len), Some(1));
}

/// How often the event table was read from end to end, by the server's counters: the store's own statements are counted,
/// whatever they are.
#[tokio::test]
async fn s33_no_statement_reads_the_whole_event_table() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(
        "INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 1000) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT 1 + n % 1000, 'page_view', 'Page view: /x',
                    jsonb_build_object('community_id', (n % 103)::text, 'source', 'headcount', 'url', '/x'),
                    'Firefox', '{}', '{}', timestamptz '2024-03-01' + n * interval '10 seconds'
             FROM generate_series(0, 99999) AS n",
    )
    .await;
    migrate(&site.config, false).await.unwrap();
    site.execute("ANALYZE").await;
    // What the sidecar has written in a community is found without a look into the `metadata` of each row.
    let plan = site
        .rows(
            "EXPLAIN SELECT user_id, timestamp FROM accounts_userevent
             WHERE event_type = 'page_view' AND left(metadata ->> 'community_id', 256) = '42'
               AND (CASE WHEN metadata ->> 'source' = 'headcount' THEN 1 ELSE 0 END) = 1
               AND timestamp >= '2024-03-02' AND timestamp < '2024-03-12'",
        )
        .await;
    let plan: Vec<String> = plan.into_iter().flatten().flatten().collect();
    assert!(
        !plan
            .iter()
            .any(|step| step.contains("Filter") || step.contains("headcount_event_visitor")),
        "{plan:#?}"
    );
    let uses =
        "SELECT idx_scan::text FROM pg_stat_user_indexes WHERE indexrelname = 'headcount_event_visitor'";
    let before = site.sequential_scans("accounts_userevent").await;

    let window = PastWindow {
        community: CommunityId::from("42"),
        from: at("2024-03-02T00:00:00Z"),
        to: at("2024-03-12T00:00:00Z"),
    };
    let mut found = Vec::new();
    for sort in [PastSort::LastVisit, PastSort::VisitCount, PastSort::FirstVisit] {
        let mut after = None;
        for _ in 0..2 {
            let asked = PastAsked::Page {
                sort,
                after,
                limit: 50,
            };
            let page = site.store.past_visitors(&window, &asked).await.unwrap();
            assert_eq!(page.len(), 50, "{sort:?}");
            after = page.last().map(|last| PastPlace {
                value: last.value(sort),
                user: last.user_id.clone(),
            });
            found.extend(page);
        }
    }
    let one = PastAsked::One(found[0].user_id.clone());
    assert_eq!(site.store.past_visitors(&window, &one).await.unwrap(), found[..1]);
    let stats = site
        .store
        .stats(&window.community, window.from, window.to)
        .await
        .unwrap();
    assert!(stats.page_views > 500, "{stats:?}");
    site.store.close().await;
    assert_eq!(site.sequential_scans("accounts_userevent").await, before);
    assert_ne!(site.text(uses).await, "0");
}
