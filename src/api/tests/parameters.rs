//! Tests of query parameters.

use chrono::{DateTime, Utc};
use http::StatusCode;
use proptest::prelude::*;
use regex::Regex;

use super::support::{Site, anonymous, member};
use crate::api::cursor;
use crate::presence::Seen;

async fn refusal(path: &str) -> String {
    let answer = Site::new().get(path).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    answer.detail()
}

#[tokio::test]
async fn a_limit_out_of_range_is_refused_with_the_range() {
    for value in [
        "0",
        "201",
        "-1",
        "+5",
        "%2B5",
        "",
        "x",
        "1.5",
        "5%20",
        "0x10",
        "99999999999999999999",
        "%D9%A3",
    ] {
        assert_eq!(
            refusal(&format!("/api/communities/42/visitors?limit={value}")).await,
            "limit must be a whole number from 1 to 200.",
            "{value}"
        );
    }
}

#[tokio::test]
async fn days_out_of_range_are_refused_with_the_range() {
    for value in ["0", "367", "-1", "x", ""] {
        assert_eq!(
            refusal(&format!("/api/communities/42/visitors/stats?days={value}")).await,
            "days must be a whole number from 1 to 366.",
            "{value}"
        );
    }
}

#[tokio::test]
async fn both_ends_of_a_range_are_allowed() {
    let site = Site::new();
    for query in [
        "visitors?limit=1",
        "visitors?limit=200",
        "visitors/stats?days=1",
        "visitors/stats?days=366",
    ] {
        let answer = site.get(&format!("/api/communities/42/{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
    }
}

#[tokio::test]
async fn unknown_parameters_are_refused_with_the_known_ones() {
    for (path, detail) in [
        (
            "/api/communities/42/visitors?limits=3",
            "This path takes no query parameters but limit and cursor.",
        ),
        (
            "/api/communities/42/visitors?<script>",
            "This path takes no query parameters but limit and cursor.",
        ),
        (
            "/api/communities/42/visitors/stats?limit=3",
            "This path takes no query parameters but days.",
        ),
        (
            "/api/communities/42/visitors/count?x",
            "This path takes no query parameters.",
        ),
        (
            "/api/visitors/counts?community=1",
            "This path takes no query parameters but communities.",
        ),
        (
            "/api/visitors/openapi.json?x=1",
            "This path takes no query parameters.",
        ),
    ] {
        let path = path.replace('<', "%3C").replace('>', "%3E");
        assert_eq!(refusal(&path).await, detail);
    }
}

#[tokio::test]
async fn repeated_parameters_are_refused_even_with_the_same_value() {
    for (path, name) in [
        ("/api/communities/42/visitors?limit=3&limit=3", "limit"),
        ("/api/communities/42/visitors?cursor=a&limit=3&cursor=b", "cursor"),
        ("/api/communities/42/visitors/stats?days=1&days=2", "days"),
        ("/api/visitors/counts?communities=1&communities=2", "communities"),
    ] {
        assert_eq!(refusal(path).await, format!("{name} may be given once."));
    }
}

#[tokio::test]
async fn an_empty_query_is_no_query() {
    let answer = Site::new().get("/api/communities/42/visitors/count?").await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn communities_are_one_to_a_hundred_ids() {
    let too_many = vec!["1"; 101].join(",");
    for query in [
        String::new(),
        "?communities=".into(),
        "?communities=,".into(),
        "?communities=1,,2".into(),
        "?communities=1,".into(),
        format!("?communities={too_many}"),
    ] {
        assert_eq!(
            refusal(&format!("/api/visitors/counts{query}")).await,
            "communities must be 1 to 100 community ids with commas between them."
        );
    }
}

/// Clients of Django REST framework send it, whatever they ask.
#[tokio::test]
async fn a3_the_format_json_is_taken_and_means_nothing() {
    let site = Site::new();
    for path in [
        "/api/communities/42/visitors?limit=5",
        "/api/communities/42/visitors/count?",
        "/api/communities/42/visitors/stats?days=3",
        "/api/visitors/counts?communities=42",
        "/api/visitors/openapi.json?",
        "/api/visitors/widget.js?",
    ] {
        let expected = site.get(path).await;
        for format in ["&format=json", "&format=", "&format"] {
            let answer = site.get(&format!("{path}{format}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}{format}");
            assert_eq!(answer.body, expected.body, "{path}{format}");
        }
    }
}

/// As there: `?format=xml` is 404, whoever asks.
#[tokio::test]
async fn a3_another_format_is_not_there() {
    let site = Site::new();
    for path in [
        "/api/communities/42/visitors",
        "/api/communities/42/visitors/count",
        "/api/communities/42/visitors/stats",
        "/api/visitors/counts",
        "/api/visitors/openapi.json",
    ] {
        for format in ["xml", "JSON", "api", "json%20", "%00"] {
            let path = format!("{path}?format={format}");
            for caller in [member(), anonymous()] {
                let answer = site.get_as(caller, &path).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
                assert_eq!(answer.detail(), "There is no other format than JSON.");
            }
        }
    }
}

#[tokio::test]
async fn a_malformed_cursor_is_refused() {
    let wrong_version = "AgAAAAAAAAAAMQ";
    let without_user = "AQAAAAAAAAAA";
    let time_out_of_range = "AX__________MQ";
    for value in [
        "",
        "x",
        "%00",
        "!!!!",
        "AQ",
        wrong_version,
        without_user,
        time_out_of_range,
    ] {
        assert_eq!(
            refusal(&format!("/api/communities/42/visitors?cursor={value}")).await,
            "cursor must be a value of next from an earlier answer.",
            "{value}"
        );
    }
}

#[test]
fn a_cursor_with_padding_or_an_overlong_user_is_malformed() {
    let seen = |user: &str| Seen {
        user: user.into(),
        last_seen: DateTime::UNIX_EPOCH,
    };
    assert!(cursor::decode(&cursor::encode(&seen(&"x".repeat(255)))).is_some());
    assert!(cursor::decode(&cursor::encode(&seen(&"x".repeat(256)))).is_none());
    assert!(cursor::decode(&format!("{}=", cursor::encode(&seen("12345")))).is_none());
}

proptest! {
    #[test]
    fn a_cursor_reads_back_as_what_it_was_made_of(millis in 0_i64..4_102_444_800_000, user in "[a-z0-9-]{1,36}") {
        let last_seen: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap();
        let seen = Seen { user: user.as_str().into(), last_seen };
        let text = cursor::encode(&seen);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        prop_assert_eq!(cursor::decode(&text), Some(seen));
    }

    #[test]
    fn a5_the_pattern_is_of_every_cursor(millis in 0_i64..4_102_444_800_000, user in "\\PC{1,60}") {
        let last_seen: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap();
        let text = cursor::encode(&Seen { user: user.as_str().into(), last_seen });
        prop_assert!(Regex::new(cursor::PATTERN).unwrap().is_match(&text), "{}", text);
    }

    #[test]
    fn a5_whatever_the_pattern_matches_is_a_cursor(text in cursor::PATTERN.trim_matches(&['^', '$'][..])) {
        prop_assert!(cursor::decode(&text).is_some());
    }

    #[test]
    fn any_text_is_a_cursor_or_malformed_but_never_a_panic(text in "\\PC{0,80}") {
        let _ = cursor::decode(&text);
    }
}
