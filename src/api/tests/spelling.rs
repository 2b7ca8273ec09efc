//! Tests of formats in JSON: keys, times and picture URLs.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Site, now};
use crate::json::{Key, Seconds, Timestamp};
use crate::key_type::KeyType;
use crate::store::VisitorRow;

#[test]
fn integer_keys_that_javascript_can_read_are_numbers_and_all_others_text() {
    for (text, expected) in [
        ("42", json!(42)),
        ("0", json!(0)),
        ("-3", json!(-3)),
        ("9007199254740991", json!(9_007_199_254_740_991_i64)),
        ("-9007199254740991", json!(-9_007_199_254_740_991_i64)),
        ("9007199254740992", json!("9007199254740992")),
        ("-9007199254740992", json!("-9007199254740992")),
        ("9223372036854775807", json!("9223372036854775807")),
        ("9223372036854775808", json!("9223372036854775808")),
        ("007", json!("007")),
        ("+7", json!("+7")),
        ("-0", json!("-0")),
        ("4.0", json!("4.0")),
        ("", json!("")),
    ] {
        let key = Key::new(text, KeyType::BIGINT.number(text));
        assert_eq!(serde_json::to_value(key).unwrap(), expected);
        for other in [KeyType::Text(None), KeyType::Uuid] {
            let key = Key::new(text, other.number(text));
            assert_eq!(serde_json::to_value(key).unwrap(), json!(text));
        }
    }
}

#[test]
fn times_have_six_decimals_or_none_and_end_in_z() {
    for (time, expected) in [
        (
            "2026-11-23T07:39:18.123456789+00:00",
            "2026-11-23T07:39:18.123456Z",
        ),
        ("2026-11-23T07:39:18.120+00:00", "2026-11-23T07:39:18.120000Z"),
        ("2026-11-23T07:39:18+00:00", "2026-11-23T07:39:18Z"),
        ("2026-11-23T07:39:18.0000001+00:00", "2026-11-23T07:39:18Z"),
        ("2026-11-23T09:39:18+02:00", "2026-11-23T07:39:18Z"),
    ] {
        let time = Timestamp(time.parse().unwrap());
        assert_eq!(serde_json::to_value(time).unwrap(), json!(expected));
    }
}

#[test]
fn a6_lengths_of_time_are_not_rounded() {
    for (milliseconds, expected) in [(300_000, "300"), (1_500, "1.5"), (1, "0.001"), (0, "0")] {
        let seconds = Seconds(Duration::from_millis(milliseconds));
        assert_eq!(serde_json::to_string(&seconds).unwrap(), expected);
    }
}

#[tokio::test]
async fn a6_a_window_of_one_and_a_half_seconds_is_told_as_that() {
    let site = Site::with_site_settings(|site_settings| site_settings.window = Duration::from_millis(1_500));
    for path in [
        "/api/communities/42/visitors",
        "/api/communities/42/visitors/count",
        "/api/visitors/counts?communities=42",
    ] {
        assert_eq!(
            site.get(path).await.json()["window_seconds"],
            json!(1.5),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a6_a_base_without_a_slash_at_its_end_gets_one() {
    for (base, shown) in [
        ("/media", "/media/pics/a.png"),
        ("https://cdn.example", "https://cdn.example/pics/a.png"),
        ("", "/pics/a.png"),
        (
            "https://cdn.example/?file=",
            "https://cdn.example/?file=pics/a.png",
        ),
    ] {
        let site = Site::with(|settings| settings.avatar_base = base.into());
        site.presence.seen("42", "7", now());
        site.store.row(VisitorRow {
            user_id: "7".into(),
            username: "alice".into(),
            avatar: Some("pics/a.png".into()),
            started_at: None,
            pages_visited: None,
        });
        let answer = site.get("/api/communities/42/visitors").await.json();
        assert_eq!(answer["visitors"][0]["avatar"], shown);
    }
}

#[tokio::test]
async fn a6_pictures_are_below_the_base_unless_they_are_absolute() {
    let site = Site::with(|settings| settings.avatar_base = "https://cdn.example/media/".into());
    for (stored, shown) in [
        (Some("pics/a.png"), json!("https://cdn.example/media/pics/a.png")),
        // As Django's `.url` encodes a stored path.
        (
            Some("pics/a b%20(1)?#ä.png"),
            json!("https://cdn.example/media/pics/a%20b%2520(1)%3F%23%C3%A4.png"),
        ),
        (Some("/static/a.png"), json!("/static/a.png")),
        (Some("//cdn.example/a.png"), json!("//cdn.example/a.png")),
        (
            Some("http://cdn.example/a.png"),
            json!("http://cdn.example/a.png"),
        ),
        (
            Some("https://cdn.example/a.png?s=1"),
            json!("https://cdn.example/a.png?s=1"),
        ),
        (
            Some("HTTPS://cdn.example/A.png"),
            json!("HTTPS://cdn.example/A.png"),
        ),
        (Some("Http://cdn.example/a"), json!("Http://cdn.example/a")),
        (
            Some("data:image/png;base64,AAAA"),
            json!("data:image/png;base64,AAAA"),
        ),
        // Files whose names begin like a scheme.
        (
            Some("https:a.png"),
            json!("https://cdn.example/media/https%3Aa.png"),
        ),
        (Some("http"), json!("https://cdn.example/media/http")),
        (
            Some("ähttp://"),
            json!("https://cdn.example/media/%C3%A4http%3A//"),
        ),
        (
            Some("javascript:alert(1)"),
            json!("https://cdn.example/media/javascript%3Aalert(1)"),
        ),
        (Some(""), Value::Null),
        (None, Value::Null),
    ] {
        site.presence.seen("42", "7", now());
        site.store.row(VisitorRow {
            user_id: "7".into(),
            username: "alice".into(),
            avatar: stored.map(str::to_owned),
            started_at: None,
            pages_visited: None,
        });
        let answer = site.get("/api/communities/42/visitors").await.json();
        assert_eq!(answer["visitors"][0]["avatar"], shown);
    }
}
