//! Moments in the app's tables, in the forms that apps write.

use super::{alice, in_community, stats_of_march, viewed};
use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view, token};
use crate::support::examined;

contract! {
    s9_events_are_in_the_window_by_their_moment_however_it_is_written,
    s9_sessions_last_from_moment_to_moment_however_they_are_written,
    s9_who_is_signed_in_is_told_by_moments,
    s9_the_last_activity_is_the_latest_moment,
    s9_times_without_zone_are_those_of_the_configured_one,
    s9_times_without_zone_are_told_where_nothing_says_which,
}

/// Before, in, or behind March 2024 in UTC.
const WRITTEN: [(&str, bool); 12] = [
    ("2024-02-29T23:59:59.999999Z", false),
    ("2024-03-01 04:59:59+05:00", false),
    ("2024-03-01T00:00:00Z", true),
    ("2024-03-01 05:00:00+05:00", true),
    ("2024-02-29 19:30:00.5-05:00", true),
    ("2024-03-01T00:00:00", true),
    ("2024-03-31 23:59:59.999999", true),
    ("2024-03-31T23:59:59.999999Z", true),
    ("2024-04-01T01:00:00.000000+02:00", true),
    ("2024-04-01T00:00:00Z", false),
    ("2024-03-31T19:00:00-05:00", false),
    ("2024-04-01 00:00:00.000000+00:00", false),
];

async fn s9_events_are_in_the_window_by_their_moment_however_it_is_written(variant: Variant) {
    let site = Site::new(variant).await;
    let gardening = site.community("gardening").await;
    let alice = site.member("alice").await;
    let mut expected = 0;
    for (written, counts) in WRITTEN {
        site.app_event_at(&alice, "page_view", &in_community(&gardening), written)
            .await;
        expected += i64::from(counts);
        assert_eq!(
            stats_of_march(&site, &gardening).await.page_views,
            expected,
            "{written}"
        );
    }
}

async fn s9_sessions_last_from_moment_to_moment_however_they_are_written(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    viewed(&site, &alice, &gardening, "2024-03-10T10:00:00Z").await;
    for (started, ended, seconds) in [
        ("2024-03-01T10:00:00Z", "2024-03-01 13:00:00.25+02:00", 3600.25),
        ("2024-03-01 05:00:00+05:00", "2024-03-01T00:00:01", 1.0),
        ("2024-03-01 10:00:00.9997", "2024-03-01 10:00:10", 9.0003),
        (
            "2024-02-29 19:30:00-05:00",
            "2024-03-01T00:30:00.000001Z",
            0.000_001,
        ),
    ] {
        site.session_lasts(&session, started, Some(ended), "2999-01-01 00:00:00")
            .await;
        let average = stats_of_march(&site, &gardening).await.avg_session_duration;
        let average = average.unwrap_or_else(|| panic!("{started} is in March"));
        assert!(
            (average - seconds).abs() < 1e-7,
            "{started} to {ended}: {average}"
        );
    }
    site.session_lasts(
        &session,
        "2024-03-01 04:59:59+05:00",
        Some("2024-03-02 00:00:00"),
        "2999-01-01 00:00:00",
    )
    .await;
    assert_eq!(stats_of_march(&site, &gardening).await.ended_sessions, 0);
}

async fn s9_who_is_signed_in_is_told_by_moments(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, _) = alice(&site).await;
    let now = chrono::Utc::now();
    let behind = |hours: i64| {
        let zone = chrono::FixedOffset::east_opt(5 * 3600).unwrap();
        let then = now + chrono::TimeDelta::hours(hours);
        then.with_timezone(&zone)
            .format("%Y-%m-%d %H:%M:%S+05:00")
            .to_string()
    };
    let shown = async |expires: &str| {
        site.session_lasts(&session, "2024-03-01T10:00:00Z", None, expires)
            .await;
        let rows = site.store.visitors(std::slice::from_ref(&alice)).await.unwrap();
        rows[0].started_at
    };
    assert_eq!(shown(&behind(1)).await, Some(at("2024-03-01T10:00:00Z")));
    assert_eq!(
        shown(&behind(-1)).await,
        None,
        "it has expired, though the text is later"
    );
    let later = site.session(&alice, "later", SessionRow::default()).await;
    site.session_lasts(&later, "2024-03-01 11:00:00+05:00", None, &behind(1))
        .await;
    assert_eq!(
        shown(&behind(1)).await,
        Some(at("2024-03-01T10:00:00Z")),
        "the other began earlier, though the text is later"
    );
}

async fn s9_the_last_activity_is_the_latest_moment(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let seen = async |before: &str, when: &str| {
        site.was_active(&alice, before).await;
        let views = batch(&session, &gardening, vec![page_view(when)]);
        site.store.apply(&views).await.unwrap();
        site.last_active(&alice).await
    };
    let raised = seen("2024-03-01 11:00:00+05:00", "2024-03-01T10:00:00Z").await;
    assert_eq!(raised, "2024-03-01 10:00:00");
    let kept = seen("2024-03-01T09:00:00-05:00", "2024-03-01T13:59:59Z").await;
    let expected = if variant.is_postgres() {
        "2024-03-01 14:00:00"
    } else {
        "2024-03-01T09:00:00-05:00"
    };
    assert_eq!(kept, expected, "as the app wrote it");
}

/// Has the app keep times as `USE_TZ = False` has them; those that are there stay as they are written.
async fn without_zones(site: &Site) {
    if !site.variant.is_postgres() {
        return;
    }
    let schema = &site.config.schema;
    let (session, event, profile) = (&schema.session, &schema.event, &schema.profile);
    for (table, column) in [
        (&session.table, &session.columns.started_at),
        (&session.table, &session.columns.ended_at),
        (&session.table, &session.columns.expires_at),
        (&event.table, &event.columns.timestamp),
        (&profile.table, &profile.columns.last_active),
    ] {
        let table = site.table(table);
        site.execute(&format!(
            r#"ALTER TABLE {table} ALTER COLUMN "{column}" TYPE timestamp without time zone"#
        ))
        .await;
    }
}

async fn s9_times_without_zone_are_those_of_the_configured_one(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.database.time_zone = Some("Europe/Berlin".parse().unwrap());
    })
    .await;
    without_zones(&site).await;
    assert_eq!(examined::tables(&site.config).await.unwrap(), []);
    let (alice, session, gardening) = alice(&site).await;
    site.session_lasts(
        &session,
        "2024-03-31 01:30:00",
        Some("2024-03-31 03:30:00.5"),
        "2024-07-01 12:00:00",
    )
    .await;

    // What is read.
    let found = site
        .store
        .browser_session(&token("token-of-alice"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.expires_at, at("2024-07-01T10:00:00Z"));
    assert_eq!(found.ended_at, Some(at("2024-03-31T01:30:00.5Z")));
    for (written, counts) in [
        ("2024-03-01 00:59:59.999999", 0),
        ("2024-03-01 01:00:00", 1),
        ("2024-03-31 01:45:00", 2),
        ("2024-04-01 01:59:59", 3),
        ("2024-04-01 02:00:00", 3),
    ] {
        site.app_event_at(&alice, "page_view", &in_community(&gardening), written)
            .await;
        assert_eq!(
            stats_of_march(&site, &gardening).await.page_views,
            counts,
            "{written}"
        );
    }
    let stats = stats_of_march(&site, &gardening).await;
    assert_eq!(
        stats.avg_session_duration,
        Some(3600.5),
        "an hour was left out that night"
    );
    assert_eq!(stats.avg_community_session_duration, Some(3600.5));
    let now = chrono::Utc::now().with_timezone(&chrono_tz::Europe::Berlin);
    let local = |hours: i64| {
        let then = now + chrono::TimeDelta::hours(hours);
        then.format("%Y-%m-%d %H:%M:%S").to_string()
    };
    // Between UTC and the zone lie one or two hours.
    for (expires, is_shown) in [(local(-1), false), (local(3), true)] {
        site.session_lasts(&session, "2024-03-31 01:30:00", None, &expires)
            .await;
        let rows = site.store.visitors(std::slice::from_ref(&alice)).await.unwrap();
        let expected = is_shown.then(|| at("2024-03-31T00:30:00Z"));
        assert_eq!(rows[0].started_at, expected, "{expires}");
    }

    // What is written.
    let views = vec![
        page_view("2024-07-01T10:00:00Z"),
        page_view("2024-12-01T10:00:00.5Z"),
    ];
    site.store
        .apply(&batch(&session, &gardening, views))
        .await
        .unwrap();
    let events = site.events().await;
    assert_eq!(events[events.len() - 2].timestamp, "2024-07-01 12:00:00");
    assert!(
        site.last_active(&alice)
            .await
            .starts_with("2024-12-01 11:00:00.5")
    );
}

async fn s9_times_without_zone_are_told_where_nothing_says_which(variant: Variant) {
    let site = Site::new(variant).await;
    assert_eq!(examined::tables(&site.config).await.unwrap(), []);
    without_zones(&site).await;
    let problems = examined::tables(&site.config).await.unwrap();
    if !variant.is_postgres() {
        assert_eq!(problems, [], "Django's are in UTC");
        return;
    }
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    let said = problem.to_string();
    let column = format!(
        "{}.\"{}\"",
        site.table(&site.config.schema.event.table)
            .replacen("\"accounts", "\"public\".\"accounts", 1),
        site.config.schema.event.columns.timestamp
    );
    for part in [&*column, "database.time_zone", "USE_TZ = False", "\"UTC\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Page views do not wait for the answer.
    let (_, session, gardening) = alice(&site).await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    assert_eq!(site.store.apply(&views).await.unwrap().views, 1);
}
