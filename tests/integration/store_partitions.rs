//! A partitioned event table: `headcount migrate` gives it its index, and views wait for a partition.

mod own_table;
mod visits;

use std::sync::Arc;

use headcount::browser_session::BrowserSession;
use headcount::ids::CommunityId;
use headcount::store::{MigrateError, Step, StoreError, migrate};

use crate::store_site::{SessionRow, Site, Variant, batch, page_view};

/// Makes the event table one of months, the last of which is divided again; no partition is for May.
const PARTITIONED: &str = "
    ALTER TABLE accounts_userevent RENAME TO events_before;
    CREATE TABLE accounts_userevent (LIKE events_before INCLUDING DEFAULTS INCLUDING GENERATED)
        PARTITION BY RANGE (timestamp);
    CREATE SEQUENCE event_ids;
    ALTER TABLE accounts_userevent ALTER id SET DEFAULT nextval('event_ids');
    CREATE TABLE event_march PARTITION OF accounts_userevent FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
    CREATE TABLE event_april PARTITION OF accounts_userevent FOR VALUES FROM ('2024-04-01') TO ('2024-05-01')
        PARTITION BY HASH (user_id);
    CREATE TABLE event_april_0 PARTITION OF event_april FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE event_april_1 PARTITION OF event_april FOR VALUES WITH (MODULUS 2, REMAINDER 1);";

async fn partitioned() -> Site {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(PARTITIONED).await;
    site
}

/// How many of our two indexes of the event table and its partitions there are, valid, and attached.
async fn indexes(site: &Site) -> String {
    site.text(
        "SELECT format('%s %s %s', count(*), count(*) FILTER (WHERE i.indisvalid),
                       count(*) FILTER (WHERE c.relispartition))
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE i.indrelid::regclass::text ~ '^(accounts_userevent|event_(march|april|june).*)$'
           AND pg_get_indexdef(c.oid) LIKE '%community_id%'",
    )
    .await
}

fn of_events(steps: &[Step]) -> Vec<&str> {
    let titles = steps.iter().map(|step| step.title.as_str());
    titles.filter(|title| title.contains("event_community")).collect()
}

/// Runs these steps of a build of indexes, and leaves invalid what is not attached.
async fn begin_build(site: &Site, steps: &[Step], name: &str) {
    for step in steps {
        site.execute(&step.to_string()).await;
    }
    site.execute(&format!(
        "UPDATE pg_index SET indisvalid = false FROM pg_class c
         WHERE c.oid = indexrelid AND c.relkind = 'i' AND NOT c.relispartition AND c.relname LIKE '{name}_%'"
    ))
    .await;
}

#[tokio::test]
async fn w14_each_partition_gets_the_index_while_the_app_writes() {
    let site = partitioned().await;
    let shown = migrate(&site.config, true).await.expect("a plan");
    let done = migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(done, shown);
    assert_eq!(of_events(&done).len(), 9, "{done:?}");
    for step in &done {
        let is_of_rows = step.sql.starts_with("CREATE INDEX") && !step.sql.contains(" ON ONLY ");
        assert!(!is_of_rows || step.sql.contains("CONCURRENTLY"), "{step}");
    }
    assert_eq!(indexes(&site).await, "10 10 8");
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);

    // A partition that comes later has it by itself, and changes nothing.
    site.execute("CREATE TABLE event_june PARTITION OF accounts_userevent FOR VALUES FROM ('2024-06-01') TO ('2024-07-01')")
        .await;
    assert_eq!(indexes(&site).await, "12 12 10");
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
}

#[tokio::test]
async fn w14_what_a_dry_run_prints_for_partitions_can_be_run_by_hand() {
    let site = partitioned().await;
    for step in migrate(&site.config, true).await.expect("a plan") {
        site.execute(&step.to_string()).await;
    }
    assert_eq!(indexes(&site).await, "10 10 8");
}

/// By a version whose index was of other columns, and that recorded nothing.
#[tokio::test]
async fn w14_what_an_earlier_version_has_begun_is_built_anew() {
    let site = partitioned().await;
    site.execute(
        "CREATE INDEX headcount_event_community ON ONLY accounts_userevent (timestamp, (metadata ->> 'community_id'));
         CREATE INDEX of_march ON event_march (timestamp, (metadata ->> 'community_id'));
         ALTER INDEX headcount_event_community ATTACH PARTITION of_march",
    )
    .await;
    migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(indexes(&site).await, "10 10 8");
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
}

/// At whatever step it ended, and with an index that was left invalid.
#[tokio::test]
async fn w14_an_interrupted_build_is_gone_on_with() {
    let plan = migrate(&partitioned().await.config, true).await.expect("a plan");
    let first = plan
        .iter()
        .position(|step| step.title.contains("event_community"))
        .expect("a step");
    for done in 1..9 {
        let site = partitioned().await;
        let plan = migrate(&site.config, true).await.expect("a plan");
        begin_build(&site, &plan[first..first + done], "headcount_event_community").await;
        migrate(&site.config, false).await.expect("it is migrated");
        assert_eq!(indexes(&site).await, "10 10 8", "after {done} steps");
        assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
    }
}

#[tokio::test]
async fn w14_an_index_of_partitions_in_other_words_is_built_anew() {
    let site = partitioned().await;
    migrate(&site.config, false).await.expect("it is migrated");
    site.execute(
        "UPDATE headcount.addition SET statement = 'other' WHERE name = 'headcount_event_community'",
    )
    .await;
    let done = migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(of_events(&done).len(), 11, "{done:?}");
    assert_eq!(indexes(&site).await, "10 10 8");
}

/// After each step, and when the next migration has found that state.
#[tokio::test]
async fn w14_partitions_have_an_index_while_another_takes_its_place() {
    let site = partitioned().await;
    migrate(&site.config, false).await.expect("it is migrated");
    let usable = "SELECT count(*)::text FROM pg_index
                  WHERE indrelid = 'accounts_userevent'::regclass AND indisvalid AND pg_get_indexdef(indexrelid) LIKE '%source%'";
    for done in 1..=11 {
        site.execute(
            "UPDATE headcount.addition SET statement = 'other' WHERE name = 'headcount_event_community'",
        )
        .await;
        let plan = migrate(&site.config, true).await.expect("a plan");
        assert_eq!(plan.len(), 11, "{plan:?}");
        for step in &plan[..done] {
            site.execute(&step.to_string()).await;
            assert_ne!(site.text(usable).await, "0", "{step}");
        }
        migrate(&site.config, false).await.expect("it is migrated");
        assert_eq!(indexes(&site).await, "10 10 8", "after {done} steps");
        assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
    }
}

/// Of two additions that cannot be made both are named, and what can be made is made.
#[tokio::test]
async fn w18_what_does_not_depend_on_a_failure_is_done_and_all_failures_are_told() {
    let site = partitioned().await;
    // Names that are taken by something else, so that the index cannot have them.
    site.execute("CREATE VIEW headcount_event_community AS SELECT 1")
        .await;
    let MigrateError::Incomplete(incomplete) = migrate(&site.config, false).await.expect_err("one fails")
    else {
        panic!("another error")
    };
    assert_eq!(incomplete.failed.len(), 1);
    let told = incomplete.to_string();
    assert!(told.contains("headcount_event_community"), "{told}");
    assert!(
        incomplete
            .done
            .iter()
            .any(|step| step.title == "index headcount_session_user")
    );

    site.execute(
        "DROP INDEX headcount_session_user; CREATE VIEW headcount_session_user AS SELECT 1;
         UPDATE headcount.addition SET statement = 'other'",
    )
    .await;
    let MigrateError::Incomplete(incomplete) = migrate(&site.config, false).await.expect_err("two fail")
    else {
        panic!("another error")
    };
    let told = incomplete.to_string();
    assert!(told.starts_with("2 additions failed:\n"), "{told}");
    assert!(
        told.contains("event_community") && told.contains("session_user"),
        "{told}"
    );
}

async fn somebody(site: &Site) -> (Arc<BrowserSession>, CommunityId) {
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    (session, site.community("gardening").await)
}

#[tokio::test]
async fn w15_while_no_partition_takes_views_of_now_the_batch_waits() {
    let site = partitioned().await;
    migrate(&site.config, false).await.expect("it is migrated");
    let (session, gardening) = somebody(&site).await;
    let times = ["2024-03-31T23:59:59Z", "2024-05-01T00:00:00Z"];
    let views = batch(&session, &gardening, times.map(page_view).into());
    let error = site.store.apply(&views).await.expect_err("no partition");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let told = error.chain();
    assert!(
        told.contains("no partition of relation \"accounts_userevent\""),
        "{told}"
    );
    assert!(told.contains("make the partition, or a DEFAULT one"), "{told}");
    assert_eq!(site.events().await.len(), 0);

    site.execute("CREATE TABLE event_later PARTITION OF accounts_userevent DEFAULT")
        .await;
    assert_eq!(site.store.apply(&views).await.expect("it is written").views, 2);
    assert_eq!(site.events().await.len(), 2);
}

#[tokio::test]
async fn w15_a_view_of_a_time_that_is_over_for_the_table_is_refused_and_keeps_nobody() {
    let site = partitioned().await;
    site.execute("CREATE TABLE event_now PARTITION OF accounts_userevent FOR VALUES FROM ('2024-06-01') TO ('2999-01-01')")
        .await;
    migrate(&site.config, false).await.expect("it is migrated");
    let (session, gardening) = somebody(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2023-01-01T00:00:00Z")]);
    let error = site.store.apply(&views).await.expect_err("no partition");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.chain().contains("of that time"), "{}", error.chain());
    assert_eq!(site.events().await.len(), 0, "what was tried is not there");
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T00:00:00Z")]);
    assert_eq!(site.store.apply(&views).await.expect("it is written").views, 1);
}

/// Of a table of the app's own, into which a trigger writes once the views are there.
#[tokio::test]
async fn w15_a_partition_that_a_deferred_trigger_misses_is_no_fault_of_the_views() {
    let site = Site::new(Variant::PostgresDefault).await;
    site.execute(
        "CREATE TABLE audit (at timestamptz NOT NULL) PARTITION BY RANGE (at);
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO audit VALUES (now()); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER audits AFTER INSERT ON accounts_userevent DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION audit()",
    )
    .await;
    let (session, gardening) = somebody(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T00:00:00Z")]);
    let error = site.store.apply(&views).await.expect_err("no partition");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    site.execute("CREATE TABLE audit_all PARTITION OF audit DEFAULT")
        .await;
    assert_eq!(site.store.apply(&views).await.expect("it is written").views, 1);
}
