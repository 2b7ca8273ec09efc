//! Partitions of the sidecar's own event table: one for each month, made where it lacks.

use headcount::config::{Events, OwnPartitions};
use headcount::store::{self, PastAsked, PastSort, PastWindow, Step, StoreError, migrate};

use super::somebody;
use crate::store_site::{Site, Variant, as_role, batch, page_view};
use crate::support::examined;

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
