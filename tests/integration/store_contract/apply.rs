//! What a batch writes besides the events' values: sessions, users, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use headcount::batch::Batch;
use headcount::ids::UserId;
use headcount::page_view::PageView;
use headcount::store::StoreError;

use super::alice;
use crate::store_site::{SessionRow, Site, Variant, another, at, batch, batch_of, page_view};

contract! {
    many_views_are_one_batch_of_events_in_order,
    pages_visited_grows_by_the_views_of_the_session,
    s7_last_active_never_moves_back,
    w29_last_active_is_raised_where_it_is_behind_by_the_interval,
    each_write_can_be_switched_off,
    w1_a_deleted_user_refuses_the_batch_and_leaves_nothing_of_it,
    an_empty_batch_is_nothing,
    w7_writers_with_opposite_orders_do_not_deadlock,
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
