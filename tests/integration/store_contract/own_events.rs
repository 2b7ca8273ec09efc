//! Page views in a table of our own, and in event tables that have only some of the columns.

use headcount::config::Events;
use headcount::store::{StoreError, migrate};

use super::{alice, stats_of_march};
use crate::store_site::{Site, Variant, another, batch, page_view, token};
use crate::support::examined;

contract! {
    s18_page_views_may_be_in_a_table_of_our_own,
    s18_until_it_is_made_page_views_wait_and_visitors_are_known,
    s19_an_event_table_may_lack_columns,
    s22_a_view_takes_what_it_can,
    s22_a_view_that_takes_no_events_is_named_and_they_wait,
    s23_what_can_never_be_updated_keeps_no_event_from_being_written,
}

fn own_table(variant: Variant) -> &'static str {
    if variant.is_postgres() {
        "headcount.page_view"
    } else {
        "headcount_page_view"
    }
}

/// Not migrated.
async fn with_own_events(variant: Variant) -> Site {
    Site::unmigrated_with(variant, |config| config.record.events = Events::Own).await
}

async fn s18_page_views_may_be_in_a_table_of_our_own(variant: Variant) {
    let site = with_own_events(variant).await;
    let shown = migrate(&site.config, true).await.expect("a plan");
    let done = migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(done, shown);
    let titles: Vec<_> = done.iter().map(|step| &*step.title).collect();
    assert!(
        titles.contains(&&*format!("table {}", own_table(variant))),
        "{titles:?}"
    );
    assert_eq!(migrate(&site.config, false).await.expect("nothing to do"), []);

    let (alice, session, gardening) = alice(&site).await;
    let views = [
        "2024-03-01T10:00:00Z",
        "2024-03-02T10:00:00Z",
        "2024-05-01T10:00:00Z",
    ];
    let views = batch(&session, &gardening, views.map(page_view).into());
    assert_eq!(site.store.apply(&views).await.unwrap().views, 3);
    assert_eq!(
        site.store.apply(&views).await.unwrap().known_parts,
        1,
        "not twice"
    );
    assert_eq!(site.events().await.len(), 0, "the app's table is left alone");
    let table = own_table(variant);
    let rows = site
        .rows(&format!(
            "SELECT CAST(user_id AS TEXT), event_type, description FROM {table} ORDER BY id"
        ))
        .await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0][1].as_deref(), Some("page_view"));
    assert_eq!(
        rows[0][0].as_ref().map(|user| user.replace('-', "")),
        Some(alice.as_str().replace('-', ""))
    );
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (2, 1));
    assert_eq!(site.pages_visited(&session).await, 3);
    let found = examined::tables(&site.config).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
}

async fn s18_until_it_is_made_page_views_wait_and_visitors_are_known(variant: Variant) {
    let site = with_own_events(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let error = site.store.apply(&views).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!error.may_be_the_rows());
    assert!(
        error.chain().contains("run headcount migrate"),
        "{}",
        error.chain()
    );
    assert!(!error.chain().contains("not available"), "{}", error.chain());
    assert!(
        site.store
            .browser_session(&token("token-of-alice"))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(site.store.visitors(&[alice]).await.unwrap().len(), 1);
    migrate(&site.config, false).await.expect("it is migrated");
    assert_eq!(site.store.apply(&views).await.unwrap().views, 1);
}

async fn s19_an_event_table_may_lack_columns(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.schema.event.table = "views".into();
        config.schema.event.constants.clear();
        let columns = &mut config.schema.event.columns;
        columns.id = String::new();
        columns.user_id = "who".into();
        columns.event_type = "kind".into();
        columns.metadata = "about".into();
        columns.timestamp = "at".into();
        for absent in [
            &mut columns.description,
            &mut columns.ip_address,
            &mut columns.user_agent,
            &mut columns.device_info,
            &mut columns.location_data,
        ] {
            absent.clear();
        }
    })
    .await;
    let key = match variant {
        Variant::PostgresDefault | Variant::SqliteDefault => "bigint",
        Variant::PostgresRenamed => "uuid",
        Variant::SqliteRenamed => "char(32)",
    };
    let (json, moment) = if variant.is_postgres() {
        ("jsonb", "timestamptz")
    } else {
        ("text", "datetime")
    };
    site.execute(&format!(
        "CREATE TABLE views (who {key} NOT NULL, kind varchar(20) NOT NULL, about {json} NOT NULL, at {moment} NOT NULL)"
    ))
    .await;
    let found = examined::tables(&site.config).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    let (_, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (1, 1));
}

/// Puts a view with the name of a table in its place.
async fn behind_a_view(site: &Site, table: &str, select: &str) {
    let (schema, name) = table
        .rsplit_once('.')
        .map_or(("", table), |(schema, name)| (schema, name));
    let name = format!("{name}_kept");
    let kept = if schema.is_empty() {
        name.clone()
    } else {
        format!("{schema}.{name}")
    };
    let (view, kept) = (site.table(table), site.table(&kept));
    site.execute(&format!(
        "ALTER TABLE {view} RENAME TO \"{name}\"; CREATE VIEW {view} AS {select} {kept}"
    ))
    .await;
}

async fn s22_a_view_takes_what_it_can(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let profiles = site.config.schema.profile.table.clone();
    // A view of several rows in one takes no updates, on SQLite no view does.
    behind_a_view(&site, &profiles, "SELECT DISTINCT * FROM").await;
    let found = examined::tables(&site.config).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].blocks_writes());
    let text = found[0].to_string();
    assert!(
        text.contains("is a view that takes no UPDATE") && text.contains("[record]"),
        "{text}"
    );
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    for batch in [&views, &another(&views)] {
        assert_eq!(site.store.apply(batch).await.unwrap().views, 1);
    }
    assert_eq!(site.events().await.len(), 2);
    assert_eq!(site.pages_visited(&session).await, 2);
    assert_eq!(site.store.visitors(&[alice]).await.unwrap().len(), 1);
    if variant.is_postgres() {
        // A plain view is as good as its table.
        let sessions = site.config.schema.session.table.clone();
        behind_a_view(&site, &sessions, "SELECT * FROM").await;
        assert_eq!(examined::tables(&site.config).await.unwrap(), found);
        let store = site.reconfigured(|_| {});
        store.apply(&another(&views)).await.unwrap();
        assert_eq!(site.pages_visited(&session).await, 3);
    }
}

async fn s22_a_view_that_takes_no_events_is_named_and_they_wait(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let events = site.config.schema.event.table.clone();
    behind_a_view(&site, &events, "SELECT DISTINCT * FROM").await;
    let found = examined::tables(&site.config).await.unwrap();
    let text = found.iter().map(ToString::to_string).collect::<String>();
    assert!(
        text.contains("is a view that takes no INSERT") && text.contains("record.events"),
        "{text}"
    );
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let error = site.store.apply(&views).await.unwrap_err();
    assert!(error.chain().contains("takes no INSERT"), "{}", error.chain());
    assert!(!error.chain().contains("not available") && !error.may_be_the_rows());
    assert_eq!(site.pages_visited(&session).await, 0);
    // What is read can be read.
    assert_eq!(stats_of_march(&site, &gardening).await.page_views, 0);
    assert!(
        site.store
            .browser_session(&token("token-of-alice"))
            .await
            .unwrap()
            .is_some()
    );
}

/// As of a view that was made meanwhile, or behind a foreign server: nothing in the catalogue says so.
async fn s23_what_can_never_be_updated_keeps_no_event_from_being_written(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    if variant.is_postgres() {
        let sessions = site.table(&site.config.schema.session.table);
        site.execute(&format!(
            "ALTER TABLE {sessions} REPLICA IDENTITY NOTHING; CREATE PUBLICATION cannot FOR TABLE {sessions}"
        ))
        .await;
    } else {
        let sessions = site.config.schema.session.table.clone();
        behind_a_view(&site, &sessions, "SELECT * FROM").await;
    }
    let applied = site.store.apply(&another(&views)).await.unwrap();
    assert_eq!(applied.views, 1);
    // What the catalogue says of a view, the check of the tables tells.
    let (told, says): (Vec<String>, _) = if variant.is_postgres() {
        (applied.left_out, "pages_visited: ")
    } else {
        assert_eq!(applied.left_out, [""; 0]);
        let problems = examined::tables(&site.config).await.unwrap();
        let told = problems.iter().map(ToString::to_string);
        (told.collect(), "is a view that takes no UPDATE")
    };
    assert!(told.iter().any(|told| told.contains(says)), "{told:?}");
    assert_eq!(site.events().await.len(), 2);
    assert_eq!(site.last_active(&alice).await, "2024-03-01 10:00:00");
    assert_eq!(site.pages_visited(&session).await, 1);
}
