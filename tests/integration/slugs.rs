//! Communities named by their slugs in the API, and found by way of something that belongs to them.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::backend::Variant;
use crate::support::chromium::Chromium;
use crate::support::database::Database;
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::live::{Events, Socket};
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::sidecar::{ROUTES, Sidecar, write_config};
use crate::support::world::{Parts, Wanted};

fn keyed(key: &str, more: &str) -> Wanted {
    Wanted {
        config: format!("[api]\ncommunity_key = \"{key}\"\n{more}\n"),
        ..Wanted::usual().with_default_access()
    }
}

/// Everything by slug, with the access that is the default.
#[tokio::test]
async fn v23_with_slugs_every_path_takes_a_slug_and_answers_with_it() {
    let world = keyed("slug", "[widget]\ninject = true").start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    alice.sees("/c/rust/").await;
    world.wait_for_views(1).await;
    for rest in ["", "/count", "/stats"] {
        let answer = alice.json(&format!("/api/communities/rust/visitors{rest}")).await;
        assert_eq!(answer["community_id"], "rust", "{rest}");
        let id = world.seeded.community("rust");
        for unknown in ["nowhere", &*id, "django"] {
            let path = format!("/api/communities/{unknown}/visitors{rest}");
            assert_eq!(alice.get(&path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
    let counts = alice.json("/api/visitors/counts?communities=rust,nowhere").await;
    assert_eq!(
        counts["counts"],
        json!([{"community_id": "rust", "current_visitors": 1}])
    );
    let live = "/api/communities/rust/visitors/live";
    let mut socket = Socket::open(&world.sidecar, live, &alice).await;
    assert_eq!(socket.count().await.0, "rust");
    let mut events = Events::open(&world.sidecar, "/api/visitors/live?communities=rust,2024", &alice).await;
    let first = [events.next().await.unwrap(), events.next().await.unwrap()];
    let unknown = json!({"type": "unknown", "community_id": "2024"});
    assert!(first.contains(&unknown), "{first:?}");
    bob.sees(&world.community("rust")).await;
    assert_eq!(events.until(2).await, socket.until(2).await);
    world.member("carol").await.sees("/c/rust/").await;
    assert_eq!(socket.count().await.0, "rust", "each change, too");
    assert_eq!(events.count().await.0, "rust");
}

#[tokio::test]
async fn v23_with_either_an_id_is_an_id_and_the_rest_are_slugs() {
    let world = keyed("either", "").start().await;
    let alice = world.member("alice").await;
    alice.sees("/c/rust/").await;
    let id: Value = serde_json::from_str(&world.seeded.community("rust")).unwrap();
    for (asked, named) in [("rust".to_owned(), json!("rust")), (id.to_string(), id.clone())] {
        let answer = alice
            .json(&format!("/api/communities/{asked}/visitors/count"))
            .await;
        assert_eq!(answer["community_id"], named);
    }
    let live = "/api/communities/rust/visitors/live";
    let mut socket = Socket::open(&world.sidecar, live, &alice).await;
    assert_eq!(socket.count().await.0, "rust");
}

/// Elements that name the same community by its id and by its slug, on one connection.
#[tokio::test]
async fn v23_a_page_may_name_a_community_by_its_id_and_by_its_slug() {
    let world = keyed("either", "[widget]\ninject = true\n").start().await;
    let browser = Chromium::of(&world.member("alice").await).await;
    let community = world.seeded.community("rust");
    browser.open(&world.sidecar.url(&world.community("rust"))).await;
    let count = |name: &str| format!("document.querySelector('live-visitors[community=\"{name}\"]')?.count");
    browser.wait_for(&format!("{} === 1", count(&community))).await;
    browser
        .evaluate("document.body.append(Object.assign(document.createElement('live-visitors'), {community: 'rust'}))")
        .await;
    browser.wait_for(&format!("{} === 1", count("rust"))).await;
    world.member("bob").await.sees(&world.community("rust")).await;
    for name in [&*community, "rust"] {
        browser.wait_for(&format!("{} === 2", count(name))).await;
    }
    // One that goes takes nothing from the other.
    browser
        .evaluate("document.querySelector('live-visitors[community=\"rust\"]').remove()")
        .await;
    world.member("carol").await.sees(&world.community("rust")).await;
    browser.wait_for(&format!("{} === 3", count(&community))).await;
}

/// Pages that have an element of their own, by the community's other name than their tag's.
#[tokio::test]
async fn v23_an_element_of_the_page_itself_stays_the_only_one_by_whichever_name() {
    let server = FakeUpstream::answering(|request: &Heard| {
        let here = if request.target().contains("/posts/") { "here" } else { "" };
        let page = format!(
            "<!doctype html><title>By hand</title><h1>Rust</h1><live-visitors community=\"rust\" {here}></live-visitors>"
        );
        Reply::KeepBytes(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            )
            .into_bytes()
            .leak(),
        )
    })
    .await;
    let world = Wanted::usual().start().await;
    let sidecar = world.another_sidecar(&Wanted {
        servers: Some(vec![server.address()]),
        config: "[api]\ncommunity_key = \"either\"\naccess = \"public\"\n[widget]\ninject = true\n".into(),
        ..Wanted::usual()
    });
    let alice = world.member("alice").await.at(sidecar.url(""));
    let own = world.community("rust");
    // The community's slug is looked up for the page after the first.
    loop {
        let text = alice.navigation(&own).send().await.unwrap().text().await.unwrap();
        if text.contains("data-community-slug=\"rust\"") {
            break;
        }
    }
    let browser = Chromium::of(&alice).await;
    for page in [own.clone(), format!("{own}posts/1/")] {
        browser.open(&sidecar.url(&page)).await;
        // The script has run, and places what it places when the page is there.
        browser
            .wait_for(
                "document.readyState === 'complete' && document.querySelector('live-visitors')?.count === 1",
            )
            .await;
        let elements = "document.querySelectorAll('live-visitors').length === 1 \
                        && document.querySelector('script[data-community]') !== null";
        browser.wait_for(elements).await;
    }
}

/// The app is asked by slug, and the tag in its pages has a key that the API takes.
#[tokio::test]
async fn v24_pages_say_what_their_script_may_ask_for() {
    for (key, page, community) in [
        ("slug", "/c/rust/", "rust".to_owned()),
        ("slug", "", "rust".to_owned()),
        ("either", "/c/rust/", String::new()),
        ("id", "/c/rust/", String::new()),
    ] {
        let world = keyed(key, "[widget]\ninject = true\n").start().await;
        let alice = world.member("alice").await;
        let own = world.community("rust");
        let page = if page.is_empty() { &own } else { page };
        let community = if community.is_empty() {
            world.seeded.community("rust")
        } else {
            community
        };
        let tag = format!("data-community=\"{community}\"");
        // What is not known yet is looked up for the next page.
        let text = loop {
            let text = alice.navigation(page).send().await.unwrap().text().await.unwrap();
            if text.contains("data-community") {
                break text;
            }
        };
        assert!(text.contains(&tag), "{key}: {text}");
        let path = format!("/api/communities/{community}/visitors/count");
        assert_eq!(alice.get(&path).await.status(), StatusCode::OK, "{key}");
    }
}

#[tokio::test]
async fn v24_the_widget_shows_the_count_of_a_page_by_slug() {
    let world = keyed("slug", "[widget]\ninject = true\n").start().await;
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&world.sidecar.url("/c/rust/")).await;
    let count = "document.querySelector('live-visitors')?.count";
    browser.wait_for(&format!("{count} === 1")).await;
    world.member("bob").await.sees(&world.community("rust")).await;
    browser.wait_for(&format!("{count} === 2")).await;
}

#[tokio::test]
async fn v26_the_site_is_asked_by_slug() {
    let more = "access = \"backend\"\nbackend_check = \"/c/{community_slug}/\"";
    let world = keyed("either", more).start().await;
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    let id = world.seeded.community("hidden");
    for asked in ["hidden", &*id] {
        let path = format!("/api/communities/{asked}/visitors/count");
        assert_eq!(alice.get(&path).await.status(), StatusCode::OK, "{asked}");
        let refused = mallory.get(&path).await;
        let missing = mallory.get("/api/communities/nowhere/visitors/count").await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{asked}");
        assert_eq!(refused.text().await.unwrap(), missing.text().await.unwrap());
    }
}

/// A forum: its topics do not name their community.
fn forum(_: &Heard) -> Reply {
    Reply::Keep("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<p>A topic.</p>")
}

/// Routes with the forum's topics, which it shows to those who may see their community.
fn topics() -> String {
    format!(
        "[[route]]\nname = \"topic\"\npattern = '^/topic/(?P<topic>[^/]+)/[^/]+/$'\npage_type = \"topic\"\n\
         grants = true\n{ROUTES}"
    )
}

async fn with_topics(database: &Database, parts: Parts, rows: &[(i64, &str)], index: bool) {
    let key = if index { " PRIMARY KEY" } else { "" };
    let mut sql = vec![format!(
        "CREATE TABLE forum_topic (id bigint{key}, forum_id bigint)"
    )];
    sql.extend(
        rows.iter()
            .map(|(id, community)| format!("INSERT INTO forum_topic VALUES ({id}, {community})")),
    );
    for sql in sql {
        match parts {
            Parts::Production => {
                let pool = Postgres::shared().pool(database.name());
                pool.execute(AssertSqlSafe(sql)).await.expect("it is done");
                pool.close().await;
            }
            Parts::Embedded => {
                let pool = sqlx::SqlitePool::connect(&database.url())
                    .await
                    .expect("the file");
                pool.execute(AssertSqlSafe(sql)).await.expect("it is done");
                pool.close().await;
            }
        }
    }
}

const LOOKUP: &str = "[schema.lookup.topic]\ntable = \"forum_topic\"\ncommunity = \"forum_id\"\n";

async fn topics_are_counted_in_their_community(parts: Parts) {
    let wanted = Wanted {
        config: LOOKUP.into(),
        ..Wanted::new(parts, Variant::Default).with_default_access()
    };
    let (database, seeded) = Database::seeded(parts, Variant::Default).await;
    let rust = seeded.community("rust");
    with_topics(&database, parts, &[(7, &rust), (8, "NULL")], true).await;
    let world = Wanted::new(parts, Variant::Default).start_on((database, seeded));
    let server = FakeUpstream::answering(forum).await;
    let in_front = Wanted {
        servers: Some(vec![server.address()]),
        ..wanted
    };
    let config = in_front.configuration(&world.site, &world.database);
    let sidecar = Sidecar::start_with(&config, &topics());
    let alice = world.member("alice").await;
    let sees = async |path: &str| {
        let request = Member::new(sidecar.url(""))
            .navigation(path)
            .header("cookie", alice.cookie());
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    };
    for topic in ["7", "007", "8", "9", "abc"] {
        sees(&format!("/topic/{topic}/hello/")).await;
    }
    sidecar
        .wait_for_metric("headcount_applied_views_total", |views| views >= 5.0)
        .await;
    let views = world.page_views().await;
    let of = |topic: &str| {
        let url = format!("/topic/{topic}/hello/");
        let view = views.iter().find(|view| view["metadata"]["url"] == url).unwrap();
        view["metadata"]["community_id"]
            .to_string()
            .trim_matches('"')
            .to_owned()
    };
    assert_eq!((of("7"), of("007")), (rust.clone(), rust.clone()));
    for of_none in ["8", "9", "abc"] {
        assert!(!of(of_none).contains(&rust), "{of_none}: {}", of(of_none));
    }
    // Whoever saw a topic may see who is in its community, as its route says.
    let list = alice
        .at(sidecar.url(""))
        .request(reqwest::Method::GET, &world.visitors("rust", ""));
    let list = list.header("cookie", alice.cookie()).send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["current_visitors"], 1);
}

#[tokio::test]
async fn v25_a_topic_is_counted_in_its_community_on_postgres() {
    topics_are_counted_in_their_community(Parts::Production).await;
}

#[tokio::test]
async fn v25_a_topic_is_counted_in_its_community_on_sqlite() {
    topics_are_counted_in_their_community(Parts::Embedded).await;
}

/// What `check` says of a lookup.
async fn check_says(parts: Parts, lookup: &str, index: bool) -> (Option<i32>, String) {
    let (database, seeded) = Database::seeded(parts, Variant::Default).await;
    with_topics(&database, parts, &[(7, &seeded.community("rust"))], index).await;
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[database]\nurl = \"{}\"\n[upstream]\nservers = [\"127.0.0.1:1\"]\n[spool]\ndir = \"spool\"\n{lookup}",
        database.url()
    );
    let path = write_config(directory.path(), &config, &topics());
    let told = run(&["check", "--config", path.to_str().unwrap()], &[]);
    (told.code, told.out + &told.err)
}

#[tokio::test]
async fn v27_check_says_what_is_wrong_with_a_lookup() {
    for parts in [Parts::Production, Parts::Embedded] {
        let (code, said) = check_says(parts, LOOKUP, true).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("index"), "{said}");
        let (code, said) = check_says(parts, LOOKUP, false).await;
        assert_eq!(code, Some(0), "{said}");
        let no_index = "note: schema.lookup.topic: no index finds a row of forum_topic by id";
        assert!(said.contains(no_index), "{said}");
        for (faulty, sentence) in [
            (
                LOOKUP.replace("forum_topic", "forum_thread"),
                "there is no table forum_thread",
            ),
            (
                LOOKUP.replace("forum_id", "forum"),
                "has no column forum: set its community",
            ),
        ] {
            let (code, said) = check_says(parts, &faulty, true).await;
            assert_eq!(code, Some(64), "{said}");
            assert!(
                said.contains("schema.lookup.topic: ") && said.contains(sentence),
                "{said}"
            );
        }
    }
}

#[test]
fn v27_a_url_is_explained_with_its_lookup() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        format!("[upstream]\nservers = [\"127.0.0.1:1\"]\n[database]\nurl = \"sqlite://none\"\n{LOOKUP}");
    let path = write_config(directory.path(), &config, &topics());
    let config = path.to_str().unwrap();
    let told = run(&["routes", "--config", config, "test", "/topic/7/hello/"], &[]);
    let expected = "community  that of topic \"7\" (looked up as [schema.lookup.topic] says)";
    assert!(told.out.contains(expected), "{told:?}");
}
