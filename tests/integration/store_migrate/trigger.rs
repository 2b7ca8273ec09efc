//! The trigger that notifies of ended sessions: installed, replaced and removed as configured.

use headcount::config::{Config, Revocation};
use headcount::store::{SchemaProblem, migrate};

use super::{everything, objects, titles};
use crate::store_site::{Site, Variant};
use crate::support::examined;

pub(super) const TRIGGER: &str = "trigger headcount_session_changed";
const FORMER_TRIGGER: &str = "trigger headcount_session_changed: the former one";

pub(super) fn telling(config: &mut Config) {
    config.session.revocation = Revocation::Trigger;
}

#[tokio::test]
async fn the_trigger_is_installed_when_it_is_configured_and_removed_when_it_is_not() {
    for variant in [Variant::PostgresDefault, Variant::PostgresRenamed] {
        let off = Site::unmigrated(variant).await;
        let mut on = off.config.clone();
        telling(&mut on);
        let before = migrate(&off.config, false).await.unwrap();
        assert_eq!(titles(&before), everything(variant));
        let without = objects(&off).await;
        assert_eq!(titles(&migrate(&on, true).await.unwrap()), [TRIGGER]);
        assert_eq!(triggers(&off).await, 0);

        assert_eq!(titles(&migrate(&on, false).await.unwrap()), [TRIGGER]);
        assert_eq!(triggers(&off).await, 2);
        assert_eq!(migrate(&on, false).await.unwrap(), []);

        assert_eq!(
            titles(&migrate(&off.config, true).await.unwrap()),
            [FORMER_TRIGGER]
        );
        assert_eq!(triggers(&off).await, 2);
        assert_eq!(
            titles(&migrate(&off.config, false).await.unwrap()),
            [FORMER_TRIGGER]
        );
        assert_eq!(triggers(&off).await, 0);
        assert_eq!(migrate(&off.config, false).await.unwrap(), []);
        assert_eq!(objects(&off).await, without);
    }
}

#[tokio::test]
async fn all_at_once_on_a_fresh_site_and_by_hand() {
    let site = Site::unmigrated_with(Variant::PostgresRenamed, telling).await;
    let mut all = everything(site.variant);
    all.push(TRIGGER);
    let steps = migrate(&site.config, true).await.unwrap();
    assert_eq!(titles(&steps), all);
    for step in steps {
        site.execute(&step.to_string()).await;
    }
    let missing = migrate(&site.config, false).await.unwrap_err();
    assert!(missing.to_string().contains("own tables"), "{missing}");
    site.execute(
        "DROP TABLE headcount.addition, headcount.applied_batch, headcount.format, headcount.counter,
         headcount.counter_visitor, headcount.counter_delta, headcount.counter_lease",
    )
    .await;
    // The table of additions, which tells nothing of what was made by hand, is made anew.
    let missing = migrate(&site.config, false).await.unwrap();
    assert_eq!(
        titles(&missing),
        [
            "migration 1 (addition)",
            "migration 2 (ledger)",
            "migration 3 (counters)"
        ]
    );
    assert_eq!(migrate(&site.config, false).await.unwrap(), []);
}

#[tokio::test]
async fn i10_a_trigger_made_by_hand_that_does_not_tell_of_new_sessions_is_made_anew() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, telling).await;
    let steps = migrate(&site.config, true).await.unwrap();
    for step in steps {
        // As a former version printed it.
        let former = step
            .to_string()
            .replace("headcount_session_appeared", "headcount_session");
        site.execute(&former).await;
    }
    site.execute(
        "DROP TABLE headcount.addition, headcount.applied_batch, headcount.format, headcount.counter,
         headcount.counter_visitor, headcount.counter_delta, headcount.counter_lease",
    )
    .await;
    let titles_of = async || {
        let steps = migrate(&site.config, false).await.unwrap();
        titles(&steps).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let made = titles_of().await;
    assert_eq!(made[made.len() - 2..], [FORMER_TRIGGER, TRIGGER], "{made:?}");
    assert_eq!(titles_of().await, [""; 0]);
}

#[tokio::test]
async fn s9_a_trigger_made_by_hand_in_another_zone_is_made_anew() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, |config| {
        telling(config);
        config.database.time_zone = Some(chrono_tz::Tz::Europe__Berlin);
    })
    .await;
    site.execute("ALTER TABLE accounts_usersession ALTER expires_at TYPE timestamp")
        .await;
    migrate(&site.config, false).await.unwrap();
    // As where it was made by hand of what a dry run printed.
    let by_hand = "DELETE FROM headcount.addition WHERE name = 'headcount_session_changed'";
    site.execute(by_hand).await;
    assert_eq!(migrate(&site.config, false).await.unwrap(), []);

    site.execute(by_hand).await;
    for other in ["SET timezone = 'UTC'", "RESET timezone", "RESET ALL"] {
        site.execute(&format!(
            "ALTER FUNCTION headcount.session_changed() {other}; {by_hand}"
        ))
        .await;
        let steps = migrate(&site.config, false).await.unwrap();
        assert_eq!(titles(&steps), [FORMER_TRIGGER, TRIGGER], "{other}");
    }
}

#[tokio::test]
async fn a_trigger_that_does_not_fit_is_made_anew() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, telling).await;
    migrate(&site.config, false).await.unwrap();
    for damage in [
        "UPDATE headcount.addition SET statement = 'CREATE …' WHERE name = 'headcount_session_changed'",
        "DROP TRIGGER headcount_session_truncated ON accounts_usersession",
        "ALTER TABLE accounts_usersession DISABLE TRIGGER headcount_session_changed",
    ] {
        site.execute(damage).await;
        let steps = migrate(&site.config, false).await.unwrap();
        assert_eq!(titles(&steps), [FORMER_TRIGGER, TRIGGER], "{damage}");
        assert_eq!(triggers(&site).await, 2);
        assert_eq!(migrate(&site.config, false).await.unwrap(), []);
    }
    site.execute("DROP FUNCTION headcount.session_changed() CASCADE")
        .await;
    assert_eq!(titles(&migrate(&site.config, false).await.unwrap()), [TRIGGER]);

    // The site keeps its sessions elsewhere from now on.
    site.execute("CREATE TABLE sessions (LIKE accounts_usersession INCLUDING ALL)")
        .await;
    let mut moved = site.config.clone();
    moved.schema.session.table = "sessions".into();
    let steps = migrate(&moved, false).await.unwrap();
    assert_eq!(
        titles(&steps).last_chunk(),
        Some(&[FORMER_TRIGGER, TRIGGER]),
        "after the indexes"
    );
    let tables = "SELECT string_agg(DISTINCT tgrelid::regclass::text, ' ') FROM pg_trigger
                  WHERE tgname LIKE 'headcount%'";
    assert_eq!(site.text(tables).await, "sessions");
}

#[tokio::test]
async fn a_missing_trigger_is_a_problem_where_it_is_configured_only() {
    let site = Site::unmigrated(Variant::PostgresRenamed).await;
    let mut on = site.config.clone();
    telling(&mut on);
    assert_eq!(examined::tables(&site.config).await.unwrap(), []);
    let table = "forum.people_session".to_owned();
    assert_eq!(
        examined::tables(&on).await.unwrap(),
        [SchemaProblem::NoTrigger { table }]
    );
    migrate(&on, false).await.unwrap();
    assert_eq!(examined::tables(&on).await.unwrap(), []);
    site.execute("ALTER TABLE forum.people_session DISABLE TRIGGER headcount_session_changed")
        .await;
    assert_eq!(examined::tables(&on).await.unwrap().len(), 1);
}

/// Whoever wants to write to the table meanwhile would wait behind the migration.
#[tokio::test]
async fn a_table_that_is_long_in_use_is_not_waited_for_without_end() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, telling).await;
    let mut off = site.config.clone();
    off.session.revocation = Revocation::Off;
    migrate(&off, false).await.unwrap();
    let mut transaction = site.postgres().begin().await.unwrap();
    sqlx::query("UPDATE accounts_usersession SET pages_visited = 0")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let error = migrate(&site.config, false).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{TRIGGER} failed"));
    transaction.rollback().await.unwrap();
    assert_eq!(triggers(&site).await, 0);
    assert_eq!(titles(&migrate(&site.config, false).await.unwrap()), [TRIGGER]);
}

async fn triggers(site: &Site) -> usize {
    let count = "SELECT count(*)::text FROM pg_trigger WHERE tgname LIKE 'headcount%' AND tgenabled = 'O'";
    site.text(count).await.parse().expect("a number")
}
