//! Sidecars that share Redis and have different settings: what operators are told.

use headcount::store;
use serde_json::json;
use uuid::Uuid;

use crate::store_site::{Site, Variant, as_role};
use crate::support::member::Member;
use crate::support::process::run;
use crate::support::redis::eventually;
use crate::support::world::{Wanted, any_prefix};

#[tokio::test]
async fn p17_sidecars_with_different_windows_count_the_same_and_say_so() {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        record: "window = \"5m\"".into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let longer = Wanted {
        record: "window = \"10m\"".into(),
        ..wanted
    };
    let other = world.another_sidecar(&longer);
    let reader = world.another_sidecar(&Wanted {
        record: "window = \"20m\"\npresence = false".into(),
        ..longer.clone()
    });
    for (sidecar, own, others) in [(&world.sidecar, "5m", "10m"), (&other, "10m", "5m")] {
        sidecar
            .wait_for_metric("headcount_presence_settings_differ", |differ| differ == 1.0)
            .await;
        let difference = format!(
            "another sidecar on the same redis.key_prefix has record.window = \"{others}\", this one \"{own}\""
        );
        let ready = reqwest::get(sidecar.admin_url("/readyz")).await.unwrap();
        assert_eq!(ready.status(), 200);
        let ready = ready.text().await.unwrap();
        assert!(ready.contains(&format!("degraded: {difference}")), "{ready}");
        let escaped = difference.replace('"', "\\\"");
        let times = || {
            let log = sidecar.log();
            log.matches(&escaped).count() + log.matches(&difference).count()
        };
        eventually(async || times() > 0).await;
        assert_eq!(times(), 1, "{}", sidecar.log());
        let told = run(&["check", "--config", &sidecar.config()], &[]);
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.contains(&format!("note: {difference}")), "{told:?}");
    }
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    eventually(async || {
        let list = alice.json(&world.visitors("rust", "")).await;
        list["window_seconds"] == 600 && list["current_visitors"] == 1
    })
    .await;
    for sidecar in [&world.sidecar, &other] {
        let shown = reqwest::get(sidecar.admin_url("/dashboard.json")).await.unwrap();
        let shown: serde_json::Value = shown.json().await.unwrap();
        assert_eq!(shown["window_seconds"], 600);
    }
    // Its own window is of nobody.
    let alice = Member::new(reader.url(""));
    alice.sign_in("alice").await;
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["window_seconds"], &list["current_visitors"]),
        (&json!(600), &json!(1))
    );
    let told = run(&["check", "--config", &reader.config()], &[]);
    assert!(told.out.contains("this one records no presence"), "{told:?}");
}

#[tokio::test]
async fn p35_sites_that_share_a_prefix_are_told_of_each_other() {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        ..Wanted::usual()
    };
    let (one, other) = tokio::join!(wanted.clone().start(), wanted.start());
    for world in [&one, &other] {
        let sidecar = &world.sidecar;
        sidecar
            .wait_for_metric("headcount_presence_settings_differ", |differ| differ == 1.0)
            .await;
        let difference = "a sidecar of another site, with another database, uses the same redis.key_prefix";
        let ready = reqwest::get(sidecar.admin_url("/readyz")).await.unwrap();
        let ready = ready.text().await.unwrap();
        assert!(ready.contains(&format!("degraded: {difference}")), "{ready}");
        eventually(async || sidecar.log().contains(difference)).await;
        let told = run(&["check", "--config", &sidecar.config()], &[]);
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.contains(&format!("note: {difference}")), "{told:?}");
    }
}

#[tokio::test]
async fn p36_check_fails_where_redis_refuses_the_password_and_not_where_it_is_away() {
    let world = Wanted::usual().start().await;
    let check = |redis: &str| {
        let redis = [("HEADCOUNT__REDIS__URL", redis)];
        run(&["check", "--config", &world.sidecar.config()], &redis)
    };
    let away = check("redis://127.0.0.1:9/0");
    assert!(
        away.code == Some(0) && away.out.contains("note: Redis does not tell"),
        "{away:?}"
    );
    let url = crate::support::redis::shared().url();
    let wrong = check(&url.replace("redis://", "redis://nobody:secret@"));
    assert!(
        wrong.code == Some(64) && wrong.err.contains("correct redis.url") && !wrong.err.contains("secret"),
        "{wrong:?}"
    );
}

/// As on services that keep some functions of the server to themselves.
const NAMES_NO_SERVER: &str = "
    ALTER FUNCTION pg_catalog.pg_control_system() RENAME TO pg_control_system_of_the_server;
    CREATE FUNCTION pg_catalog.pg_control_system(OUT system_identifier bigint) LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'not on this service' USING ERRCODE = 'insufficient_privilege'; END $$;";

/// What identifies the site is asked for in the transaction that reads the tables, which fails with nothing of this.
#[tokio::test]
async fn p35_a_server_that_does_not_tell_which_one_it_is_answers_everything_else() {
    let (free, forbidden) = (
        "",
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC",
    );
    for (sql, way) in [
        (free, "server-"),
        (forbidden, "database-"),
        (NAMES_NO_SERVER, "database-"),
    ] {
        let site = Site::new(Variant::PostgresDefault).await;
        site.execute(sql).await;
        let role = format!("sidecar_{}", Uuid::new_v4().simple());
        site.execute(&format!("CREATE ROLE {role} LOGIN")).await;
        let grants = store::grants(&site.config, &role).await.expect("the rights");
        site.execute(&grants).await;
        let store = store::open(&as_role(&site.config, &role)).expect("a store");
        let found = store.community_by_slug("gardening").await;
        assert_eq!(found.expect("an answer"), None, "{sql}");
        let identity = store.state().site.get().expect("it is known");
        assert!(identity.starts_with(way), "{sql}: {identity}");
        store.close().await;
    }
}
