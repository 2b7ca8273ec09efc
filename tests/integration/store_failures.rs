//! The database away, hung, restarted: what the store answers, and that it recovers.

mod batches;

use std::sync::Arc;
use std::time::Duration;

use headcount::batch::Batch;
use headcount::browser_session::BrowserSession;
use headcount::config::{Config, Secret};
use headcount::ids::CommunityId;
use headcount::store::{self, Class, Store, StoreError};
use sqlx::Executor as _;
use tokio::net::TcpListener;

use crate::store_site::{SessionRow, Site, Variant, another, batch, page_view, token};
use crate::support::log::Log;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::service::free_port;

/// A store on any URL whose every wait is short: for what fails.
fn impatient(url: &str) -> Arc<dyn Store> {
    store_that_waits(url, Duration::from_secs(2))
}

fn store_that_waits(url: &str, longest: Duration) -> Arc<dyn Store> {
    let mut config = Config::default();
    config.database.url = Some(Secret::new(url));
    config.database.acquire_timeout = longest;
    config.database.statement_timeout = longest;
    store::open(&config).expect("a store")
}

/// One view of Alice's.
async fn alices_view(site: &Site) -> (Arc<BrowserSession>, Batch) {
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let gardening = site.community("gardening").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    (session, views)
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_opening_succeeds() {
    let away = format!("postgres://nobody@127.0.0.1:{}/nothing", free_port());
    for url in [away.as_str(), "sqlite:///no/such/file.sqlite3"] {
        let store = impatient(url);
        let error = store.browser_session(&token("x")).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert_eq!(error.class(), Class::Connection);
        let error = store.ping().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
}

/// Whoever looks at the database need not wait for a pool that goes on trying.
#[tokio::test]
async fn d12_a_use_that_fails_rouses_the_look_at_the_database() {
    let away = format!("postgres://nobody@127.0.0.1:{}/nothing", free_port());
    let store = impatient(&away);
    let error = store.ping().await.unwrap_err();
    assert!(error.chain().contains("Connection refused"), "{}", error.chain());
    let state = store.state();
    store.browser_session(&token("x")).await.unwrap_err();
    state.check_database.notified().await;
}

/// What is said names who waited, for how long, and what to raise.
#[tokio::test]
async fn d27_who_waits_for_a_connection_of_a_small_pool_is_named_with_the_key() {
    let mut site = Site::new(Variant::PostgresDefault).await;
    site.config.database.max_connections = 1;
    let store = store::open(&site.config).expect("a store");
    // With a connection, and the tables known.
    store.community_by_slug("gardening").await.expect("an answer");
    let mut holder = site.postgres().acquire().await.expect("a connection").detach();
    holder
        .execute("BEGIN; LOCK TABLE accounts_usersession")
        .await
        .expect("a lock");
    let log = Log::default();
    let listening = log.listen();
    let state = store.state();
    let token = token("token-of-alice");
    let release = async {
        // Somebody has waited for so long that the database is looked at.
        state.check_database.notified().await;
        holder.execute("ROLLBACK").await.expect("it ends");
    };
    let (first, second, ()) = tokio::join!(
        store.browser_session(&token),
        store.community_by_slug("gardening"),
        release
    );
    first.expect("an answer");
    second.expect("an answer");
    drop(listening);
    let said = log.text();
    assert!(said.contains("a lookup of a community waited "), "{said}");
    assert!(
        said.contains(" s for a connection to the database: all 1 of this sidecar were in use"),
        "{said}"
    );
    assert!(said.contains("raise database.max_connections"), "{said}");
}

#[tokio::test]
async fn a_database_that_comes_up_later_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("db.sqlite3");
    let store = store_that_waits(&format!("sqlite://{}", place.display()), Duration::from_secs(60));
    store.browser_session(&token("token-of-alice")).await.unwrap_err();

    let site = Site::new(Variant::SqliteDefault).await;
    alices_view(&site).await;
    let url = site.config.database.url.clone().unwrap();
    let origin = url.expose().trim_start_matches("sqlite://").to_owned();
    std::fs::copy(origin, &place).unwrap();
    let found = store.browser_session(&token("token-of-alice")).await.unwrap();
    assert!(found.is_some());
}

/// Every operation ends although nobody ever answers; the test hangs if one does not.
#[tokio::test]
async fn a_hung_server_costs_the_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hung = tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            accepted.push(connection);
        }
    });
    let store = impatient(&format!("postgres://nobody@127.0.0.1:{port}/nothing"));
    for error in [
        store.browser_session(&token("x")).await.unwrap_err(),
        store.community_by_slug("x").await.unwrap_err(),
        store.community_by_key(&CommunityId::from("1")).await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert_eq!(error.class(), Class::Connection);
    }
    hung.abort();
}

/// A server that stops answering in the middle keeps neither the operation nor its place in the pool.
#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_and_used_again_when_it_answers() {
    let site = Site::new(Variant::PostgresDefault).await;
    alices_view(&site).await;
    let store = site.reconfigured(|config| {
        config.database.max_connections = 2;
        config.database.statement_timeout = Duration::from_secs(5);
        config.database.acquire_timeout = Duration::from_secs(60);
    });
    let lookup = async || store.browser_session(&token("token-of-alice")).await;
    assert!(lookup().await.unwrap().is_some());

    // An exclusive lock makes the server silent for this table alone.
    let mut app = site.postgres().begin().await.unwrap();
    app.execute("LOCK TABLE accounts_usersession IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    // More often than there are connections.
    for _ in 0..3 {
        let error = lookup().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    app.rollback().await.unwrap();
    assert!(lookup().await.unwrap().is_some());
}

#[tokio::test]
async fn after_a_restart_of_postgres_no_lookup_fails() {
    let mut server = Postgres::start();
    let database = server.database().await;
    let pool = server.pool(&database);
    pool.execute(include_str!("support/ddl/postgres_default.sql"))
        .await
        .unwrap();
    pool.execute("INSERT INTO communities_community (slug, name) VALUES ('gardening', 'Gardening')")
        .await
        .unwrap();
    pool.close().await;
    let mut config = Config::default();
    config.database.url = Some(Secret::new(server.url(&database)));
    config.database.acquire_timeout = Duration::from_secs(60);
    config.database.statement_timeout = Duration::from_secs(60);
    let store = store::open(&config).unwrap();
    let lookup = async || store.community_by_slug("gardening").await;
    // As many connections as may be open.
    let at_once = || futures_util::future::join_all((0..8).map(|_| lookup()));
    for found in at_once().await {
        assert!(found.unwrap().is_some());
    }

    server.kill();
    server.start_again();
    // Each of the pooled connections is dead now.
    for _ in 0..8 {
        assert!(lookup().await.unwrap().is_some());
    }
    for found in at_once().await {
        assert!(found.unwrap().is_some());
    }
    store.close().await;
}

#[tokio::test]
async fn after_its_connection_was_ended_a_batch_is_applied_once() {
    let site = Site::with(Variant::PostgresDefault, |config| {
        config.database.max_connections = 1;
    })
    .await;
    let (session, views) = alices_view(&site).await;
    site.store.apply(&views).await.unwrap();
    let ended = site
        .rows(
            "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'headcount'",
        )
        .await;
    assert_eq!(ended.len(), 1);
    site.store.apply(&another(&views)).await.unwrap();
    assert_eq!(site.pages_visited(&session).await, 2);
}

#[tokio::test]
async fn errors_tell_neither_token_nor_password_nor_row() {
    let site = Site::new(Variant::PostgresDefault).await;
    let (_, views) = alices_view(&site).await;
    // Postgres' DETAIL of a failed CHECK shows the whole row, token included.
    site.execute("ALTER TABLE accounts_usersession ADD CHECK (pages_visited < 1)")
        .await;
    let error = site.store.apply(&views).await.unwrap_err();
    let StoreError::Refused(_) = &error else {
        panic!("{error:?}")
    };
    let told = told(&error);
    assert!(told.contains("violates check constraint"), "{told}");
    assert!(!told.contains("token-of-alice"), "{told}");

    site.execute("ALTER TABLE accounts_usersession DROP session_id")
        .await;
    let error = site
        .store
        .browser_session(&token("token-of-alice"))
        .await
        .unwrap_err();
    assert!(!self::told(&error).contains("token-of-alice"), "{error:?}");

    let away = impatient(&format!("postgres://u:hunter2@127.0.0.1:{}/d", free_port()));
    let error = away.ping().await.unwrap_err();
    assert!(!self::told(&error).contains("hunter2"), "{error:?}");
}

/// All that a log could show of an error.
fn told(error: &StoreError) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    let texts: Vec<_> = causes.map(|error| format!("{error:?} {error}")).collect();
    texts.join(" ")
}

/// As `idle_session_timeout` does, and poolers with timeouts of their own.
#[tokio::test]
async fn w19_connections_that_the_server_closed_while_idle_are_no_outage() {
    let site = Site::new(Variant::PostgresDefault).await;
    let name = site.text("SELECT current_database()").await;
    site.execute(&format!("ALTER DATABASE {name} SET idle_session_timeout = '2s'"))
        .await;
    let store = site.reconfigured(|_| {});
    let (session, views) = alices_view(&site).await;
    let all_closed = async || {
        let open = "SELECT count(*)::text FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'headcount'";
        eventually(async || site.text(open).await == "0").await;
    };
    futures_util::future::join_all((0..8).map(|_| store.ping())).await;
    for _ in 0..3 {
        all_closed().await;
        store.ping().await.unwrap();
    }
    all_closed().await;
    assert!(
        store
            .browser_session(&token("token-of-alice"))
            .await
            .unwrap()
            .is_some()
    );
    all_closed().await;
    store.apply(&views).await.unwrap();
    assert_eq!(site.pages_visited(&session).await, 1);
}
