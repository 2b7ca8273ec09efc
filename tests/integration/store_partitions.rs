//! A partitioned event table: `headcount migrate` gives it its index, and views wait for a partition.

mod visits;

use std::sync::Arc;

use headcount::browser_session::BrowserSession;
use headcount::config::{Events, OwnPartitions};
use headcount::ids::CommunityId;
use headcount::store::{self, MigrateError, PastAsked, PastSort, PastWindow, Step, StoreError, migrate};

use crate::store_site::{SessionRow, Site, Variant, as_role, batch, page_view};
use crate::support::examined;

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
        for step in &plan[first..first + done] {
            site.execute(&step.to_string()).await;
        }
        site.execute(
            "UPDATE pg_index SET indisvalid = false FROM pg_class c
             WHERE c.oid = indexrelid AND c.relkind = 'i' AND NOT c.relispartition
               AND c.relname LIKE 'headcount_event_community_%'",
        )
        .await;
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

/// The rows of each partition of our own table.
async fn rows_by_partition(site: &Site) -> Vec<Vec<Option<String>>> {
    site.rows(
        "SELECT tableoid::regclass::text, count(*)::text FROM headcount.page_view GROUP BY 1 ORDER BY 1",
    )
    .await
}

fn row(partition: &str, count: &str) -> Vec<Option<String>> {
    vec![Some(format!("headcount.{partition}")), Some(count.to_owned())]
}

#[tokio::test]
async fn s24_our_own_table_has_a_partition_for_each_month_and_loses_no_row() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, |config| {
        config.record.events = Events::Own;
        config.record.own_partitions = OwnPartitions::Month;
    })
    .await;
    let shown = migrate(&site.config, true).await.expect("a plan");
    let done = migrate(&site.config, false).await.expect("it is migrated");
    let titles = |steps: &[Step]| steps.iter().map(|step| step.title.clone()).collect::<Vec<_>>();
    let is_of_table = |title: &String| title.starts_with("table ") || title.starts_with("partition ");
    let made = titles(&done).into_iter().filter(is_of_table).collect::<Vec<_>>();
    assert_eq!(
        made.len(),
        2 + 4,
        "the table, a default, this month and three more: {made:?}"
    );
    assert_eq!(
        titles(&shown).into_iter().filter(is_of_table).collect::<Vec<_>>(),
        made
    );
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);
    assert_eq!(examined::tables(&site.config).await.unwrap(), []);

    // Views of a month for which nobody has made a partition.
    let (session, gardening) = somebody(&site).await;
    let views = |when| batch(&session, &gardening, vec![page_view(when)]);
    site.store.apply(&views("2031-02-28T23:59:59Z")).await.unwrap();
    site.store.apply(&views("2031-03-01T00:00:00Z")).await.unwrap();
    assert_eq!(rows_by_partition(&site).await, [row("page_view_default", "2")]);
    let later = "2031-02-15T00:00:00Z".parse().unwrap();
    let made = site.store.make_partitions(later).await.unwrap();
    assert_eq!(made, 4);
    assert_eq!(
        rows_by_partition(&site).await,
        [row("page_view_2031_02", "1"), row("page_view_2031_03", "1")]
    );
    assert_eq!(site.store.make_partitions(later).await.unwrap(), 0);
    let both = (
        "2031-02-01T00:00:00Z".parse().unwrap(),
        "2031-04-01T00:00:00Z".parse().unwrap(),
    );
    let stats = site.store.stats(&gardening, both.0, both.1).await.unwrap();
    assert_eq!((stats.page_views, stats.total_visitors), (2, 1));
    let window = PastWindow {
        community: gardening.clone(),
        from: both.0,
        to: both.1,
    };
    let asked = PastAsked::Page {
        sort: PastSort::LastVisit,
        after: None,
        limit: 10,
    };
    let visitors = site.store.past_visitors(&window, &asked).await.unwrap();
    let numbers: Vec<_> = visitors
        .iter()
        .map(|visitor| (visitor.page_views, visitor.visit_count))
        .collect();
    assert_eq!(numbers, [(2, 1)]);

    // A role that may only write makes none, and `check` says when one is missing.
    let role = format!("writer_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public, headcount TO {role}"
    ))
    .await;
    let limited = as_role(&site.config, &role);
    let store = store::open(&limited).unwrap();
    assert_eq!(
        store
            .make_partitions("2032-01-01T00:00:00Z".parse().unwrap())
            .await
            .unwrap(),
        0
    );
    store.apply(&views("2031-03-02T00:00:00Z")).await.unwrap();
    let next = site
        .text("SELECT 'page_view_' || to_char((now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')")
        .await;
    site.execute(&format!("DROP TABLE headcount.{next}")).await;
    let found = examined::tables(&limited).await.unwrap();
    assert!(
        found.len() == 1 && found[0].is_a_warning() && found[0].to_string().contains(&next),
        "{found:?}"
    );
}

#[tokio::test]
async fn s24_one_table_does_not_become_partitioned_in_silence() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, |config| {
        config.record.events = Events::Own;
    })
    .await;
    migrate(&site.config, false).await.expect("it is migrated");
    let mut config = site.config.clone();
    config.record.own_partitions = OwnPartitions::Month;
    let error = migrate(&config, false).await.expect_err("it is one table");
    assert!(error.to_string().contains("record.own_partitions"), "{error}");
    // Page views are written all the same, so that nothing waits for the operator.
    let found = examined::tables(&config).await.expect("the database answers");
    assert!(
        found.len() == 1 && found[0].is_a_warning() && found[0].to_string() == error.to_string(),
        "{found:?}"
    );
    let (session, gardening) = somebody(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2025-02-28T23:59:59Z")]);
    let store = store::open(&config).expect("a store");
    assert_eq!(store.apply(&views).await.expect("it is written").views, 1);
}

async fn with_months() -> Site {
    let site = Site::unmigrated_with(Variant::PostgresDefault, |config| {
        config.record.events = Events::Own;
        config.record.own_partitions = OwnPartitions::Month;
    })
    .await;
    migrate(&site.config, false).await.expect("it is migrated");
    site
}

/// Views that waited in a spool since another month.
#[tokio::test]
async fn s24_late_rows_get_the_partition_of_their_month() {
    let site = with_months().await;
    let (session, gardening) = somebody(&site).await;
    let views = |times: &[&str]| {
        batch(
            &session,
            &gardening,
            times.iter().map(|at| page_view(at)).collect(),
        )
    };
    let late = [
        "2025-02-28T23:59:59Z",
        "2025-03-01T00:00:00Z",
        "2025-03-02T00:00:00Z",
    ];
    site.store.apply(&views(&late)).await.expect("they are written");
    assert_eq!(rows_by_partition(&site).await, [row("page_view_default", "3")]);
    let now = chrono::Utc::now();
    assert_eq!(site.store.make_partitions(now).await.expect("made"), 2);
    let by_month = [row("page_view_2025_02", "1"), row("page_view_2025_03", "2")];
    assert_eq!(rows_by_partition(&site).await, by_month);
    assert_eq!(site.store.make_partitions(now).await.expect("nothing to do"), 0);

    // Migrating does the same; a row of a clock that is wrong stays where it is.
    site.store
        .apply(&views(&["2025-04-01T00:00:00Z", "1970-01-01T00:00:00Z"]))
        .await
        .expect("they are written");
    let done = migrate(&site.config, false).await.expect("it is migrated");
    let titles: Vec<_> = done.iter().map(|step| &*step.title).collect();
    assert_eq!(titles, ["partition headcount.page_view_2025_04"]);
    let [february, march] = by_month;
    let all = [
        february,
        march,
        row("page_view_2025_04", "1"),
        row("page_view_default", "1"),
    ];
    assert_eq!(rows_by_partition(&site).await, all);
}

#[tokio::test]
async fn s24_without_a_default_partition_that_of_a_rows_month_is_made() {
    let site = with_months().await;
    site.execute("DROP TABLE headcount.page_view_default").await;
    let (session, gardening) = somebody(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2025-02-28T23:59:59Z")]);
    // Not by a role that may not: the row waits, and is no dead letter.
    let role = format!("writer_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public, headcount TO {role}"
    ))
    .await;
    let limited = store::open(&as_role(&site.config, &role)).expect("a store");
    let error = limited.apply(&views).await.expect_err("no partition");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(
        error.chain().contains("run headcount migrate"),
        "{}",
        error.chain()
    );

    assert_eq!(site.store.apply(&views).await.expect("it is written").views, 1);
    assert_eq!(rows_by_partition(&site).await, [row("page_view_2025_02", "1")]);
    // Nor is a partition made for a clock that is wrong; migrating makes the default one again.
    let views = batch(&session, &gardening, vec![page_view("1970-01-01T00:00:00Z")]);
    site.store.apply(&views).await.expect_err("no partition");
    migrate(&site.config, false).await.expect("it is migrated");
    site.store.apply(&views).await.expect("it is written");
}

#[tokio::test]
async fn s24_a_month_that_is_covered_or_whose_name_is_taken_is_no_failure() {
    let site = with_months().await;
    let (session, gardening) = somebody(&site).await;
    // Detached to be kept elsewhere; and a year in one, made by the operator.
    site.execute(
        "CREATE TABLE headcount.page_view_2031_02 (LIKE headcount.page_view);
         CREATE TABLE headcount.of_a_year PARTITION OF headcount.page_view
             FOR VALUES FROM ('2031-03-01 00:00:00+00') TO ('2032-01-01 00:00:00+00')",
    )
    .await;
    let february = "2031-02-15T00:00:00Z".parse().expect("a moment");
    assert_eq!(site.store.make_partitions(february).await.expect("made"), 1);
    assert_eq!(
        site.store.make_partitions(february).await.expect("nothing to do"),
        0
    );
    let views = ["2031-02-15T00:00:00Z", "2031-03-15T00:00:00Z"];
    let views = batch(&session, &gardening, views.map(page_view).into());
    site.store.apply(&views).await.expect("they are written");
    assert_eq!(
        rows_by_partition(&site).await,
        [row("of_a_year", "1"), row("page_view_2031_02_1", "1")]
    );
}

/// What `grants` prints as a comment, and `check` as a warning, is enough.
#[tokio::test]
async fn s24_a_role_that_is_made_the_owner_makes_partitions() {
    let site = with_months().await;
    let role = format!("writer_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let printed = store::grants(&site.config, &role).await.expect("SQL");
    let (_, comment) = printed.split_once("-- them itself, after:\n").expect("a comment");
    let statements: Vec<_> = comment
        .lines()
        .filter_map(|line| line.strip_prefix("--   "))
        .collect();
    assert_eq!(statements.len(), 3, "{printed}");
    site.execute(&printed).await;
    site.execute(&statements.concat()).await;
    let (session, gardening) = somebody(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2025-02-28T23:59:59Z")]);
    let limited = store::open(&as_role(&site.config, &role)).expect("a store");
    limited.apply(&views).await.expect("it is written");
    assert_eq!(
        limited.make_partitions(chrono::Utc::now()).await.expect("made"),
        1
    );
    assert_eq!(rows_by_partition(&site).await, [row("page_view_2025_02", "1")]);
}
