//! What every store must do, run over both databases, each with default and with other names and keys.

use std::sync::Arc;

use chrono::Utc;
use headcount::config::CommunityIdAs;
use headcount::ids::{CommunityId, UserId};
use headcount::page_view::PageView;
use headcount::store::{Stats, StoreError, VisitorRow};
use headcount::writer::batch::{Batch, RecordedView};
use serde_json::json;

use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view, token};

/// Each test once per variant.
macro_rules! contract {
    ($($test:ident,)+) => {
        contract! { @variants ($($test)+)
            postgres_default PostgresDefault, postgres_renamed PostgresRenamed,
            sqlite_default SqliteDefault, sqlite_renamed SqliteRenamed }
    };
    (@variants $tests:tt $($module:ident $variant:ident),+) => {
        $(contract! { @module $tests $module $variant })+
    };
    (@module ($($test:ident)+) $module:ident $variant:ident) => {
        mod $module {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Variant::$variant).await;
            })+
        }
    };
}

contract! {
    a_token_finds_its_session_whatever_its_state,
    an_unknown_token_is_nobodys,
    a_slug_finds_its_community,
    a_community_exists_in_one_spelling_only,
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
    each_write_can_be_switched_off,
    w1_a_deleted_user_refuses_the_batch_and_leaves_nothing_of_it,
    an_empty_batch_is_nothing,
    w7_writers_with_opposite_orders_do_not_deadlock,
    i3_a_visitor_shows_the_latest_session_that_is_active_not_ended_and_not_expired,
    visitors_come_with_name_and_picture_and_without_the_deleted,
    s1_one_row_per_session_before_the_average,
    s2_a_session_longer_than_a_day_counts_in_full,
    s3_open_sessions_are_left_out_of_the_average,
    s4_session_duration_is_of_the_site_of_those_who_came,
    s5_the_window_is_half_open,
    s6_visitors_are_distinct_users_over_the_whole_window,
    a_view_that_the_app_records_too_counts_once,
    with_events_off_the_apps_page_views_count,
    statistics_count_page_views_of_the_community_only,
    a_community_that_nobody_viewed_has_zeros_and_no_average,
    the_store_answers_pings_and_closes,
}

/// Alice, signed in, and a community.
async fn alice(site: &Site) -> (UserId, Arc<headcount::auth::BrowserSession>, CommunityId) {
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    (alice, session, site.community("gardening").await)
}

async fn stats_of_march(site: &Site, community: &CommunityId) -> Stats {
    site.store
        .stats(community, at("2024-03-01T00:00:00Z"), at("2024-04-01T00:00:00Z"))
        .await
        .unwrap()
}

fn in_community(community: &CommunityId) -> String {
    format!(r#"{{"url": "/x", "community_id": "{community}", "source": "headcount"}}"#)
}

async fn a_token_finds_its_session_whatever_its_state(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let expires_at = at("2024-03-15T10:20:30.123456Z");
    for (is_active, is_ended) in [(true, false), (false, false), (true, true), (false, true)] {
        let row = SessionRow {
            expires_at,
            is_active,
            is_ended,
            ..SessionRow::default()
        };
        let name = format!("token-{is_active}-{is_ended}");
        let written = site.session(&alice, &name, row).await;
        let found = site.store.browser_session(&token(&name)).await.unwrap().unwrap();
        assert_eq!(found, *written);
        let in_time = at("2024-03-15T10:20:30.123455Z");
        assert_eq!(found.is_valid_at(in_time), is_active && !is_ended);
        assert!(!found.is_valid_at(expires_at));
    }
}

async fn an_unknown_token_is_nobodys(variant: Variant) {
    let site = Site::new(variant).await;
    alice(&site).await;
    for unknown in [
        "",
        "token-of-bob",
        "TOKEN-OF-ALICE",
        "token-of-alice\0",
        "\0",
        "' OR '1'='1",
        "%",
    ] {
        let found = site.store.browser_session(&token(unknown)).await.unwrap();
        assert_eq!(found, None, "{unknown:?}");
    }
}

async fn a_slug_finds_its_community(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    site.community("cooking").await;
    let found = site.store.community_by_slug("gardening").await.unwrap();
    assert_eq!(found, Some(gardening));
    for unknown in ["", "garden", "Gardening", "gardening\0", "' OR '1'='1"] {
        let found = site.store.community_by_slug(unknown).await.unwrap();
        assert_eq!(found, None, "{unknown:?}");
    }
}

async fn a_community_exists_in_one_spelling_only(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    assert!(site.store.community_exists(&gardening).await.unwrap());
    let id = gardening.as_str();
    let mut others = vec![
        String::new(),
        "gardening".into(),
        "999999".into(),
        "99999999999999999999999".into(),
        format!(" {id}"),
        format!("0{id}"),
        format!("{id}\0"),
        "0190163d-8694-739b-aea5-966c26f8ad91".into(),
    ];
    if variant.is_renamed() {
        others.extend([id.replace('-', ""), id.to_uppercase() + "A", format!("{{{id}}}")]);
    }
    for other in others {
        let exists = site
            .store
            .community_exists(&CommunityId::new(other.clone()))
            .await;
        assert!(!exists.unwrap(), "{other:?}");
    }
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
    views.views[1].community = None;
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
        .views
        .extend(batch(&other, &gardening, vec![page_view("2024-03-01T10:00:02Z")]).views);
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
        config.record.events = false;
        config.record.pages_visited = false;
        config.record.last_active = false;
    });
    nothing.apply(&views).await.unwrap();
    assert_eq!(state().await, (0, 0, false));
    let events = site.reconfigured(|config| {
        config.record.pages_visited = false;
        config.record.last_active = false;
    });
    events.apply(&views).await.unwrap();
    assert_eq!(state().await, (1, 0, false));
    let pages = site.reconfigured(|config| {
        config.record.events = false;
        config.record.last_active = false;
    });
    pages.apply(&views).await.unwrap();
    assert_eq!(state().await, (1, 1, false));
    let last_active = site.reconfigured(|config| {
        config.record.events = false;
        config.record.pages_visited = false;
    });
    last_active.apply(&views).await.unwrap();
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
    views.views.extend(
        batch(
            &Arc::new(gone),
            &gardening,
            vec![page_view("2024-03-01T10:00:01Z")],
        )
        .views,
    );

    let refused = site.store.apply(&views).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert_eq!(site.events().await.len(), 0);
    assert_eq!(site.pages_visited(&session).await, 0);
    assert_eq!(site.last_active(&alice).await, "2024-01-01 00:00:00");

    views.views.pop();
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
    let mut views = Vec::new();
    for number in 0..20 {
        let member = site.member(&format!("member-{number}")).await;
        let token = format!("token-of-member-{number}");
        let session = site.session(&member, &token, SessionRow::default()).await;
        views.push(RecordedView {
            view: page_view("2024-03-01T10:00:00Z"),
            session,
            community: Some(gardening.clone()),
        });
    }
    let forth = Batch { views: views.clone() };
    views.reverse();
    let back = Batch { views };

    let other_sidecar = site.reconfigured(|_| {});
    let writers = (0..8).flat_map(|_| [site.store.apply(&forth), other_sidecar.apply(&back)]);
    for outcome in futures_util::future::join_all(writers).await {
        outcome.unwrap();
    }
    assert_eq!(site.events().await.len(), 16 * 20);
    assert_eq!(site.pages_visited(&forth.views[0].session).await, 16);
}

async fn i3_a_visitor_shows_the_latest_session_that_is_active_not_ended_and_not_expired(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member("alice").await;
    let started = |when: &str, pages_visited| SessionRow {
        started_at: at(when),
        pages_visited,
        ..SessionRow::default()
    };
    let open = |when, pages| started(when, pages);
    let mut inactive = started("2024-03-04T09:00:00Z", 4);
    inactive.is_active = false;
    let mut ended = started("2024-03-05T09:00:00Z", 5);
    ended.is_ended = true;
    let mut expired = started("2024-03-06T09:00:00Z", 6);
    expired.expires_at = Utc::now();
    for (name, row) in [
        ("first", open("2024-03-01T09:00:00Z", 1)),
        ("latest", open("2024-03-03T09:00:00.5Z", 3)),
        ("second", open("2024-03-02T09:00:00Z", 2)),
        ("inactive", inactive),
        ("ended", ended),
        ("expired", expired),
    ] {
        site.session(&alice, name, row).await;
    }
    let visitors = site.store.visitors(std::slice::from_ref(&alice)).await.unwrap();
    assert_eq!(
        visitors,
        [VisitorRow {
            user_id: alice,
            username: "alice".into(),
            avatar: None,
            started_at: Some(at("2024-03-03T09:00:00.5Z")),
            pages_visited: Some(3),
        }]
    );
}

async fn visitors_come_with_name_and_picture_and_without_the_deleted(variant: Variant) {
    let site = Site::new(variant).await;
    let alice = site.member_with_avatar("alice", "faces/alice.png").await;
    let bob = site.member("bob").await;
    site.member("carol").await;
    let gone = if variant.is_renamed() {
        "0190163d-8694-739b-aea5-966c26f8ad91"
    } else {
        "999999"
    };
    let asked = [
        bob.clone(),
        UserId::from(gone),
        UserId::from("no key at all"),
        UserId::from("\0"),
        alice.clone(),
    ];
    let mut visitors = site.store.visitors(&asked).await.unwrap();
    visitors.sort_by(|a, b| a.username.cmp(&b.username));
    let without_session = |user_id, username: &str, avatar: Option<&str>| VisitorRow {
        user_id,
        username: username.into(),
        avatar: avatar.map(Into::into),
        started_at: None,
        pages_visited: None,
    };
    assert_eq!(
        visitors,
        [
            without_session(alice, "alice", Some("faces/alice.png")),
            without_session(bob, "bob", None)
        ]
    );
    assert_eq!(site.store.visitors(&[]).await.unwrap(), []);
}

async fn s1_one_row_per_session_before_the_average(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    for (name, minutes, views) in [("alice", 10, 100), ("bob", 20, 1)] {
        let member = site.member(name).await;
        let row = SessionRow {
            started_at: at("2024-03-01T09:00:00Z"),
            ended_at: Some(at("2024-03-01T09:00:00Z") + chrono::TimeDelta::minutes(minutes)),
            ..SessionRow::default()
        };
        let session = site.session(&member, name, row).await;
        let views = vec![page_view("2024-03-01T09:05:00Z"); views];
        site.store
            .apply(&batch(&session, &gardening, views))
            .await
            .unwrap();
    }
    assert_eq!(
        stats_of_march(&site, &gardening).await,
        Stats {
            total_visitors: 2,
            page_views: 101,
            avg_session_duration: Some(900.0),
            ended_sessions: 2,
        }
    );
}

async fn s2_a_session_longer_than_a_day_counts_in_full(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    let row = SessionRow {
        started_at: at("2024-03-01T09:00:00Z"),
        ended_at: Some(at("2024-03-02T10:00:00.5Z")),
        ..SessionRow::default()
    };
    site.session(&alice, "long", row).await;
    site.app_event(
        &alice,
        "page_view",
        &in_community(&gardening),
        "2024-03-01T10:00:00Z",
    )
    .await;
    let average = stats_of_march(&site, &gardening)
        .await
        .avg_session_duration
        .unwrap();
    assert!((average - 90_000.5).abs() < 0.001, "{average}");
}

async fn s3_open_sessions_are_left_out_of_the_average(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    let ended = SessionRow {
        ended_at: Some(at("2024-03-01T09:01:00Z")),
        ..SessionRow::default()
    };
    site.session(&alice, "ended", ended).await;
    site.session(&alice, "open", SessionRow::default()).await;
    let expired = SessionRow {
        expires_at: at("2024-03-15T09:00:00Z"),
        ..SessionRow::default()
    };
    site.session(&alice, "expired", expired).await;
    site.app_event(
        &alice,
        "page_view",
        &in_community(&gardening),
        "2024-03-01T10:00:00Z",
    )
    .await;
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.avg_session_duration, Some(60.0));
    assert_eq!(stats.ended_sessions, 1);
}

async fn s4_session_duration_is_of_the_site_of_those_who_came(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let cooking = site.community("cooking").await;
    for (name, seconds, community) in [("alice", 100, &gardening), ("bob", 300, &cooking)] {
        let member = site.member(name).await;
        let row = SessionRow {
            ended_at: Some(SessionRow::default().started_at + chrono::TimeDelta::seconds(seconds)),
            ..SessionRow::default()
        };
        site.session(&member, name, row).await;
        // The view is of another session than the one measured: the length is of the site's sessions.
        site.app_event(
            &member,
            "page_view",
            &in_community(community),
            "2024-03-20T10:00:00Z",
        )
        .await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.avg_session_duration, Some(100.0));
    let stats = stats_of_march(&site, &cooking).await;
    assert_eq!(stats.avg_session_duration, Some(300.0));
}

async fn s5_the_window_is_half_open(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    for when in [
        "2024-03-01T23:59:59.999999Z",
        "2024-03-02T00:00:00Z",
        "2024-03-02T00:00:00.000001Z",
    ] {
        site.app_event(&alice, "page_view", &in_community(&gardening), when)
            .await;
        let row = SessionRow {
            started_at: at(when),
            ended_at: Some(at("2024-03-05T00:00:00Z")),
            ..SessionRow::default()
        };
        site.session(&alice, when, row).await;
    }
    let day = async |from: &str, to: &str| {
        let stats = site.store.stats(&gardening, at(from), at(to)).await.unwrap();
        (stats.page_views, stats.ended_sessions)
    };
    let first = day("2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z").await;
    let second = day("2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z").await;
    assert_eq!(
        (first, second),
        ((1, 1), (2, 2)),
        "midnight belongs to the day that begins"
    );
    assert_eq!(day("2024-03-02T00:00:00Z", "2024-03-02T00:00:00Z").await, (0, 0));
}

async fn s6_visitors_are_distinct_users_over_the_whole_window(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    let bob = site.member("bob").await;
    for (member, when) in [
        (&alice, "2024-03-01T10:00:00Z"),
        (&alice, "2024-03-02T10:00:00Z"),
        (&alice, "2024-03-03T10:00:00Z"),
        (&bob, "2024-03-02T11:00:00Z"),
    ] {
        site.app_event(member, "page_view", &in_community(&gardening), when)
            .await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.total_visitors, 2, "not the four of three days added up");
    assert_eq!(stats.page_views, 4);
}

async fn a_view_that_the_app_records_too_counts_once(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    let by_the_app = format!(r#"{{"url": "/x", "community_id": "{gardening}"}}"#);
    site.app_event(&alice, "page_view", &by_the_app, "2024-03-01T10:00:00Z")
        .await;
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (1, 1));
}

async fn with_events_off_the_apps_page_views_count(variant: Variant) {
    let site = Site::with(variant, |config| config.record.events = false).await;
    let (alice, _, gardening) = alice(&site).await;
    let by_the_app = format!(r#"{{"url": "/x", "community_id": "{gardening}"}}"#);
    site.app_event(&alice, "page_view", &by_the_app, "2024-03-01T10:00:00Z")
        .await;
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (1, 1));
}

async fn statistics_count_page_views_of_the_community_only(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let cooking = site.community("cooking").await;
    let alice = site.member("alice").await;
    let when = "2024-03-01T10:00:00Z";
    site.app_event(&alice, "post_view", &in_community(&gardening), when)
        .await;
    site.app_event(&alice, "page_view", &in_community(&cooking), when)
        .await;
    site.app_event(&alice, "page_view", "{}", when).await;
    site.app_event(&alice, "page_view", r#"{"community_id": null}"#, when)
        .await;
    site.app_event(&alice, "page_view", "[1]", when).await;
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!((stats.page_views, stats.total_visitors), (0, 0));
    let stats = stats_of_march(&site, &cooking).await;
    assert_eq!((stats.page_views, stats.total_visitors), (1, 1));
}

async fn a_community_that_nobody_viewed_has_zeros_and_no_average(variant: Variant) {
    let site = Site::new(variant).await;
    for community in ["1", "nonsense", "\0"] {
        assert_eq!(
            stats_of_march(&site, &CommunityId::from(community)).await,
            Stats {
                total_visitors: 0,
                page_views: 0,
                avg_session_duration: None,
                ended_sessions: 0,
            }
        );
    }
}

async fn the_store_answers_pings_and_closes(variant: Variant) {
    let site = Site::new(variant).await;
    site.store.ping().await.unwrap();
    site.store.close().await;
    let closed = site.store.ping().await.unwrap_err();
    assert!(matches!(closed, StoreError::Unavailable(_)), "{closed:?}");
}
