//! What fills the columns of an inserted event: the sidecar, the database, or a constant of the configuration.

use headcount::store::{self, StoreError};

use super::{DEFAULTS, event_table, problems, problems_after};
use crate::store_site::{SessionRow, Site, Variant, another, batch, page_view};

#[tokio::test]
async fn w10_a_not_null_column_without_default_that_nothing_fills_is_named() {
    for variant in [Variant::PostgresRenamed, Variant::SqliteRenamed] {
        let site = Site::with(variant, |config| config.schema.event.constants.clear()).await;
        let table = if variant.is_postgres() {
            "\"forum\".\"audit_Event\""
        } else {
            "`audit_Event`"
        };
        assert_eq!(
            problems(&site.config).await,
            [format!(
                "column tenant (integer) of table {table} is NOT NULL, has no default in the database, and \
                 nothing fills it: set schema.event.constants.tenant = \"…\""
            )]
        );
    }
}

#[tokio::test]
async fn w10_columns_that_fill_themselves_are_no_problem() {
    let found = problems_after(
        Variant::PostgresDefault,
        "ALTER TABLE accounts_userevent
             ADD a int NOT NULL DEFAULT 1,
             ADD b int,
             ADD c int GENERATED ALWAYS AS (1) STORED,
             ADD d int NOT NULL GENERATED ALWAYS AS IDENTITY,
             ADD e serial NOT NULL",
        |_| {},
    )
    .await;
    assert_eq!(found, Vec::<String>::new());
    let found = problems_after(
        Variant::SqliteDefault,
        "ALTER TABLE accounts_userevent ADD a int NOT NULL DEFAULT 1;
         ALTER TABLE accounts_userevent ADD b int;
         ALTER TABLE accounts_userevent ADD c int NOT NULL GENERATED ALWAYS AS (1) VIRTUAL",
        |_| {},
    )
    .await;
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn w10_with_events_off_nothing_need_be_filled() {
    for variant in [Variant::PostgresRenamed, Variant::SqliteRenamed] {
        let site = Site::with(variant, |config| {
            config.record.events = headcount::config::Events::Off;
            config.schema.event.constants.clear();
            config.schema.event.columns.user_agent = "no such column".into();
        })
        .await;
        assert_eq!(problems(&site.config).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn w10_while_a_column_is_unfilled_batches_wait_and_then_go_on() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = Site::new(variant).await;
        let alice = site.member("alice").await;
        let session = site.session(&alice, "alice", SessionRow::default()).await;
        let gardening = site.community("gardening").await;
        let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
        site.store.apply(&views).await.unwrap();

        let views = another(&views);
        // The app migrates while the sidecar runs.
        site.execute(
            "ALTER TABLE accounts_userevent RENAME TO old; ALTER TABLE old RENAME TO accounts_userevent",
        )
        .await;
        let (unfilled, filled) = if variant.is_postgres() {
            (
                "ALTER TABLE accounts_userevent ADD tenant int NOT NULL DEFAULT 1;
                 ALTER TABLE accounts_userevent ALTER tenant DROP DEFAULT",
                "ALTER TABLE accounts_userevent ALTER tenant SET DEFAULT 1",
            )
        } else {
            (
                "CREATE TABLE other AS SELECT * FROM accounts_userevent;
                 DROP TABLE accounts_userevent;
                 CREATE TABLE accounts_userevent (id integer PRIMARY KEY, user_id bigint, event_type text,
                     description text, metadata text, ip_address char(39), user_agent text, device_info text,
                     location_data text, timestamp datetime, tenant int NOT NULL);
                 INSERT INTO accounts_userevent SELECT *, 1 FROM other",
                "ALTER TABLE accounts_userevent DROP tenant",
            )
        };
        site.execute(unfilled).await;
        for _ in 0..2 {
            let error = site.store.apply(&views).await.unwrap_err();
            assert!(
                matches!(error, StoreError::Unavailable(_)),
                "the row is not at fault: {error:?}"
            );
            assert_eq!(error.class(), store::Class::Other);
        }
        assert!(
            site.store.community_by_key(&gardening).await.unwrap().is_some(),
            "reading goes on"
        );
        site.execute(filled).await;
        site.store.apply(&views).await.unwrap();
        assert_eq!(site.events().await.len(), 2);
        assert_eq!(site.pages_visited(&session).await, 2);
    }
}

#[tokio::test]
async fn a_key_that_nobody_makes_is_named() {
    let found = problems_after(
        Variant::PostgresDefault,
        "ALTER TABLE accounts_userevent ALTER id DROP IDENTITY",
        |_| {},
    )
    .await;
    assert_eq!(
        found,
        [
            "column id (bigint) of table \"public\".\"accounts_userevent\" has no default in the database and \
             is no uuid that the sidecar could make: give it a default, or set record.events = false"
        ]
    );
}

#[tokio::test]
async fn constants_that_make_no_sense_are_named() {
    for variant in DEFAULTS {
        let table = event_table(variant);
        let change = "ALTER TABLE accounts_userevent ADD tenant integer";
        let found = problems_after(variant, change, |config| {
            let constants = &mut config.schema.event.constants;
            constants.insert("color".into(), "red".into());
            constants.insert("description".into(), "x".into());
            constants.insert("tenant".into(), "seven".into());
        })
        .await;
        assert_eq!(
            found,
            [
                format!("table {table} has no column color: remove schema.event.constants.color"),
                format!(
                    "column description of table {table} is already filled: remove \
                     schema.event.constants.description"
                ),
                format!(
                    "\"seven\" is no value of column tenant (integer) of table {table}: change \
                     schema.event.constants.tenant"
                ),
            ]
        );
    }
}

/// Postgres would be given a part of it with each event; the app does not expect more in SQLite either.
#[tokio::test]
async fn w3_a_constant_that_is_longer_than_its_column_is_named() {
    for (variant, type_name) in DEFAULTS.into_iter().zip(["character varying(4)", "varchar(4)"]) {
        let table = event_table(variant);
        let change = "ALTER TABLE accounts_userevent ADD source varchar(4) NOT NULL DEFAULT 'x'";
        for (value, fits) in [("prox", true), ("äöüß", true), ("proxy", false)] {
            let found = problems_after(variant, change, |config| {
                config
                    .schema
                    .event
                    .constants
                    .insert("source".into(), value.into());
            })
            .await;
            let problem = format!(
                "\"{value}\" is no value of column source ({type_name}) of table {table}: change \
                 schema.event.constants.source"
            );
            assert_eq!(found, if fits { vec![] } else { vec![problem] });
        }
    }
}

/// Django's `UUIDField`: `char(32)` in SQLite.
#[tokio::test]
async fn w3_a_constant_of_another_kind_than_text_may_be_spelt_longer_than_its_column() {
    for (variant, type_name) in DEFAULTS.into_iter().zip(["uuid", "char(32)"]) {
        let change = format!("ALTER TABLE accounts_userevent ADD tenant {type_name}");
        let found = problems_after(variant, &change, |config| {
            let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
            config.schema.event.constants.insert("tenant".into(), uuid.into());
        })
        .await;
        assert_eq!(found, Vec::<String>::new());
    }
}

#[tokio::test]
async fn constants_are_cast_to_their_columns_types() {
    let site = Site::with(Variant::PostgresDefault, |config| {
        let constants = &mut config.schema.event.constants;
        constants.insert("tenant".into(), "0190163d-8694-739b-aea5-966c26f8ad91".into());
        constants.insert("Since".into(), "2024-01-01".into());
        constants.insert("it's \"odd\"".into(), "it's".into());
    })
    .await;
    site.execute(
        r#"ALTER TABLE accounts_userevent ADD tenant uuid NOT NULL, ADD "Since" date NOT NULL,
               ADD "it's ""odd""" varchar(9) NOT NULL"#,
    )
    .await;
    assert_eq!(problems(&site.config).await, Vec::<String>::new());
    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    let written = r#"SELECT concat_ws(' ', tenant, "Since", "it's ""odd""") FROM accounts_userevent"#;
    assert_eq!(
        site.text(written).await,
        "0190163d-8694-739b-aea5-966c26f8ad91 2024-01-01 it's"
    );
}
