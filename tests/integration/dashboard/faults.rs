//! Parts are away: the dashboard says which, and what is true all the same; and says the same as `/readyz`.

use serde_json::{Value, json};

use super::{report, report_in_which, visitors};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::{self, eventually};
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

/// A world whose sidecar reaches Postgres and Redis through proxies, and gives up on them within the test's patience.
pub(super) async fn fragile() -> (World, Proxy, Proxy) {
    let database = Proxy::before(Postgres::shared().port()).await;
    let redis = Proxy::before(redis::shared().port()).await;
    let world = Wanted {
        database_port: Some(database.port()),
        redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
        redis_keys: "connect_timeout = \"300ms\"\nresponse_timeout = \"300ms\"".into(),
        session: "cache_ttl = \"1h\"".into(),
        ..Wanted::usual()
    };
    (world.start().await, database, redis)
}

/// The lines of `/readyz` are those of the dashboard, where they are the same before and after it answers.
async fn agrees_with_readyz(sidecar: &Sidecar) {
    let readyz = async || {
        let response = reqwest::get(sidecar.admin_url("/readyz")).await.unwrap();
        response.text().await.unwrap()
    };
    eventually(async || {
        let text = readyz().await;
        let report = report(sidecar).await;
        if readyz().await != text {
            return false;
        }
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("degraded: "))
            .collect();
        assert!(!lines.is_empty(), "{text}");
        assert_eq!(json!(lines), report["degraded"]);
        assert_eq!(text.lines().next(), report["state"].as_str());
        true
    })
    .await;
}

fn says(report: &Value, what: &str) -> bool {
    let lines = report["degraded"].as_array().expect("a list");
    lines
        .iter()
        .any(|line| line.as_str().is_some_and(|line| line.contains(what)))
}

#[tokio::test]
async fn while_redis_hangs_counts_are_marked_stale_and_afterwards_not() {
    let (world, _database, redis) = fragile().await;
    let sidecar = &world.sidecar;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let rust = world.seeded.community("rust");
    report_in_which(sidecar, |report| visitors(report).get(&*rust) == Some(&1)).await;

    redis.hang();
    let report = report_in_which(sidecar, |report| {
        report["visitors"]["stale"] == json!(true) && report["redis"]["state"] == "down"
    })
    .await;
    assert_eq!(visitors(&report).get(&*rust), Some(&1), "she is remembered");
    assert!(says(&report, "redis does not answer"), "{report}");
    assert!(report["redis"]["since"].as_str() > report["started_at"].as_str());
    agrees_with_readyz(sidecar).await;

    redis.resume().await;
    let report = report_in_which(sidecar, |report| report["visitors"]["stale"] == json!(false)).await;
    assert_eq!(visitors(&report).get(&*rust), Some(&1));
}

#[tokio::test]
async fn a_redis_that_never_answered_is_not_nobody() {
    let wanted = Wanted {
        redis: Some("redis://127.0.0.1:9".into()),
        ..Wanted::usual()
    };
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let report = report_in_which(&sidecar, |report| report["visitors"]["state"] == "unknown").await;
    assert_eq!(report["visitors"]["communities"], json!([]));
    assert_eq!(report["redis"]["state"], "down");
    assert!(
        says(&report, "redis does not answer (server 127.0.0.1:9)"),
        "{report}"
    );
    agrees_with_readyz(&sidecar).await;
}

#[tokio::test]
async fn while_the_database_is_away_it_tells_how_much_waits_and_since_when() {
    let (world, database, _redis) = fragile().await;
    let sidecar = &world.sidecar;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;

    database.refuse().await;
    for _ in 0..3 {
        alice.sees(&world.community("rust")).await;
    }
    let report = report_in_which(sidecar, |report| {
        report["database"]["state"] == "down" && report["recording"]["spool_views"] == json!(3.0)
    })
    .await;
    assert!(says(&report, "the database does not answer"), "{report}");
    assert!(report["database"]["since"].as_str() > report["started_at"].as_str());
    assert!(report["recording"]["spool_bytes"].as_f64() > Some(0.0));
    assert_eq!(report["page_views"]["total"], 4);
    let rust = world.seeded.community("rust");
    assert_eq!(
        visitors(&report).get(&*rust),
        Some(&1),
        "who is here is known all the same"
    );
    report_in_which(sidecar, |report| {
        report["recording"]["oldest_seconds"].as_f64() > Some(0.0)
    })
    .await;
    agrees_with_readyz(sidecar).await;

    database.resume().await;
    let report = report_in_which(sidecar, |report| {
        report["database"]["state"] == "up" && report["recording"]["spool_views"] == json!(0.0)
    })
    .await;
    assert_eq!(report["degraded"], json!([]));
    assert_eq!(world.wait_for_views(4).await.len(), 4);
}

#[tokio::test]
async fn faulty_route_files_are_told_and_mended_ones_not() {
    let sidecar = World::shared().await.another_sidecar(&Wanted::usual());
    let file = sidecar.directory().join("routes.d/site.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[[route]]\nname = 1\n").unwrap();
    sidecar.signal("HUP");
    let report = report_in_which(&sidecar, |report| report["routes"]["ok"] == json!(false)).await;
    assert!(says(&report, "the route files are faulty"), "{report}");
    assert_eq!(report["routes"]["count"], 5, "the last good ones stay in use");
    agrees_with_readyz(&sidecar).await;
    std::fs::write(&file, good).unwrap();
    sidecar.signal("HUP");
    let report = report_in_which(&sidecar, |report| report["routes"]["ok"] == json!(true)).await;
    assert!(!says(&report, "the route files are faulty"), "{report}");
}
