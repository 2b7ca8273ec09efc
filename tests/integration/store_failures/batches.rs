//! Batches that a database does not take at once, or not as they are: locked, read-only, under another encoding, after a try
//! that may still be committed.

use std::pin::pin;
use std::time::Duration;

use headcount::store::{Class, StoreError};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::alices_view;
use crate::store_site::{SessionRow, Site, Variant, another, batch, page_view, token};
use crate::support::examined;
use crate::support::redis::eventually;
use crate::support::service::in_time;

#[tokio::test]
async fn w7_a_lock_that_the_app_holds_costs_at_most_the_lock_timeout_and_leaves_nothing() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = Site::with(variant, |config| {
            config.database.lock_timeout = Duration::from_millis(50);
        })
        .await;
        let (session, views) = alices_view(&site).await;
        let url = site.config.database.url.clone().unwrap();
        if variant.is_postgres() {
            let mut app = PgConnection::connect(url.expose()).await.unwrap();
            let mut transaction = app.begin().await.unwrap();
            transaction
                .execute("UPDATE accounts_userprofile SET last_active = now()")
                .await
                .unwrap();
            let error = site.store.apply(&views).await.unwrap_err();
            assert!(matches!(error, StoreError::Undone(_)), "{error:?}");
            assert_eq!(error.class(), Class::Contention);
            transaction.rollback().await.unwrap();
        } else {
            let mut app = sqlx::SqliteConnection::connect(url.expose()).await.unwrap();
            let transaction = app.begin_with("BEGIN IMMEDIATE").await.unwrap();
            // The ledger was not asked: it might be a former try that holds the lock.
            let error = site.store.apply(&views).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            assert_eq!(error.class(), Class::Contention);
            transaction.rollback().await.unwrap();
        }
        assert_eq!(site.pages_visited(&session).await, 0);
        site.store.apply(&views).await.unwrap();
        assert_eq!(site.pages_visited(&session).await, 1);
        assert_eq!(site.events().await.len(), 1);
    }
}

/// Django's foreign keys are deferred, and take a considerable part of a transaction. Here the check waits for the test.
#[tokio::test]
async fn w7_what_is_checked_of_events_is_checked_before_rows_are_locked_that_the_app_writes() {
    for is_copied in [true, false] {
        let site = Site::new(Variant::PostgresDefault).await;
        let (session, views) = alices_view(&site).await;
        site.execute(
            "CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON accounts_userevent DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()",
        )
        .await;
        if !is_copied {
            site.execute("CREATE RULE also AS ON INSERT TO accounts_userevent DO ALSO NOTHING")
                .await;
        }
        let mut test = site.postgres().begin().await.unwrap();
        test.execute("SELECT pg_advisory_xact_lock(7)").await.unwrap();
        let store = site.store.clone();
        let written = tokio::spawn(async move { store.apply(&views).await });
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                                    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)::text";
        eventually(async || site.text(waits).await == "true").await;
        let mut app = site.postgres().begin().await.unwrap();
        for table in ["accounts_usersession", "accounts_userprofile"] {
            let lock = format!("SELECT FROM {table} FOR NO KEY UPDATE NOWAIT");
            let locked = sqlx::query(sqlx::AssertSqlSafe(lock)).fetch_all(&mut *app).await;
            assert_eq!(locked.expect("it is not locked").len(), 1);
        }
        app.rollback().await.unwrap();
        test.rollback().await.unwrap();
        written.await.unwrap().unwrap();
        assert_eq!(site.pages_visited(&session).await, 1);
        assert_eq!(site.events().await.len(), 1);
    }
}

/// As it deletes a user after the user's sessions. The batch has locked the user's row already, to which its events refer, and
/// waits for the session's.
#[tokio::test]
async fn w7_an_app_that_locks_a_user_whose_batch_is_written_does_not_fail() {
    let site = Site::with(Variant::PostgresDefault, |config| {
        config.database.lock_timeout = headcount::config::Database::default().lock_timeout;
    })
    .await;
    let (session, views) = alices_view(&site).await;
    let (mut app, mut watch) = (
        site.postgres().acquire().await.unwrap(),
        site.postgres().acquire().await.unwrap(),
    );
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *app)
        .await
        .unwrap();
    let mut waits = async || {
        let waits = "SELECT cardinality(pg_blocking_pids($1)) > 0";
        let waits = sqlx::query_scalar::<_, bool>(waits)
            .bind(pid)
            .fetch_one(&mut *watch);
        waits.await.unwrap()
    };
    app.execute("BEGIN; SELECT FROM accounts_usersession FOR UPDATE")
        .await
        .unwrap();
    // The app locks the user until it has to wait for that, in the middle of a try of the batch.
    let locks = async {
        let mut has_waited = false;
        while !has_waited {
            app.execute("SAVEPOINT before").await.unwrap();
            {
                let mut lock = pin!(app.execute("SELECT FROM accounts_userprofile FOR UPDATE"));
                let locked = loop {
                    tokio::select! {
                        locked = &mut lock => break locked,
                        waits = waits() => has_waited |= waits,
                    }
                };
                assert_eq!(locked.expect("the app goes on").rows_affected(), 1);
            }
            app.execute("ROLLBACK TO before").await.unwrap();
        }
        app.execute("ROLLBACK").await.unwrap();
    };
    let tries = async {
        loop {
            match site.store.apply(&views).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error.class(), Class::Contention, "{error:?}"),
            }
        }
    };
    in_time("the batch", async { tokio::join!(tries, locks) }).await;
    assert_eq!(site.pages_visited(&session).await, 1);
    assert_eq!(site.events().await.len(), 1);
}

#[tokio::test]
async fn w9_a_read_only_database_is_worth_another_try() {
    let site = Site::new(Variant::PostgresDefault).await;
    let (session, views) = alices_view(&site).await;
    let database = site.text("SELECT current_database()::text").await;
    let read_only = async |on: &str| {
        site.execute(&format!(
            "ALTER DATABASE {database} SET default_transaction_read_only = {on}"
        ))
        .await;
    };
    read_only("on").await;
    let store = site.reconfigured(|_| {});
    let error = store.apply(&views).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(error.class(), Class::ReadOnly);
    let lookup = async || store.browser_session(&token("token-of-alice")).await.unwrap();
    assert!(lookup().await.is_some(), "reading goes on");
    store.apply(&views).await.unwrap_err();
    // The site's own connections were made before and may write.
    read_only("off").await;
    // Connections that turned out to be read-only were not kept.
    store.apply(&views).await.unwrap();
    assert_eq!(site.pages_visited(&session).await, 1);
}

/// What the app risks for its own rows is not risked for what leaves the spool.
#[tokio::test]
async fn w16_what_is_committed_is_on_disk_whatever_the_app_has_chosen() {
    let site = Site::new(Variant::PostgresDefault).await;
    let name = site.text("SELECT current_database()").await;
    site.execute(
        "CREATE TABLE seen (setting text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
         CREATE TRIGGER see AFTER INSERT ON accounts_userevent EXECUTE FUNCTION see()",
    )
    .await;
    let (_, views) = alices_view(&site).await;
    for (chosen, kept) in [
        ("off", "on"),
        ("local", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        site.execute(&format!(
            "TRUNCATE seen; ALTER DATABASE {name} SET synchronous_commit = {chosen}"
        ))
        .await;
        let store = site.reconfigured(|_| {});
        store.apply(&another(&views)).await.unwrap();
        assert_eq!(
            site.text("SELECT string_agg(setting, ',') FROM seen").await,
            kept,
            "{chosen}"
        );
        store.close().await;
    }
}

/// The numbers are right; of the text what can be kept is kept.
#[tokio::test]
async fn w17_a_character_that_the_database_lacks_costs_no_view() {
    let site = Site::in_latin1().await;
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let gardening = site.community("gardening").await;
    let view = |search: &str| {
        let mut view = page_view("2024-03-01T10:00:00Z");
        view.search_query = Some(search.into());
        view.user_agent = search.into();
        batch(&session, &gardening, vec![view])
    };
    for search in ["caf\u{e9}", "caf\u{e9} \u{1f600}"] {
        assert_eq!(
            site.store.apply(&view(search)).await.unwrap().views,
            1,
            "{search}"
        );
    }
    let written = "SELECT string_agg(metadata ->> 'search_query' || '=' || user_agent, ', ' ORDER BY id)
                   FROM accounts_userevent";
    assert_eq!(site.text(written).await, "caf\u{e9}=caf\u{e9}, caf? ?=caf? ?");
    assert_eq!(site.pages_visited(&session).await, 2);
    // Nobody has such a token, no community such a name.
    assert!(
        site.store
            .browser_session(&token("\u{1f600}"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(site.store.community_by_slug("\u{1f600}").await.unwrap().is_none());
    let said = examined::notes(&site.config).await.unwrap();
    assert!(said.concat().contains("encoding is LATIN1"), "{said:?}");
}

/// A try that was given up here may still be under way at the server: what fails meanwhile says nothing of it.
#[tokio::test]
async fn w27_while_a_former_try_may_still_be_committed_nothing_says_that_it_was_not_written() {
    let site = Site::new(Variant::PostgresDefault).await;
    let (session, views) = alices_view(&site).await;
    let store = site.reconfigured(|config| config.database.lock_timeout = Duration::from_millis(50));
    let key = views.parts[0].key;
    let mut former = site.postgres().begin().await.unwrap();
    sqlx::query("INSERT INTO headcount.applied_batch (writer_id, batch_seq) VALUES ($1, $2)")
        .bind(key.writer.uuid())
        .bind(key.seq)
        .execute(&mut *former)
        .await
        .unwrap();
    let error = store.apply(&views).await.unwrap_err();
    assert!(!error.nothing_written(), "{error:?}");
    former.commit().await.unwrap();
    let applied = store.apply(&views).await.unwrap();
    assert_eq!((applied.views, applied.known_parts), (0, 1));
    assert_eq!(site.pages_visited(&session).await, 0, "the former try's affair");
}
