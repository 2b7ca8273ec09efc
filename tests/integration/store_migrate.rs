//! `headcount migrate`: what it makes, that it makes it once, and that the statistics then use it.

mod trigger;

use headcount::store::{MigrateError, Step, migrate};
use sqlx::{Connection as _, PgConnection};

use crate::store_site::{Site, Variant, as_role, at};
use crate::support::redis::eventually;
use trigger::{TRIGGER, telling};

const VARIANTS: [Variant; 4] = [
    Variant::PostgresDefault,
    Variant::PostgresRenamed,
    Variant::SqliteDefault,
    Variant::SqliteRenamed,
];

fn titles(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.title.as_str()).collect()
}

fn everything(variant: Variant) -> Vec<&'static str> {
    let mut all = vec![
        "migration 1 (addition)",
        "migration 2 (ledger)",
        "migration 3 (counters)",
        "index headcount_event_community",
        "index headcount_event_visitor",
        "index headcount_session_user",
    ];
    if variant.is_postgres() {
        all.insert(0, "schema headcount");
    }
    all
}

/// Every table, index and schema of the database, to see that nothing changed.
async fn objects(site: &Site) -> Vec<Vec<Option<String>>> {
    site.rows(if site.variant.is_postgres() {
        "SELECT oid::text, relname::text FROM pg_class WHERE oid >= 16384
         UNION SELECT oid::text, nspname::text FROM pg_namespace WHERE oid >= 16384 ORDER BY 1"
    } else {
        "SELECT name, sql FROM sqlite_master ORDER BY 1"
    })
    .await
}

#[tokio::test]
async fn migrating_twice_is_migrating_once() {
    for variant in VARIANTS {
        let site = Site::unmigrated(variant).await;
        let first = migrate(&site.config, false).await.unwrap();
        assert_eq!(titles(&first), everything(variant), "{variant:?}");
        let after = objects(&site).await;
        assert_eq!(migrate(&site.config, false).await.unwrap(), [], "{variant:?}");
        assert_eq!(objects(&site).await, after, "{variant:?}");
    }
}

#[tokio::test]
async fn a_dry_run_shows_all_and_does_nothing() {
    for variant in VARIANTS {
        let site = Site::unmigrated(variant).await;
        let before = objects(&site).await;
        let shown = migrate(&site.config, true).await.unwrap();
        assert_eq!(titles(&shown), everything(variant), "{variant:?}");
        assert_eq!(objects(&site).await, before, "{variant:?}");
        assert_eq!(migrate(&site.config, false).await.unwrap(), shown, "{variant:?}");
        assert_eq!(migrate(&site.config, true).await.unwrap(), [], "{variant:?}");
    }
}

#[tokio::test]
async fn what_a_dry_run_prints_can_be_run_by_hand() {
    let site = Site::unmigrated(Variant::PostgresRenamed).await;
    for step in migrate(&site.config, true).await.unwrap() {
        site.execute(&step.to_string()).await;
    }
    let missing = migrate(&site.config, true).await.unwrap();
    // Only sqlx's own record of its migrations is missing, which nobody writes by hand.
    assert_eq!(
        titles(&missing),
        [
            "migration 1 (addition)",
            "migration 2 (ledger)",
            "migration 3 (counters)"
        ]
    );
}

#[tokio::test]
async fn an_index_that_an_interrupted_build_left_invalid_is_built_anew() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    migrate(&site.config, false).await.unwrap();
    site.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'headcount_event_community'::regclass",
    )
    .await;
    let steps = migrate(&site.config, false).await.unwrap();
    assert_eq!(
        titles(&steps),
        [
            "index headcount_event_community: the former one",
            "index headcount_event_community"
        ]
    );
    let valid = "SELECT indisvalid::text FROM pg_index
                 WHERE indexrelid = 'headcount_event_community'::regclass";
    assert_eq!(site.text(valid).await, "true");
    assert_eq!(migrate(&site.config, false).await.unwrap(), []);
}

#[tokio::test]
async fn an_index_that_was_built_in_other_words_is_built_anew() {
    for (variant, table) in [
        (Variant::PostgresDefault, "headcount.addition"),
        (Variant::SqliteDefault, "headcount_addition"),
    ] {
        let site = Site::unmigrated(variant).await;
        migrate(&site.config, false).await.unwrap();
        site.execute(&format!(
            "UPDATE {table} SET statement = 'CREATE INDEX …' WHERE name = 'headcount_session_user'"
        ))
        .await;
        let steps = migrate(&site.config, false).await.unwrap();
        let expected = if variant.is_postgres() {
            &[
                "index headcount_session_user",
                "index headcount_session_user: the new one in the place of the former",
                "index headcount_session_user: the former one",
            ][..]
        } else {
            // In one transaction: an index there has one name for ever.
            &[
                "index headcount_session_user: the former one",
                "index headcount_session_user",
            ]
        };
        assert_eq!(titles(&steps), expected);
        assert_eq!(migrate(&site.config, false).await.unwrap(), []);
    }
}

/// Made by an earlier version that ended before it recorded that, or by hand.
#[tokio::test]
async fn an_index_that_nobody_recorded_is_taken_only_where_it_is_of_the_right_columns() {
    for (variant, recorded, words) in [
        (
            Variant::PostgresDefault,
            "headcount.addition",
            "SELECT pg_get_indexdef('headcount_event_visitor'::regclass)",
        ),
        (
            Variant::SqliteDefault,
            "headcount_addition",
            "SELECT sql FROM sqlite_master WHERE name = 'headcount_event_visitor'",
        ),
    ] {
        let site = Site::unmigrated(variant).await;
        migrate(&site.config, false).await.unwrap();
        let right = site.text(words).await;
        let forget = format!("DELETE FROM {recorded} WHERE name = 'headcount_event_visitor'");
        site.execute(&forget).await;
        assert_eq!(migrate(&site.config, false).await.unwrap(), [], "{variant:?}");
        let count =
            format!("SELECT cast(count(*) AS text) FROM {recorded} WHERE name = 'headcount_event_visitor'");
        assert_eq!(site.text(&count).await, "1", "{variant:?}: it is recorded now");
        for is_recorded in [false, true] {
            if !is_recorded {
                site.execute(&forget).await;
            }
            site.execute(
                "DROP INDEX headcount_event_visitor;
                 CREATE INDEX headcount_event_visitor ON accounts_userevent (user_id, timestamp)",
            )
            .await;
            let steps = migrate(&site.config, false).await.unwrap();
            assert!(!steps.is_empty(), "{variant:?}, recorded: {is_recorded}");
            assert_eq!(site.text(words).await, right, "{variant:?}");
            assert_eq!(migrate(&site.config, false).await.unwrap(), [], "{variant:?}");
        }
    }
}

/// Wherever the migration ended: after so many of its steps, and while the new one was built.
#[tokio::test]
async fn while_an_index_takes_the_place_of_another_there_always_is_one() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    migrate(&site.config, false).await.unwrap();
    let usable = "SELECT count(*)::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  WHERE c.relname ~ '^headcount_event_visitor' AND i.indisvalid";
    let all = "SELECT string_agg(c.relname || ' ' || i.indisvalid, ', ') FROM pg_index i
               JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname ~ '^headcount_event_visitor'";
    for done in 0..=3 {
        site.execute(
            "UPDATE headcount.addition SET statement = 'other' WHERE name = 'headcount_event_visitor'",
        )
        .await;
        let plan = migrate(&site.config, true).await.unwrap();
        assert_eq!(plan.len(), 3, "{plan:?}");
        for step in &plan[..done.max(1)] {
            site.execute(&step.to_string()).await;
            assert_ne!(site.text(usable).await, "0", "{step}");
        }
        if done == 0 {
            site.execute(
                "UPDATE pg_index SET indisvalid = false
                 WHERE indexrelid = 'headcount_event_visitor_new'::regclass",
            )
            .await;
        }
        let steps = migrate(&site.config, false).await.unwrap();
        let (mut built, mut swapped) = (false, false);
        for step in &steps {
            let is_of_own =
                step.sql.contains("DROP") && !step.sql.contains("_new") && !step.sql.contains("_former");
            assert!(!is_of_own, "{step}");
            built |= step
                .sql
                .contains("INDEX CONCURRENTLY headcount_event_visitor_new");
            swapped |= built && step.sql.contains("RENAME");
        }
        assert!(swapped, "{steps:?}");
        assert_eq!(
            site.text(all).await,
            "headcount_event_visitor true",
            "after {done} steps"
        );
        assert_eq!(migrate(&site.config, false).await.unwrap(), []);
    }
    // It took the place and was recorded; the former one is all that is left.
    site.execute("CREATE INDEX headcount_event_visitor_former ON accounts_userevent (user_id)")
        .await;
    let steps = migrate(&site.config, false).await.unwrap();
    assert_eq!(titles(&steps), ["index headcount_event_visitor: the former one"]);
    assert_eq!(site.text(all).await, "headcount_event_visitor true");
}

#[tokio::test]
async fn a_migration_changed_after_it_was_applied_is_refused() {
    let site = Site::unmigrated(Variant::SqliteDefault).await;
    migrate(&site.config, false).await.unwrap();
    site.execute("UPDATE headcount_migrations SET checksum = x'00'")
        .await;
    let error = migrate(&site.config, false).await.unwrap_err();
    assert!(matches!(error, MigrateError::Changed(1)), "{error:?}");
}

#[tokio::test]
async fn two_migrations_at_once_are_one() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    let url = site.config.database.url.clone().unwrap();
    let mut other = PgConnection::connect(url.expose()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(hashtext('headcount migrate'))")
        .execute(&mut other)
        .await
        .unwrap();
    let error = migrate(&site.config, false).await.unwrap_err();
    assert!(matches!(error, MigrateError::Busy), "{error:?}");
    other.close().await.unwrap();
}

#[tokio::test]
async fn migrating_needs_no_superuser() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, telling).await;
    let role = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let database = site.text("SELECT current_database()::text").await;
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT CREATE ON DATABASE {database} TO {role};
         GRANT CREATE ON SCHEMA public TO {role};
         ALTER TABLE accounts_userprofile OWNER TO {role};
         ALTER TABLE accounts_usersession OWNER TO {role};
         ALTER TABLE accounts_userevent OWNER TO {role};
         ALTER TABLE communities_community OWNER TO {role}"
    ))
    .await;
    let config = as_role(&site.config, &role);
    let mut all = everything(site.variant);
    all.push(TRIGGER);
    assert_eq!(titles(&migrate(&config, false).await.unwrap()), all);
    assert_eq!(migrate(&config, false).await.unwrap(), []);
}

#[tokio::test]
async fn a_step_that_is_not_allowed_is_named() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    let role = format!("nobody_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; ALTER TABLE accounts_userevent OWNER TO {role};
         ALTER TABLE accounts_usersession OWNER TO {role}"
    ))
    .await;
    let error = migrate(&as_role(&site.config, &role), false).await.unwrap_err();
    assert_eq!(error.to_string(), "schema headcount failed");
}

#[tokio::test]
async fn nothing_is_added_to_tables_that_are_not_as_configured() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = Site::unmigrated_with(variant, |config| {
            config.schema.event.table = "nowhere".into();
        })
        .await;
        let before = objects(&site).await;
        let error = migrate(&site.config, false).await.unwrap_err();
        assert!(error.to_string().contains("there is no table nowhere"), "{error}");
        assert_eq!(objects(&site).await, before);
    }
}

/// Whether the store's own statement used it is in the server's counters. SQLite has none: there the plan is
/// tested beside the statement.
#[tokio::test]
async fn the_statistics_of_200_000_events_use_the_index() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(
        "INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 1000) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT 1 + n % 1000, 'page_view', 'Page view: /x',
                    jsonb_build_object('community_id', (n % 500)::text, 'source', 'headcount', 'url', '/x'),
                    'Firefox', '{}', '{}', timestamptz '2024-03-01' + n * interval '10 seconds'
             FROM generate_series(0, 199999) AS n;
         ANALYZE",
    )
    .await;
    migrate(&site.config, false).await.unwrap();
    let uses = "SELECT idx_scan::text FROM pg_stat_user_indexes
                WHERE indexrelname = 'headcount_event_community'";
    let community = headcount::ids::CommunityId::from("42");
    let stats = site
        .store
        .stats(&community, at("2024-03-05T00:00:00Z"), at("2024-03-15T00:00:00Z"))
        .await
        .unwrap();
    // Every 5 000 seconds, on ten days.
    assert_eq!(stats.page_views, 172);
    site.store.close().await;
    // A connection hands in its counters just before it is gone from the list.
    let open = "SELECT count(*)::text FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'headcount'";
    eventually(async || site.text(open).await == "0").await;
    assert_ne!(site.text(uses).await, "0");

    // And the plans of its parts, spelled as the store spells them.
    for (part, index_condition) in [
        (
            "SELECT user_id FROM accounts_userevent
             WHERE event_type = 'page_view' AND left(metadata ->> 'community_id', 256) = ANY (ARRAY['42'])
               AND (CASE WHEN metadata ->> 'source' = 'headcount' THEN 1 ELSE 0 END) = 0
               AND timestamp >= '2024-03-05' AND timestamp < '2024-03-15'",
            "= 0) AND (\"timestamp\" >= ",
        ),
        (
            "SELECT min(timestamp) FROM accounts_userevent
             WHERE event_type = 'page_view' AND left(metadata ->> 'community_id', 256) = '42'
               AND (CASE WHEN metadata ->> 'source' = 'headcount' THEN 1 ELSE 0 END) = 1
               AND timestamp >= timestamptz '2024-01-01 00:00Z'",
            "= 1) AND (\"timestamp\" IS NOT NULL) AND (\"timestamp\" >= ",
        ),
    ] {
        let plan = site.rows(&format!("EXPLAIN {part}")).await;
        let plan = plan.concat().into_iter().flatten().collect::<Vec<_>>().join("\n");
        let condition = plan.lines().find(|line| line.contains("Index Cond:"));
        assert!(plan.contains("headcount_event_community"), "{plan}");
        assert!(
            condition.is_some_and(|condition| condition.contains(index_condition)),
            "{plan}"
        );
    }
}
