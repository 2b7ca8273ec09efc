//! Numbers over time.

use headcount::config::PageViews;
use headcount::ids::{CommunityId, UserId};
use headcount::store::Stats;

use super::{alice, in_community, stats_of_march, viewed};
use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view};

contract! {
    s1_one_row_per_session_before_the_average,
    s2_a_session_longer_than_a_day_counts_in_full,
    s3_open_sessions_are_left_out_of_the_average,
    s4_session_duration_is_of_the_site_of_those_who_came,
    s4_the_mean_of_sessions_in_the_community_is_one_of_its_own,
    s5_the_window_is_half_open,
    s6_visitors_are_distinct_users_over_the_whole_window,
    s8_a_session_lasts_until_an_end_that_has_come,
    s10_page_views_are_never_below_the_visitors,
    s11_what_the_app_recorded_before_the_sidecar_stays,
    s11_a_view_of_a_clock_that_was_wrong_hides_nothing,
    s11_each_community_has_a_first_view_of_its_own,
    s12_every_page_view_counts_where_so_configured,
    a_view_that_the_app_records_too_counts_once,
    with_events_off_the_apps_page_views_count,
    statistics_count_page_views_of_the_community_only,
    a_community_that_nobody_viewed_has_zeros_and_no_average,
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
            avg_community_session_duration: Some(900.0),
            ended_community_sessions: 2,
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
    viewed(&site, &alice, &gardening, "2024-03-01T10:00:00Z").await;
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
    viewed(&site, &alice, &gardening, "2024-03-01T10:00:00Z").await;
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
        viewed(&site, &member, community, "2024-03-20T10:00:00Z").await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.avg_session_duration, Some(100.0));
    let stats = stats_of_march(&site, &cooking).await;
    assert_eq!(stats.avg_session_duration, Some(300.0));
}

async fn s4_the_mean_of_sessions_in_the_community_is_one_of_its_own(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let cooking = site.community("cooking").await;
    let alice = site.member("alice").await;
    for (day, seconds) in [("2024-03-01", 100), ("2024-03-02", 300), ("2024-03-03", 500)] {
        let started_at = at(&format!("{day}T09:00:00Z"));
        let row = SessionRow {
            started_at,
            ended_at: Some(started_at + chrono::TimeDelta::seconds(seconds)),
            ..SessionRow::default()
        };
        site.session(&alice, day, row).await;
    }
    // Two in the first session, one in the second at its very end, none in the third.
    for (community, when) in [
        (&gardening, "2024-03-01T09:00:00Z"),
        (&gardening, "2024-03-01T09:01:00Z"),
        (&gardening, "2024-03-02T09:05:00Z"),
        (&gardening, "2024-03-03T09:08:20.000001Z"),
        (&cooking, "2024-03-03T09:01:00Z"),
    ] {
        viewed(&site, &alice, community, when).await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.avg_session_duration, Some(300.0), "of all three of hers");
    assert_eq!(stats.ended_sessions, 3);
    assert_eq!(stats.avg_community_session_duration, Some(200.0));
    assert_eq!(stats.ended_community_sessions, 2);
    let stats = stats_of_march(&site, &cooking).await;
    assert_eq!(stats.avg_community_session_duration, Some(500.0));
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
        viewed(&site, &alice, &gardening, when).await;
        let row = SessionRow {
            started_at: at(when),
            ended_at: Some(at(when)),
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
        viewed(&site, member, &gardening, when).await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.total_visitors, 2, "not the four of three days added up");
    assert_eq!(stats.page_views, 4);
}

/// A page view that the app wrote.
async fn viewed_in_the_app(site: &Site, user: &UserId, community: &CommunityId, when: &str) {
    let metadata = format!(r#"{{"url": "/x", "community_id": "{community}"}}"#);
    site.app_event(user, "page_view", &metadata, when).await;
}

/// Of March.
async fn views_and_visitors(site: &Site, community: &CommunityId) -> (i64, i64) {
    let stats = stats_of_march(site, community).await;
    (stats.page_views, stats.total_visitors)
}

async fn s10_page_views_are_never_below_the_visitors(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let bob = site.member("bob").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    for member in [&alice, &bob] {
        let when = "2024-03-02T10:00:00Z";
        viewed_in_the_app(&site, member, &gardening, when).await;
    }
    assert_eq!(views_and_visitors(&site, &gardening).await, (1, 1));
}

async fn s11_what_the_app_recorded_before_the_sidecar_stays(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let bob = site.member("bob").await;
    for (member, when) in [
        (&alice, "2024-03-01T10:00:00Z"),
        (&alice, "2024-03-01T10:00:01Z"),
        (&bob, "2024-03-02T23:59:59.999999Z"),
        // The sidecar is there.
        (&alice, "2024-03-03T00:00:00Z"),
        (&bob, "2024-03-04T10:00:00Z"),
    ] {
        viewed_in_the_app(&site, member, &gardening, when).await;
    }
    assert_eq!(
        views_and_visitors(&site, &gardening).await,
        (5, 2),
        "no sidecar yet"
    );

    let times = ["2024-03-03T00:00:00Z", "2024-03-05T10:00:00Z"];
    let views = batch(&session, &gardening, times.map(page_view).into());
    site.store.apply(&views).await.unwrap();
    assert_eq!(views_and_visitors(&site, &gardening).await, (5, 2));
    // The sidecar's first is before the window.
    let (from, to) = (at("2024-03-04T00:00:00Z"), at("2024-04-01T00:00:00Z"));
    let stats = site.store.stats(&gardening, from, to).await.unwrap();
    assert_eq!((stats.page_views, stats.total_visitors), (1, 1));
    // And behind it.
    let (from, to) = (at("2024-03-01T00:00:00Z"), at("2024-03-02T00:00:00Z"));
    let stats = site.store.stats(&gardening, from, to).await.unwrap();
    assert_eq!((stats.page_views, stats.total_visitors), (2, 1));
}

/// A machine without a battery for its clock begins in 1970, or when its system was built.
async fn s11_a_view_of_a_clock_that_was_wrong_hides_nothing(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    for when in ["2024-03-01T10:00:00Z", "2024-03-03T10:00:00Z"] {
        viewed_in_the_app(&site, &alice, &gardening, when).await;
    }
    let times = [
        "1970-01-01T00:00:07Z",
        "2023-12-31T23:59:59Z",
        "2024-03-02T10:00:00Z",
    ];
    let views = batch(&session, &gardening, times.map(page_view).into());
    site.store.apply(&views).await.unwrap();
    assert_eq!(views_and_visitors(&site, &gardening).await, (2, 1));
}

async fn s11_each_community_has_a_first_view_of_its_own(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let cooking = site.community("cooking").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    let when = "2024-03-02T10:00:00Z";
    viewed_in_the_app(&site, &alice, &cooking, when).await;
    assert_eq!(views_and_visitors(&site, &cooking).await, (1, 1));
    assert_eq!(views_and_visitors(&site, &gardening).await, (1, 1));
}

async fn s12_every_page_view_counts_where_so_configured(variant: Variant) {
    let site = Site::with(variant, |config| config.api.page_views = PageViews::All).await;
    let (_, session, gardening) = alice(&site).await;
    let bob = site.member("bob").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-02T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    for when in ["2024-03-01T10:00:00Z", "2024-03-03T10:00:00Z"] {
        viewed_in_the_app(&site, &bob, &gardening, when).await;
    }
    assert_eq!(views_and_visitors(&site, &gardening).await, (3, 2));
}

async fn s8_a_session_lasts_until_an_end_that_has_come(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, _, gardening) = alice(&site).await;
    viewed(&site, &alice, &gardening, "2024-03-10T10:00:00Z").await;
    let ends = [
        "2024-03-10 09:00:00",
        "2024-03-10 10:01:00",
        "2024-04-01 00:00:00",
        "2024-04-01 00:00:00.000001",
        "2024-04-07 10:00:00",
        "infinity",
    ];
    for end in ends {
        let session = site.session(&alice, end, SessionRow::default()).await;
        site.session_lasts(&session, "2024-03-10 10:00:00", Some(end), "2999-01-01 00:00:00")
            .await;
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(stats.ended_sessions, 2);
    let to_the_end = 21.0 * 86_400.0 + 14.0 * 3_600.0;
    assert_eq!(stats.avg_session_duration, Some(f64::midpoint(60.0, to_the_end)));
}

async fn a_view_that_the_app_records_too_counts_once(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    let when = "2024-03-01T10:00:00Z";
    viewed_in_the_app(&site, &alice, &gardening, when).await;
    assert_eq!(views_and_visitors(&site, &gardening).await, (1, 1));
}

async fn with_events_off_the_apps_page_views_count(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.record.events = headcount::config::Events::Off;
    })
    .await;
    let (alice, _, gardening) = alice(&site).await;
    let when = "2024-03-01T10:00:00Z";
    viewed_in_the_app(&site, &alice, &gardening, when).await;
    assert_eq!(views_and_visitors(&site, &gardening).await, (1, 1));
}

async fn statistics_count_page_views_of_the_community_only(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let cooking = site.community("cooking").await;
    let alice = site.member("alice").await;
    let when = "2024-03-01T10:00:00Z";
    site.app_event(&alice, "post_view", &in_community(&gardening), when)
        .await;
    viewed(&site, &alice, &cooking, when).await;
    site.app_event(&alice, "page_view", "{}", when).await;
    site.app_event(&alice, "page_view", r#"{"community_id": null}"#, when)
        .await;
    site.app_event(&alice, "page_view", "[1]", when).await;
    assert_eq!(views_and_visitors(&site, &gardening).await, (0, 0));
    assert_eq!(views_and_visitors(&site, &cooking).await, (1, 1));
}

async fn a_community_that_nobody_viewed_has_zeros_and_no_average(variant: Variant) {
    let site = Site::new(variant).await;
    for community in ["1", "nonsense", "\0"] {
        assert_eq!(
            stats_of_march(&site, &CommunityId::from(community)).await,
            Stats::default()
        );
    }
}
