//! The app's own code on a table with counters: Django's ORM and migrations notice nothing.

use serde_json::Value;

use super::{ON, agree, by_the_columns, command, execute, start, text, wanted};
use crate::support::backend::{Variant, manage};
use crate::support::world::{Parts, Wanted};

/// Columns that the model has.
#[tokio::test]
async fn k3_a_row_that_the_app_has_locked_or_overwritten_delays_only_its_own_counter() {
    let world = start(wanted()).await;
    let alice = world.member("alice").await;
    let pool = crate::support::postgres::Postgres::shared().pool(world.database.name());
    let mut app = pool.begin().await.expect("a transaction");
    let rust = world.seeded.community("rust");
    sqlx::query("SELECT 1 FROM communities_community WHERE id = $1 FOR UPDATE")
        .bind(rust.parse::<i64>().expect("a number"))
        .execute(&mut *app)
        .await
        .expect("locked");
    alice.sees(&world.community("rust")).await;
    alice.sees(&world.community("django")).await;
    // Events, sessions and profiles are written, and the other community.
    world.wait_for_views(2).await;
    world
        .sidecar
        .wait_for_metric("headcount_counters_pending", |pending| pending >= 1.0)
        .await;
    world
        .sidecar
        .wait_for_metric("headcount_counters_written_total", |written| written >= 1.0)
        .await;
    assert_eq!(by_the_columns(&world, "django").await["page_views"], 1);
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 0);
    let told = command(&world.sidecar, &["counters", "verify", "--community", "rust"]);
    assert!(
        told.out.contains("1 community waits for the sidecar"),
        "{}",
        told.out
    );
    assert_eq!(
        world
            .sidecar
            .metric("headcount_counters_failures_total{operation=\"write\"}")
            .await,
        0.0
    );
    // The app writes back what it has read, as `save()` does: the next write puts it right.
    sqlx::query("UPDATE communities_community SET page_views = 0, total_visitors = 77, current_visitors = 5")
        .execute(&mut *app)
        .await
        .expect("written");
    app.commit().await.expect("committed");
    pool.close().await;
    alice.sees(&world.community("django")).await;
    world.wait_for_views(3).await;
    agree(&world, &alice).await;
    assert_ne!(
        by_the_columns(&world, "rust").await["visitors_updated_at"],
        Value::Null
    );
}

/// Columns that only the database knows.
#[tokio::test]
async fn k8_django_never_notices_columns_that_migrate_has_added() {
    for parts in [Parts::Production, Parts::Embedded] {
        let wanted = Wanted {
            config: ON.into(),
            ..Wanted::new(parts, Variant::Default)
        };
        let world = start(wanted).await;
        let url = world.database.url();
        let run = |arguments: &[&str]| manage(Variant::Default, &url, arguments);
        run(&["migrate", "--no-input", "--verbosity", "0"]);
        run(&["makemigrations", "--check", "--dry-run"]);
        run(&["seed", "--members", "zoe", "--communities", "77:new"]);
        let communities = world.site.ask("oracle/communities").await;
        assert_eq!(communities.as_array().map(Vec::len), Some(4), "{communities}");
        // Back and forth: the table itself is made anew.
        run(&["migrate", "communities", "zero", "--verbosity", "0"]);
        run(&["migrate", "--no-input", "--verbosity", "0"]);
        let told = command(&world.sidecar, &["migrate"]);
        assert_eq!(told.code, Some(0), "{}", told.err);
        assert!(told.out.contains("page_views"), "{}", told.out);
        let told = command(&world.sidecar, &["migrate"]);
        assert_eq!(told.out.trim(), "nothing to do");
        let told = command(&world.sidecar, &["check"]);
        assert_eq!(told.code, Some(0), "{}", told.err);
    }
}

/// Reconciliation by itself: when it is time, all counters are compared, and put right.
#[tokio::test]
async fn k5_k11_once_a_day_counters_are_compared_and_put_right() {
    let world = start(wanted()).await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    alice.sees(&world.community("django")).await;
    world.wait_for_views(2).await;
    agree(&world, &alice).await;
    world
        .sidecar
        .wait_for_metric("headcount_counters_last_reconciliation_timestamp_seconds", |at| {
            at > 0.0
        })
        .await;
    // The app deletes events, something else writes who is there, and a day has passed: but one community was counted anew
    // meanwhile.
    execute(
        &world,
        "DELETE FROM accounts_userevent WHERE metadata ->> 'community_id' = '43';
         UPDATE communities_community SET current_visitors = 9 WHERE id IN (42, 43);
         UPDATE headcount.counter SET checked_at = CASE community WHEN '42' THEN now() ELSE '2024-01-01' END;
         UPDATE headcount.counter_lease SET passed_at = '2024-01-01'",
    )
    .await;
    world
        .sidecar
        .wait_for_metric("headcount_counters_repaired_total", |repaired| repaired == 3.0)
        .await;
    world
        .sidecar
        .wait_for_metric("headcount_counters_drift", |drift| drift == 2.0)
        .await;
    agree(&world, &alice).await;
    assert_eq!(by_the_columns(&world, "django").await["page_views"], 0);
    let checked = "SELECT bool_and(checked_at > now() - interval '1 hour')::text FROM headcount.counter";
    assert_eq!(text(&world, checked).await, "true");
    let told = world
        .sidecar
        .says("current_visitors was written by somebody else");
    assert!(
        told.contains("WARN") && told.contains("counters.current_visitors"),
        "{told}"
    );
    let log = world.sidecar.log();
    assert_eq!(
        log.matches("current_visitors was written by somebody else")
            .count(),
        1,
        "{log}"
    );
}
