//! One look at the database: what it finds, and that nothing of it is remembered from before.

use std::sync::Arc;
use std::time::Duration;

use headcount::store;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{DEFAULTS, event_table};
use crate::store_site::{Site, Variant};

#[tokio::test]
async fn one_look_finds_everything_and_is_read_anew_each_time() {
    for variant in DEFAULTS {
        let site = Site::new(variant).await;
        let store = store::open(&site.config).expect("a store");
        assert!(store.keys().get().is_none(), "{variant:?}");
        let long: Arc<str> = "x".repeat(300).into();
        let types = [Arc::clone(&long), "page_view".into()];
        let faulty = async || {
            let found = store.inspect(&types, None).await.expect("the database answers");
            assert_eq!(found.tables, [], "{variant:?}");
            assert!(found.ledger.expect("it was looked at").is_none(), "{variant:?}");
            let faulty = found.faulty_types.expect("the types were asked about");
            faulty.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(faulty().await, [long], "{variant:?}");
        // What was read serves what follows.
        assert!(store.keys().get().is_some(), "{variant:?}");
        if variant.is_postgres() {
            let table = event_table(variant);
            let wider = format!("ALTER TABLE {table} ALTER COLUMN event_type TYPE varchar(300)");
            site.execute(&wider).await;
            assert!(faulty().await.is_empty());
        }
        store.close().await;
    }
}

/// What holds the ledger holds up neither what was read of the tables, nor what follows from them.
#[tokio::test]
async fn what_is_not_looked_at_in_time_says_so_and_the_rest_is_known() {
    let site = Site::new(Variant::PostgresDefault).await;
    let url = site.config.database.url.clone().expect("a URL");
    let mut other = PgConnection::connect(url.expose()).await.expect("a connection");
    other
        .execute("BEGIN; LOCK TABLE headcount.format IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("the lock");
    let store = store::open(&site.config).expect("a store");
    let found = store
        .inspect(&["page_view".into()], Some(Duration::from_secs(2)))
        .await;
    let found = found.expect("what was found");
    assert_eq!(found.tables, []);
    assert!(found.ledger.is_err() && found.faulty_types.is_err(), "{found:?}");
    assert!(found.incomplete().is_some());
    assert!(store.keys().get().is_some(), "the keys' types are known");
    other.close().await.expect("closed");
    let found = store
        .inspect(&["page_view".into()], None)
        .await
        .expect("an answer");
    assert!(found.incomplete().is_none(), "{found:?}");
    store.close().await;
}
