//! One look at the database: what it finds, and that nothing of it is remembered from before.

use std::sync::Arc;

use headcount::store;

use super::{DEFAULTS, event_table};
use crate::store_site::Site;

#[tokio::test]
async fn one_look_finds_everything_and_is_read_anew_each_time() {
    for variant in DEFAULTS {
        let site = Site::new(variant).await;
        let store = store::open(&site.config).expect("a store");
        assert!(store.keys().get().is_none(), "{variant:?}");
        let long: Arc<str> = "x".repeat(300).into();
        let types = [Arc::clone(&long), "page_view".into()];
        let faulty = async || {
            let found = store.inspect(&types).await.expect("the database answers");
            assert_eq!(found.tables, [], "{variant:?}");
            assert!(found.ledger.is_none(), "{variant:?}");
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
