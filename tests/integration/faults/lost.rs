//! The database loses what it had acknowledged: a crash where commits need not be on disk, a failover to a replica that
//! lags.

use super::{Made, all_dropped};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::world::{Wanted, World};

const LOST: &str = "headcount_lost_parts_total";
const KEPT: &str = "headcount_spool_kept_bytes";

/// Page views, and pages of all sessions, as a server has them: the site's own connections may be those of before.
async fn written(server: &Postgres, world: &World) -> (i64, i64) {
    let pool = server.pool(world.database.name());
    let written = sqlx::query_as(
        "SELECT (SELECT count(*) FROM accounts_userevent WHERE metadata->>'source' = 'headcount'),
                (SELECT sum(pages_visited)::bigint FROM accounts_usersession)",
    );
    let written = written.fetch_one(&pool).await.expect("two numbers");
    pool.close().await;
    written
}

/// A crash of the server first, by which nothing is lost though the app risks its own commits; then a failover to a
/// replica that lacks the last page views.
#[tokio::test]
async fn w26_what_the_database_acknowledged_and_lost_is_written_again_and_once() {
    let mut primary = Postgres::start_with(&["synchronous_commit=off", "wal_writer_delay=10s"]);
    let database = Database::seeded_on(&primary, Variant::Default).await;
    let wanted = Wanted {
        // Nothing is asked for because its time is over.
        keep_applied: "1h",
        ..Wanted::usual()
    };
    let world = wanted.start_on(database);
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"; 20]).await;
    world.wait_for_views(20).await;
    primary.kill();
    primary.start_again();
    assert_eq!(written(&primary, &world).await, (20, 20));

    let replication = Proxy::before(primary.port()).await;
    let mut replica = Postgres::standby_of(replication.port());
    replica.has_all_of(&primary).await;
    replication.refuse().await;
    let sidecar = &world.sidecar;
    for views in [21.0, 22.0, 23.0] {
        alice.visits("/about/").await;
        sidecar
            .wait_for_metric("headcount_applied_views_total", |applied| applied >= views)
            .await;
    }
    assert_eq!(written(&primary, &world).await, (23, 23));
    assert_eq!(written(&replica, &world).await, (20, 20));
    let lost = sidecar.metric(LOST).await;
    primary.kill();
    replica.take_the_place_of(&primary).await;
    sidecar.wait_for_metric(LOST, |parts| parts >= lost + 3.0).await;
    sidecar.wait_until_idle().await;
    assert_eq!(written(&replica, &world).await, (23, 23));
    assert_eq!(all_dropped(&world).await, 0.0);
}

/// What is kept neither waits nor outlives its time, nor a process that ends in good order.
#[tokio::test]
async fn w26_what_is_kept_counts_as_written_and_goes_when_its_time_is_over_or_the_process_ends() {
    for keep_applied in ["100ms", "1h"] {
        let wanted = Wanted {
            keep_applied,
            ..Wanted::usual()
        };
        let mut world = wanted.start().await;
        let alice = world.member("alice").await;
        let mut made = Made::default();
        made.sees("alice", &alice, &["/about/"; 3]).await;
        made.are_recorded(&world).await;
        let sidecar = &mut world.sidecar;
        if keep_applied == "1h" {
            sidecar.wait_for_metric(KEPT, |bytes| bytes > 0.0).await;
        } else {
            sidecar.wait_for_metric(KEPT, |bytes| bytes == 0.0).await;
        }
        sidecar.signal("TERM");
        assert_eq!(sidecar.wait_for_end(), Some(0));
        let left = std::fs::read_dir(sidecar.directory().join("spool")).unwrap();
        assert_eq!(left.count(), 0, "{keep_applied}");
        made.are_exactly(&world.page_views().await);
    }
}
