//! What a page view's event holds, column by column.

use std::sync::Arc;

use headcount::config::CommunityIdAs;
use headcount::page_view::PageView;
use serde_json::json;

use super::{alice, stats_of_march};
use crate::store_site::{Site, Variant, batch, page_view};

contract! {
    an_event_is_what_the_app_itself_would_have_written,
    a_search_query_is_there_only_when_there_was_one,
    a_community_id_is_a_number_where_configured,
    an_unknown_address_is_null_where_allowed_and_zeros_where_not,
    w2_nul_never_reaches_the_database,
    w3_texts_are_cut_to_their_columns_on_a_character,
    w4_an_ipv4_mapped_address_is_written_as_ipv4,
}

async fn an_event_is_what_the_app_itself_would_have_written(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let mut view = page_view("2024-03-01T10:00:00.25Z");
    view.user_agent = "Firefox".into();
    site.store
        .apply(&batch(&session, &gardening, vec![view]))
        .await
        .unwrap();

    let events = site.events().await;
    let [event] = &events[..] else {
        panic!("one event, not {events:?}")
    };
    assert_eq!(event.user_id, alice.as_str());
    assert_eq!(event.event_type, "page_view");
    assert_eq!(event.description, "Page view: /communities/42/?page=2");
    assert_eq!(
        event.metadata,
        json!({
            "url": "/communities/42/?page=2",
            "community_id": gardening.as_str(),
            "page_type": "community",
            "referrer": "https://example.org/",
            "route": "community",
            "status": 200,
            "duration_ms": 12,
            "source": "headcount",
        })
    );
    assert_eq!(event.ip_address.as_deref(), Some("198.51.100.7"));
    assert_eq!(event.user_agent, "Firefox");
    assert_eq!(
        event.device_info,
        json!({"browser": "Firefox 128.0", "os": "Linux", "device": "desktop"})
    );
    assert_eq!(event.location_data, json!({}));
    let timestamp = if variant.is_postgres() {
        "2024-03-01 10:00:00.25+00"
    } else {
        "2024-03-01 10:00:00.250000"
    };
    assert_eq!(event.timestamp, timestamp);
    if variant.is_renamed() {
        let tenant = format!(
            r#"SELECT CAST("tenant" AS TEXT) FROM {}"#,
            site.table(&site.config.schema.event.table)
        );
        assert_eq!(site.text(&tenant).await, "7");
        assert!(uuid::Uuid::try_parse(&event.id).is_ok_and(|id| id.get_version_num() == 4));
    }
    if variant == Variant::SqliteRenamed {
        let raw = r#"SELECT "id" || ' ' || typeof("tenant") FROM "audit_Event""#;
        let raw = site.text(raw).await;
        assert!(
            !raw.contains('-') && raw.ends_with(" integer"),
            "{raw}: as Django writes them"
        );
    }
}

async fn a_search_query_is_there_only_when_there_was_one(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let searched = PageView {
        search_query: Some("roses \"and\" thorns".into()),
        ..page_view("2024-03-01T10:00:00Z")
    };
    let bare = PageView {
        route: None,
        page_type: None,
        referrer: None,
        ..page_view("2024-03-01T10:00:01Z")
    };
    let mut views = batch(&session, &gardening, vec![searched, bare]);
    views.parts[0].views[1].community = None;
    site.store.apply(&views).await.unwrap();

    let events = site.events().await;
    assert_eq!(events[0].metadata["search_query"], "roses \"and\" thorns");
    let bare = events[1].metadata.as_object().unwrap();
    assert!(!bare.contains_key("search_query"));
    for absent in ["community_id", "page_type", "referrer", "route"] {
        assert_eq!(bare[absent], json!(null), "{absent}");
    }
}

async fn a_community_id_is_a_number_where_configured(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.record.community_id_as = CommunityIdAs::Number;
    })
    .await;
    let (_, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();

    let written = &site.events().await[0].metadata["community_id"];
    assert_eq!(
        written.is_number(),
        !variant.is_renamed(),
        "a uuid stays text: {written}"
    );
    assert_eq!(stats_of_march(&site, &gardening).await.page_views, 1);
}

async fn an_unknown_address_is_null_where_allowed_and_zeros_where_not(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let view = PageView {
        client_ip: None,
        ..page_view("2024-03-01T10:00:00Z")
    };
    site.store
        .apply(&batch(&session, &gardening, vec![view]))
        .await
        .unwrap();
    // The default model here allows null, the renamed one does not.
    let expected = variant.is_renamed().then(|| "0.0.0.0".to_owned());
    assert_eq!(site.events().await[0].ip_address, expected);
}

async fn w2_nul_never_reaches_the_database(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let mut view = PageView {
        url: "/a\0b".into(),
        referrer: Some("http://r\0/".into()),
        search_query: Some("\0".into()),
        user_agent: "agent\0".into(),
        ..page_view("2024-03-01T10:00:00Z")
    };
    Arc::make_mut(&mut view.device).browser = "b\0".into();
    site.store
        .apply(&batch(&session, &gardening, vec![view]))
        .await
        .unwrap();
    let event = &site.events().await[0];
    assert_eq!(event.description, "Page view: /ab");
    assert_eq!(event.metadata["url"], "/ab");
    assert_eq!(event.metadata["referrer"], "http://r/");
    assert_eq!(event.metadata["search_query"], "");
    assert_eq!(event.user_agent, "agent");
    assert_eq!(event.device_info["browser"], "b");
}

async fn w3_texts_are_cut_to_their_columns_on_a_character(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let view = PageView {
        url: "/ö".repeat(1000),
        user_agent: "ü".repeat(400).into(),
        ..page_view("2024-03-01T10:00:00Z")
    };
    site.store
        .apply(&batch(&session, &gardening, vec![view]))
        .await
        .unwrap();
    let event = &site.events().await[0];
    // The renamed model has varchar(60) and varchar(20), the default one text.
    let (description, user_agent) = if variant.is_renamed() {
        (60, 20)
    } else {
        (11 + 2000, 400)
    };
    assert_eq!(event.description.chars().count(), description);
    assert_eq!(event.user_agent.chars().count(), user_agent);
    assert_eq!(event.metadata["url"], "/ö".repeat(1000), "JSON has no limit");
}

async fn w4_an_ipv4_mapped_address_is_written_as_ipv4(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let addresses = ["::ffff:198.51.100.7", "2001:db8::1"];
    let views = addresses
        .iter()
        .zip(["2024-03-01T10:00:00Z", "2024-03-01T10:00:01Z"])
        .map(|(address, when)| PageView {
            client_ip: Some(address.parse().unwrap()),
            ..page_view(when)
        })
        .collect();
    site.store
        .apply(&batch(&session, &gardening, views))
        .await
        .unwrap();
    let events = site.events().await;
    assert_eq!(events[0].ip_address.as_deref(), Some("198.51.100.7"));
    assert_eq!(events[1].ip_address.as_deref(), Some("2001:db8::1"));
}
