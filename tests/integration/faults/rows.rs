//! Single rows that the database does not take, and a database that takes none: others go on, and nothing is lost.

use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::{Made, NEVER, all_dropped, text};
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::world::{Wanted, World};

const LETTERS: &str = "headcount_dead_letters";

/// Fails each insert of an event for which `condition` holds, as a trigger of the app's would.
async fn refuse(pool: &PgPool, condition: &str, code: &str) {
    let sql = format!(
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'secret of %', NEW.description USING ERRCODE = '{code}'; END $$;
         CREATE TRIGGER refuses BEFORE INSERT ON accounts_userevent FOR EACH ROW
         WHEN ({condition}) EXECUTE FUNCTION refuses()"
    );
    pool.execute(AssertSqlSafe(sql)).await.expect("it is made");
}

/// A sidecar that spools eight views as one row, with further settings of its database.
fn with_rows_of_eight(database: &str) -> Wanted {
    Wanted {
        database: database.into(),
        record: "batch_views = 8".into(),
        batch_age: NEVER,
        config: "[spool]\nmax_unspooled = \"10s\"".into(),
        ..Wanted::usual()
    }
}

async fn names(world: &World) -> [(&'static str, Member); 4] {
    [
        ("alice", world.member("alice").await),
        ("bob", world.member("bob").await),
        ("carol", world.member("carol").await),
        ("dave", world.member("dave").await),
    ]
}

#[tokio::test]
async fn w21_a_profile_that_somebody_holds_locked_keeps_nobody_else_from_being_recorded() {
    let world = with_rows_of_eight("lock_timeout = \"50ms\"").start().await;
    let members = names(&world).await;
    let pool = Postgres::shared().pool(world.database.name());
    let mut transaction = pool.begin().await.unwrap();
    let lock = "SELECT 1 FROM accounts_userprofile p JOIN auth_user u ON p.user_id = u.id
                WHERE u.username = 'alice' FOR NO KEY UPDATE OF p";
    let locked = transaction.execute(lock).await.unwrap();
    assert_eq!(locked.rows_affected(), 1);
    let mut made = Made::default();
    for _ in 0..2 {
        for (name, member) in &members {
            made.sees(name, member, &["/about/"]).await;
        }
    }
    world
        .sidecar
        .wait_for_metric("headcount_applied_views_total", |views| views == 6.0)
        .await;
    let views = world.page_views().await;
    assert!(views.iter().all(|view| view["username"] != "alice"));
    transaction.rollback().await.unwrap();
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
    assert_eq!(world.sidecar.metric(LETTERS).await, 0.0);
}

/// Eight views in one row of the spool take longer than a statement may; each alone does not.
#[tokio::test]
async fn w21_a_row_that_takes_longer_than_a_statement_may_is_split_until_it_does_not() {
    let world = with_rows_of_eight("statement_timeout = \"400ms\"").start().await;
    let members = names(&world).await;
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute(
        "CREATE FUNCTION is_slow() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
         CREATE TRIGGER is_slow BEFORE INSERT ON accounts_userevent FOR EACH ROW
         WHEN (NEW.event_type = 'page_view') EXECUTE FUNCTION is_slow()",
    )
    .await
    .unwrap();
    let mut made = Made::default();
    for _ in 0..2 {
        for (name, member) in &members {
            made.sees(name, member, &["/about/"]).await;
        }
    }
    let sidecar = &world.sidecar;
    sidecar
        .wait_for_metric("headcount_applied_views_total", |views| views == 8.0)
        .await;
    pool.execute("DROP TRIGGER is_slow ON accounts_userevent")
        .await
        .unwrap();
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
    assert_eq!(sidecar.metric(LETTERS).await, 0.0);
}

/// The slug of one view cannot be looked up: somebody holds the table's rows, or it is another's.
#[tokio::test]
async fn w21_a_community_that_cannot_be_looked_up_keeps_no_other_view() {
    let fragile = super::Fragile::start(Wanted {
        database: "lock_timeout = \"50ms\"".into(),
        ..Wanted::usual()
    })
    .await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(world).await;
    fragile.database.refuse().await;
    alice.sees("/c/rust/").await;
    // Before the other, so that it is tried first.
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 1.0)
        .await;
    made.sees("alice", &alice, &["/about/"]).await;
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 2.0)
        .await;
    // What a row-level policy or a view of the app may do with one row.
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute("ALTER TABLE communities_community RENAME COLUMN slug TO slug_of_old")
        .await
        .unwrap();
    pool.execute(
        "CREATE FUNCTION secret(text) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not for you' USING ERRCODE = '42501'; END $$;
         ALTER TABLE communities_community RENAME TO hidden;
         CREATE VIEW communities_community AS SELECT *, secret(slug_of_old)::varchar AS slug FROM hidden",
    )
    .await
    .unwrap();
    fragile.database.resume().await;
    world
        .sidecar
        .wait_for_metric("headcount_applied_views_total", |views| views == 2.0)
        .await;
    pool.execute(
        "DROP VIEW communities_community; ALTER TABLE hidden RENAME TO communities_community;
         ALTER TABLE communities_community RENAME COLUMN slug_of_old TO slug",
    )
    .await
    .unwrap();
    made.note("alice", "/c/rust/");
    made.are_recorded(world).await;
    assert_eq!(all_dropped(world).await, 0.0);
}

#[tokio::test]
async fn w22_a_row_that_the_database_fails_at_becomes_one_dead_letter_whatever_it_says() {
    for code in ["54000", "42501", "XX001"] {
        let world = Wanted::usual().start().await;
        let pool = Postgres::shared().pool(world.database.name());
        refuse(&pool, "NEW.description LIKE '%posts%'", code).await;
        let members = names(&world).await;
        let mut made = Made::default();
        members[0]
            .1
            .sees(&format!("{}posts/1/", world.community("rust")))
            .await;
        for (name, member) in &members {
            made.sees(name, member, &["/about/"]).await;
        }
        world
            .sidecar
            .wait_for_metric(LETTERS, |letters| letters == 1.0)
            .await;
        made.are_recorded(&world).await;
        assert_eq!(all_dropped(&world).await, 0.0);
    }
}

#[tokio::test]
async fn w24_a_database_that_refuses_everything_makes_no_dead_letters_and_all_is_written_later() {
    let world = Wanted {
        record: "batch_views = 16".into(),
        batch_age: NEVER,
        ..Wanted::usual()
    };
    let world = world.start().await;
    let members = names(&world).await;
    let pool = Postgres::shared().pool(world.database.name());
    refuse(&pool, "NEW.event_type = 'page_view'", "P0001").await;
    let mut made = Made::default();
    for _ in 0..4 {
        for (name, member) in &members {
            made.sees(name, member, &["/about/"]).await;
        }
    }
    let readyz = world.sidecar.admin_url("/readyz");
    eventually(async || {
        text(&readyz)
            .await
            .1
            .contains("takes no page view and they wait; see the log: code P0001")
    })
    .await;
    let (status, ready) = text(&readyz).await;
    assert_eq!(status, 200);
    assert!(!ready.contains("secret"), "{ready}");
    assert_eq!(world.sidecar.metric(LETTERS).await, 0.0);
    pool.execute("DROP TRIGGER refuses ON accounts_userevent")
        .await
        .unwrap();
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
    assert_eq!(
        world.sidecar.metric("headcount_dead_letters_made_total").await,
        0.0
    );
    eventually(async || text(&readyz).await == (200, "ok\n".into())).await;
    world.sidecar.says("no page view is passed over any more");
}

/// Codes that say of a statement of ours that it can never succeed: an app's trigger may raise them for one row.
#[tokio::test]
async fn w22_what_an_apps_trigger_raises_is_the_rows_affair_whatever_the_code() {
    let world = Wanted::usual().start().await;
    let pool = Postgres::shared().pool(world.database.name());
    let raising = |name: &str, code: &str, trigger: &str| {
        format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '{code}'; END $$;
             CREATE TRIGGER {name} BEFORE {trigger} EXECUTE FUNCTION {name}()"
        )
    };
    let insert = |post: u8| {
        format!("INSERT ON accounts_userevent FOR EACH ROW WHEN (NEW.metadata::text LIKE '%posts/{post}/%')")
    };
    let members = names(&world).await;
    let dave = world.seeded.user("dave");
    let update = format!("UPDATE ON accounts_usersession FOR EACH ROW WHEN (NEW.user_id = {dave})");
    for sql in [
        raising("first", "55000", &insert(1)),
        raising("second", "42809", &insert(2)),
        raising("third", "55000", &update),
    ] {
        pool.execute(AssertSqlSafe(sql)).await.expect("it is made");
    }
    let [(_, alice), _, _, (_, dave)] = &members;
    let rust = world.community("rust");
    let mut made = Made::default();
    for path in [format!("{rust}posts/1/"), format!("{rust}posts/2/")] {
        alice.sees(&path).await;
    }
    dave.sees(&rust).await;
    for (name, member) in &members[..3] {
        made.sees(name, member, &["/about/"]).await;
    }
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 3.0)
        .await;
    made.are_recorded(&world).await;
    let (_, ready) = text(&world.sidecar.admin_url("/readyz")).await;
    assert!(!ready.contains("page views are written, but not"), "{ready}");
    assert_eq!(all_dropped(&world).await, 0.0);
}
