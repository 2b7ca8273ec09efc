//! A site with Django's own sessions, whose members are accounts with profiles: the main job, end to end.

use reqwest::StatusCode;

use crate::support::backend::{Variant, text};
use crate::support::database::Database;
use crate::support::process::run;
use crate::support::sidecar::write_config;
use crate::support::world::{Parts, Wanted};

async fn members_are_known(parts: Parts) {
    let mut wanted = Wanted::new(parts, Variant::Django);
    match parts {
        Parts::Production => {
            wanted.settings.caches_sessions = true;
            wanted.session = "revocation = \"trigger\"\ncache_ttl = \"1h\"".into();
        }
        Parts::Embedded => wanted.session = "cache_ttl = \"1ms\"\nnegative_ttl = \"1ms\"".into(),
    }
    let (database, seeded) = Database::seeded(parts, Variant::Django).await;
    if parts == Parts::Production {
        // The trigger; everything else is there.
        let url = database.url();
        let config = format!(
            "[upstream]\nservers = [\"a:1\"]\n[database]\nurl = \"{url}\"\n[session]\nkind = \"django\"\n\
             revocation = \"trigger\"\n"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let file = write_config(folder.path(), &config, "");
        let told = run(&["migrate", "--config", file.to_str().expect("UTF-8")], &[]);
        assert_eq!(told.code, Some(0), "{}", told.err);
    }
    let world = wanted.start_on((database, seeded));
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let rust = world.community("rust");
    alice.sees(&rust).await;
    world.wait_for_views(1).await;
    bob.sees(&rust).await;
    world.stranger().sees(&rust).await;
    let views = world.wait_for_views(2).await;
    let who: Vec<_> = views.iter().map(|view| text(&view["user_id"])).collect();
    assert_eq!(who, ["alice", "bob"].map(|name| world.seeded.user(name)));

    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 2);
    let visitor = list["visitors"][1].as_object().expect("alice");
    assert_eq!(text(&visitor["user_id"]), world.seeded.user("alice"));
    let mut fields: Vec<_> = visitor.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["avatar", "last_seen_at", "user_id", "username"]);
    let stats = alice.json(&world.visitors("rust", "/stats")).await;
    assert_eq!(stats["page_views"], 2);
    assert!(stats.get("avg_session_duration").is_none(), "{stats}");

    // Django deletes the session; the browser still has its cookie.
    bob.sign_out().await;
    if parts == Parts::Production {
        let evicted = "headcount_session_evictions_total{reason=\"changed\"}";
        world.sidecar.wait_for_metric(evicted, |times| times >= 1.0).await;
    }
    let answer = bob.get(&world.visitors("rust", "")).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    // Somebody else signs in with the same browser.
    alice.sign_in("carol").await;
    alice.sees(&rust).await;
    let views = world.wait_for_views(3).await;
    assert_eq!(text(&views[2]["user_id"]), world.seeded.user("carol"));
}

#[tokio::test]
async fn i18_members_with_djangos_sessions_are_known_on_postgres() {
    members_are_known(Parts::Production).await;
}

#[tokio::test]
async fn i18_members_with_djangos_sessions_are_known_on_sqlite() {
    members_are_known(Parts::Embedded).await;
}
