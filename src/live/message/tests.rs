//! Tests of the messages on live connections.

use chrono::DateTime;
use serde_json::{Value, json};

use super::*;
use crate::key_type::{KeyType, KeyTypes};
use crate::presence::Count;

fn three() -> LiveCount {
    let count = Count {
        current: 3,
        seq: 1_763_884_800_001,
        as_of: DateTime::from_timestamp_millis(1_763_884_800_000).unwrap(),
    };
    LiveCount { count, stale: false }
}

fn integers() -> AppKeys {
    AppKeys::of(KeyTypes {
        community: KeyType::BIGINT,
        user: KeyType::BIGINT,
    })
}

#[test]
fn v22_a_community_that_is_not_there_is_told_as_it_was_asked_for() {
    let told = |asked, keys: &AppKeys| -> Value {
        serde_json::from_str::<Value>(&unknown(asked, None, keys)).unwrap()["community_id"].clone()
    };
    assert_eq!(told("99", &integers()), json!(99));
    assert_eq!(told("099", &integers()), json!("099"));
    assert_eq!(told("abc", &integers()), json!("abc"));
    let (community, user) = (KeyType::Text(None), KeyType::BIGINT);
    assert_eq!(
        told("99", &AppKeys::of(KeyTypes { community, user })),
        json!("99")
    );
}

#[test]
fn a_count_is_a_json_object_and_an_event_with_its_number() {
    let update = Update::new("42".into(), three(), &integers());
    let text = std::str::from_utf8(&update.text).unwrap();
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        value,
        json!({
            "type": "count",
            "community_id": 42,
            "current_visitors": 3,
            "seq": 1_763_884_800_001_u64,
            "as_of": "2025-11-23T08:00:00Z",
            "stale": false,
        })
    );
    let event = format!("id: 1763884800001\ndata: {text}\n\n");
    assert_eq!(update.event(Framing::UntilClose), event);
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    assert_eq!(update.event(Framing::Chunked), chunk);
}

#[test]
fn odd_keys_stay_on_one_line() {
    let update = Update::new("a\nb\"\u{2028}".into(), three(), &AppKeys::default());
    let event = std::str::from_utf8(&update.event).unwrap();
    assert_eq!(event.matches('\n').count(), 3, "{event:?}");
    let value: Value = serde_json::from_slice(&update.text).unwrap();
    assert_eq!(value["community_id"], "a\nb\"\u{2028}");
}

#[test]
fn clients_subscribe_and_unsubscribe_by_number_or_text() {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        Request::parse(r#"{"type":"subscribe","communities":[42,"x",42,"42"]}"#),
        Some(Request::Subscribe(ids(&["42", "x"])))
    );
    assert_eq!(
        Request::parse(r#" {"communities": ["a b"], "type": "unsubscribe"} "#),
        Some(Request::Unsubscribe(ids(&["a b"])))
    );
}

#[test]
fn anything_else_is_malformed() {
    for text in [
        "",
        "42",
        "{}",
        "[]",
        "null",
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","communities":[]}"#,
        r#"{"type":"subscribe","communities":42}"#,
        r#"{"type":"subscribe","communities":[1.5]}"#,
        r#"{"type":"subscribe","communities":[null]}"#,
        r#"{"type":"subscribe","communities":[[1]]}"#,
        r#"{"type":"subscribe","communities":[1],"more":1}"#,
        r#"{"type":"publish","communities":[1]}"#,
        r#"{"type":"subscribe","communities":[1]}x"#,
        r#"{"type":"subscribe","communities":[1]"#,
    ] {
        assert_eq!(Request::parse(text), None, "{text}");
    }
}
