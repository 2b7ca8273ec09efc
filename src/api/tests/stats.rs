//! Tests of statistics: their window, their fields, and that they are computed once.

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::json;

use super::support::{Site, member, now, send};
use crate::store::Stats;

const STATS: &str = "/api/communities/42/visitors/stats";

#[tokio::test]
async fn the_statistics_have_exactly_the_documented_fields() {
    let site = Site::new();
    *site.store.stats.lock().unwrap() = Some(Stats {
        total_visitors: 3,
        page_views: 40,
        avg_session_duration: Some(90.5),
        ended_sessions: 2,
        avg_community_session_duration: Some(30.25),
        ended_community_sessions: 1,
    });
    assert_eq!(
        site.get(&format!("{STATS}?days=7")).await.json(),
        json!({
            "community_id": 42,
            "days": 7,
            "from": "2026-11-16T07:39:18.123456Z",
            "to": "2026-11-23T07:39:18.123456Z",
            "total_visitors": 3,
            "page_views": 40,
            "avg_session_duration": 90.5,
            "ended_sessions": 2,
            "avg_community_session_duration": 30.25,
            "ended_community_sessions": 1,
            "event_types": ["page_view"],
        })
    );
}

#[tokio::test]
async fn no_ended_session_means_no_average_rather_than_zero() {
    let answer = Site::new().get(STATS).await.json();
    assert_eq!(answer["avg_session_duration"], json!(null));
    assert_eq!(answer["ended_sessions"], 0);
}

/// S5: the store gets the half-open window that ends now.
#[tokio::test]
async fn the_window_ends_now_and_is_30_days_long_by_default() {
    let site = Site::new();
    assert_eq!(site.get(STATS).await.json()["days"], 30);
    assert_eq!(
        *site.store.stats_windows.lock().unwrap(),
        [("42".into(), now() - TimeDelta::days(30), now())]
    );
}

#[tokio::test]
async fn the_default_of_days_is_the_maximum_where_that_is_smaller() {
    let site = Site::with(|settings| settings.max_days = 7);
    assert_eq!(site.get(STATS).await.json()["days"], 7);
}

#[tokio::test]
async fn identical_requests_share_one_computation_and_its_result() {
    let site = Site::new();
    site.get("/api/communities/42/visitors/count").await;
    let hold = site.store.hold.lock().await;
    let requests: Vec<_> = (0..10)
        .map(|_| {
            let api = site.api.clone();
            tokio::spawn(async move { send(&api, http::Method::GET, STATS, member()).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(hold);
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::OK);
    }
    site.get(STATS).await;
    assert_eq!(site.store.stats_windows.lock().unwrap().len(), 1);
    site.get(&format!("{STATS}?days=31")).await;
    assert_eq!(site.store.stats_windows.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn only_a_few_computations_run_at_the_same_time() {
    let site = Site::new();
    site.get("/api/communities/42/visitors/count").await;
    let hold = site.store.hold.lock().await;
    let requests: Vec<_> = (1..=20)
        .map(|days| {
            let api = site.api.clone();
            tokio::spawn(async move {
                let path = format!("{STATS}?days={days}");
                send(&api, http::Method::GET, &path, member()).await
            })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.store.stats_windows.lock().unwrap().len(), 4);
    drop(hold);
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::OK);
    }
}
