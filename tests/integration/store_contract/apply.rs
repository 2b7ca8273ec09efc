//! What a batch writes.

use std::sync::Arc;
use std::time::Duration;

use headcount::batch::Batch;
use headcount::config::CommunityIdAs;
use headcount::ids::UserId;
use headcount::page_view::PageView;
use headcount::store::StoreError;
use serde_json::json;

use super::{alice, stats_of_march};
use crate::store_site::{SessionRow, Site, Variant, another, at, batch, batch_of, page_view};

contract! {
    an_event_is_what_the_app_itself_would_have_written,
    a_search_query_is_there_only_when_there_was_one,
    a_community_id_is_a_number_where_configured,
    many_views_are_one_batch_of_events_in_order,
    an_unknown_address_is_null_where_allowed_and_zeros_where_not,
    w2_nul_never_reaches_the_database,
    w3_texts_are_cut_to_their_columns_on_a_character,
    w4_an_ipv4_mapped_address_is_written_as_ipv4,
    pages_visited_grows_by_the_views_of_the_session,
    s7_last_active_never_moves_back,
    w29_last_active_is_raised_where_it_is_behind_by_the_interval,
    each_write_can_be_switched_off,
    w1_a_deleted_user_refuses_the_batch_and_leaves_nothing_of_it,
    an_empty_batch_is_nothing,
    w7_writers_with_opposite_orders_do_not_deadlock,
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

async fn many_views_are_one_batch_of_events_in_order(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, gardening) = alice(&site).await;
    let views = (0..500)
        .map(|second| PageView {
            url: format!("/{second}"),
            at: at("2024-03-01T10:00:00Z") + chrono::TimeDelta::seconds(second),
            ..page_view("2024-03-01T10:00:00Z")
        })
        .collect();
    site.store
        .apply(&batch(&session, &gardening, views))
        .await
        .unwrap();
    let urls: Vec<_> = site
        .events()
        .await
        .iter()
        .map(|event| event.metadata["url"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        urls,
        (0..500).map(|second| format!("/{second}")).collect::<Vec<_>>()
    );
    assert_eq!(site.pages_visited(&session).await, 500);
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
    view.device.browser = "b\0".into();
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
        user_agent: "ü".repeat(400),
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

async fn pages_visited_grows_by_the_views_of_the_session(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let visited = SessionRow {
        pages_visited: 7,
        ..SessionRow::default()
    };
    let other = site.session(&alice, "alice-on-her-phone", visited).await;
    let untouched = site.session(&alice, "alice-at-work", SessionRow::default()).await;
    let mut views = batch(
        &session,
        &gardening,
        vec![
            page_view("2024-03-01T10:00:00Z"),
            page_view("2024-03-01T10:00:01Z"),
        ],
    );
    views
        .parts
        .extend(batch(&other, &gardening, vec![page_view("2024-03-01T10:00:02Z")]).parts);
    site.store.apply(&views).await.unwrap();
    assert_eq!(site.pages_visited(&session).await, 2);
    assert_eq!(site.pages_visited(&other).await, 8);
    assert_eq!(site.pages_visited(&untouched).await, 0);
}

async fn s7_last_active_never_moves_back(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let seen = async |moments: &[&str]| {
        let views = moments.iter().map(|when| page_view(when)).collect();
        site.store
            .apply(&batch(&session, &gardening, views))
            .await
            .unwrap();
        site.last_active(&alice).await
    };
    assert_eq!(
        seen(&["2024-03-01T10:00:00Z", "2024-03-01T09:00:00Z"]).await,
        "2024-03-01 10:00:00"
    );
    assert_eq!(
        seen(&["2024-03-01T09:59:59.999999Z"]).await,
        "2024-03-01 10:00:00"
    );
    assert_eq!(
        seen(&["2024-03-01T10:00:00.000001Z"]).await,
        "2024-03-01 10:00:00.000001"
    );
    assert_eq!(
        seen(&["2024-03-01T10:00:00Z"]).await,
        "2024-03-01 10:00:00.000001"
    );
    assert_eq!(seen(&["2024-03-01T10:00:01Z"]).await, "2024-03-01 10:00:01");
}

async fn w29_last_active_is_raised_where_it_is_behind_by_the_interval(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.record.last_active_interval = Duration::from_secs(60);
    })
    .await;
    let (alice, session, gardening) = alice(&site).await;
    let seen = async |when| {
        let views = batch(&session, &gardening, vec![page_view(when)]);
        site.store.apply(&views).await.unwrap();
        site.last_active(&alice).await
    };
    let first = "2024-03-01 10:00:00";
    assert_eq!(seen("2024-03-01T10:00:00Z").await, first);
    for not_yet in [
        "2024-03-01T10:00:01Z",
        "2024-03-01T10:01:00Z",
        "2024-03-01T09:00:00Z",
    ] {
        assert_eq!(seen(not_yet).await, first, "{not_yet}");
    }
    assert_eq!(
        seen("2024-03-01T10:01:00.000001Z").await,
        "2024-03-01 10:01:00.000001"
    );
    if variant.is_postgres() {
        // Nothing is written, nor is anybody waited for who has the profile locked.
        let table = site.table(&site.config.schema.profile.table);
        let version = format!("SELECT string_agg(xmin::text || ctid::text, ' ') FROM {table}");
        let before = site.text(&version).await;
        let mut app = site.postgres().begin().await.unwrap();
        // As an UPDATE of the app has it.
        let lock = format!("SELECT FROM {table} FOR NO KEY UPDATE");
        sqlx::query(sqlx::AssertSqlSafe(lock))
            .execute(&mut *app)
            .await
            .unwrap();
        seen("2024-03-01T10:02:00Z").await;
        app.rollback().await.unwrap();
        assert_eq!(site.text(&version).await, before);
    }
}

async fn each_write_can_be_switched_off(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let state = async || {
        let raised = site.last_active(&alice).await != "2024-01-01 00:00:00";
        (
            site.events().await.len(),
            site.pages_visited(&session).await,
            raised,
        )
    };

    let nothing = site.reconfigured(|config| {
        config.record.events = headcount::config::Events::Off;
        config.record.pages_visited = false;
        config.record.last_active = false;
    });
    nothing.apply(&views).await.unwrap();
    assert_eq!(state().await, (0, 0, false));
    let events = site.reconfigured(|config| {
        config.record.pages_visited = false;
        config.record.last_active = false;
    });
    events.apply(&another(&views)).await.unwrap();
    assert_eq!(state().await, (1, 0, false));
    let pages = site.reconfigured(|config| {
        config.record.events = headcount::config::Events::Off;
        config.record.last_active = false;
    });
    pages.apply(&another(&views)).await.unwrap();
    assert_eq!(state().await, (1, 1, false));
    let last_active = site.reconfigured(|config| {
        config.record.events = headcount::config::Events::Off;
        config.record.pages_visited = false;
    });
    last_active.apply(&another(&views)).await.unwrap();
    assert_eq!(state().await, (1, 1, true));
}

async fn w1_a_deleted_user_refuses_the_batch_and_leaves_nothing_of_it(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let mut gone = (*session).clone();
    gone.user_id = if variant.is_renamed() {
        UserId::from("0190163d-8694-739b-aea5-966c26f8ad91")
    } else {
        UserId::from("999999")
    };
    let mut views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let gone = batch(
        &Arc::new(gone),
        &gardening,
        vec![page_view("2024-03-01T10:00:01Z")],
    );
    views.parts[0].views.extend(gone.views().cloned());

    let refused = site.store.apply(&views).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert_eq!(site.events().await.len(), 0);
    assert_eq!(site.pages_visited(&session).await, 0);
    assert_eq!(site.last_active(&alice).await, "2024-01-01 00:00:00");

    // Refused, it was not noted as applied.
    views.parts[0].views.pop();
    site.store.apply(&views).await.unwrap();
    assert_eq!(site.events().await.len(), 1);
}

async fn an_empty_batch_is_nothing(variant: Variant) {
    let site = Site::new(variant).await;
    site.store.apply(&Batch::default()).await.unwrap();
    assert_eq!(site.events().await.len(), 0);
}

async fn w7_writers_with_opposite_orders_do_not_deadlock(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let (mut views, mut sessions) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let member = site.member(&format!("member-{number}")).await;
        let token = format!("token-of-member-{number}");
        let session = site.session(&member, &token, SessionRow::default()).await;
        views.extend(
            batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")])
                .views()
                .cloned(),
        );
        sessions.push(session);
    }
    let forth: Vec<Batch> = (0..8).map(|_| batch_of(views.clone())).collect();
    views.reverse();
    let back: Vec<Batch> = (0..8).map(|_| batch_of(views.clone())).collect();

    let other_sidecar = site.reconfigured(|_| {});
    let writers = forth
        .iter()
        .map(|batch| site.store.apply(batch))
        .chain(back.iter().map(|batch| other_sidecar.apply(batch)));
    for outcome in futures_util::future::join_all(writers).await {
        outcome.unwrap();
    }
    assert_eq!(site.events().await.len(), 16 * 20);
    assert_eq!(site.pages_visited(&sessions[0]).await, 16);
}
