//! What the tables' names and columns do not show: rows that are hidden, and a database that takes no writes.

use headcount::store::{self, StoreError};

use super::{as_role, problems};
use crate::store_site::{SessionRow, Site, Variant, batch, page_view, token};

/// Everybody would be anonymous, and nothing would say why.
#[tokio::test]
async fn c23_row_level_security_without_a_policy_for_the_user_is_named_with_the_policy() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("secured_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
         ALTER TABLE accounts_usersession ENABLE ROW LEVEL SECURITY;
         ALTER TABLE accounts_userevent ENABLE ROW LEVEL SECURITY;
         CREATE POLICY everybody_reads ON accounts_userevent FOR SELECT USING (true)"
    ))
    .await;
    // Whom it does not bind it does not hide anything from.
    assert_eq!(problems(&site.config).await, Vec::<String>::new());

    let limited = as_role(&site.config, &role);
    let found = problems(&limited).await;
    let commands: Vec<_> = found
        .iter()
        .map(|problem| {
            let (_, policy) = problem.split_once("or run: CREATE POLICY ").expect("a remedy");
            assert!(policy.ends_with(';'), "{policy}");
            format!("CREATE POLICY {policy}")
        })
        .collect();
    assert_eq!(commands.len(), 3, "{found:?}");
    for command in commands {
        site.execute(&command).await;
    }
    assert_eq!(problems(&limited).await, Vec::<String>::new());
    let alice = site.member("alice").await;
    site.session(&alice, "alice", SessionRow::default()).await;
    let store = store::open(&limited).unwrap();
    assert!(store.browser_session(&token("alice")).await.unwrap().is_some());
}

#[tokio::test]
async fn c24_a_database_that_takes_no_writes_is_named() {
    let site = Site::new(Variant::PostgresDefault).await;
    let name = site.text("SELECT current_database()").await;
    site.execute(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ))
    .await;
    let found = problems(&site.config).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("set database.url to the primary"), "{found:?}");
    let mut config = site.config.clone();
    config.record.events = headcount::config::Events::Off;
    config.record.pages_visited = false;
    config.record.last_active = false;
    assert_eq!(
        problems(&config).await,
        Vec::<String>::new(),
        "reading is all that is done"
    );
}

/// Has the server not know Europe/Kyiv, as with time zone data of before 2022.
const ZONE_UNKNOWN: &str = "
    CREATE OR REPLACE FUNCTION pg_catalog.timezone(text, timestamp with time zone) RETURNS timestamp
        LANGUAGE plpgsql IMMUTABLE STRICT AS $$
    BEGIN
        IF $1 = 'Europe/Kyiv' THEN
            RAISE 'time zone \"Europe/Kyiv\" not recognized' USING ERRCODE = '22023';
        END IF;
        RETURN timezone_of_all($1, $2);
    END $$";
/// Before the first: the server's own function, which that one stands in front of.
const OWN_FUNCTION: &str = "
    UPDATE pg_catalog.pg_proc SET proname = 'timezone_of_all'
    WHERE oid = 'pg_catalog.timezone(text, timestamp with time zone)'::regprocedure";

/// One that a server of another age knows need not be known here; its data is not that of the sidecar.
#[tokio::test]
async fn s9_page_views_wait_while_the_server_does_not_know_the_zone() {
    let kyiv = |config: &mut headcount::config::Config| {
        config.database.time_zone = Some(chrono_tz::Tz::Europe__Kyiv);
    };
    let site = Site::with(Variant::PostgresDefault, kyiv).await;
    site.execute(OWN_FUNCTION).await;
    site.execute(ZONE_UNKNOWN).await;
    assert_eq!(problems(&site.config).await, [""; 0], "no column needs it");
    let zone_known = ZONE_UNKNOWN.replace("= 'Europe/Kyiv'", "= ''");
    site.execute(&zone_known).await;
    site.execute("ALTER TABLE accounts_userevent ALTER timestamp TYPE timestamp")
        .await;
    assert_eq!(problems(&site.config).await, [""; 0]);

    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    let views = || batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    assert_eq!(site.store.apply(&views()).await.unwrap().views, 1);
    assert_eq!(site.events().await[0].timestamp, "2024-03-01 12:00:00");

    // As after a failover to a server with other data.
    site.execute(ZONE_UNKNOWN).await;
    let found = problems(&site.config).await;
    assert_eq!(found.len(), 1, "{found:?}");
    for part in [
        "Europe/Kyiv",
        "\"timestamp\"",
        "set database.time_zone",
        "pg_timezone_names",
    ] {
        assert!(found[0].contains(part), "{part}: {found:?}");
    }
    for store in [site.store.clone(), store::open(&site.config).unwrap()] {
        let mut error = store.apply(&views()).await.unwrap_err();
        for _ in 0..2 {
            assert!(!matches!(error, StoreError::Refused(_)), "{error:?}");
            error = store.apply(&views()).await.unwrap_err();
        }
        assert!(
            matches!(error, StoreError::Unavailable(_)) && !error.may_be_the_rows(),
            "{error:?}"
        );
        assert!(error.chain().contains("set database.time_zone"), "{error:?}");
    }
    site.execute(&zone_known).await;
    assert_eq!(site.store.apply(&views()).await.unwrap().views, 1);
}
