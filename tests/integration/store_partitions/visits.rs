//! The indexes of visits on a partitioned event table, where they are no longer wanted.

use headcount::config::Config;
use headcount::store::{Step, migrate};

use super::{begin_build, partitioned};
use crate::store_site::Site;

async fn left(site: &Site) -> String {
    site.text("SELECT coalesce(string_agg(relname, ' '), '') FROM pg_class WHERE relname LIKE 'headcount_event_visits%'")
        .await
}

/// Runs these steps of a build, leaves what is not attached invalid, and migrates to a configuration without the indexes.
async fn interrupted(site: &Site, steps: &[Step]) {
    begin_build(site, steps, "headcount_event_visits").await;
    assert_ne!(left(site).await, "");
    let shown = migrate(&site.config, true).await.expect("a plan");
    let done = migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(done, shown);
    assert_eq!(left(site).await, "", "after {} steps", steps.len());
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
}

/// At whatever step it ended; and while each was built beside a former one.
#[tokio::test]
async fn w14_of_an_interrupted_build_that_is_no_longer_wanted_nothing_is_left() {
    let site = partitioned().await;
    migrate(&site.config, false).await.expect("it is migrated");
    let mut wanted: Config = site.config.clone();
    wanted.record.visits_index = true;
    let plan = migrate(&wanted, true).await.expect("a plan");
    assert_eq!(plan.len(), 18, "{plan:?}");
    for done in 1..=plan.len() {
        interrupted(&site, &plan[..done]).await;
    }
    for done in [2, 4, 6] {
        migrate(&wanted, false).await.expect("it is migrated");
        site.execute(
            "UPDATE headcount.addition SET statement = 'other' WHERE name LIKE 'headcount_event_visits%'",
        )
        .await;
        let plan = migrate(&wanted, true).await.expect("a plan");
        assert!(plan[1].sql.contains("_2 ON "), "{plan:?}");
        interrupted(&site, &plan[..done]).await;
    }
}
