//! Tests of the decoder. Against Django's own encoder: `tests/integration/django_sessions.rs`.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What Django 5.2 wrote for `{"_auth_user_id": "42", "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
/// "_auth_user_hash": "0123456789abcdef…"}`.
const BY_DJANGO: &str = ".eJyrVopPLC3JiC8tTi2Kz0xRslIyMVLSQRZMSkzOTs0DyaRkJeal5-sl5-eVFGUm6YGU6EFli_V881NSc5ygalEMyEgszgDqNjA0\
                         MjYxNTO3sExMSk5JTSOVr1QLAPCKOAo:1xXTYc:NmJRMSPgrG0qoZfZCi9tkQfEJ78QLUMvnTi6FveUJTk";

/// The data as Django's `signing.dumps` makes it, with a signature that no key has made.
fn signed(json: &[u8], compressed: bool) -> String {
    let (dot, data) = if compressed {
        (".", deflated(json))
    } else {
        ("", json.to_vec())
    };
    format!("{dot}{}:1tXyZa:c2lnbmF0dXJl-_8", URL_SAFE_NO_PAD.encode(data))
}

fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn sign_in(user: &Value) -> Value {
    json!({
        "_auth_user_id": user,
        "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
        "_auth_user_hash": "0123456789abcdef",
    })
}

fn of(json: &Value) -> Result<Option<AccountId>, Undecodable> {
    account(&signed(json.to_string().as_bytes(), false))
}

#[expect(clippy::unnecessary_wraps, reason = "what the decoder returns")]
fn named(user: &str) -> Result<Option<AccountId>, Undecodable> {
    Ok(Some(AccountId::from(user)))
}

#[test]
fn i18_the_account_is_read_without_a_key_compressed_or_not() {
    assert_eq!(account(BY_DJANGO), named("42"));
    let json = sign_in(&json!("42")).to_string();
    for compressed in [false, true] {
        assert_eq!(account(&signed(json.as_bytes(), compressed)), named("42"));
    }
}

#[test]
fn i18_the_form_of_before_django_3_1_is_read_too() {
    let json = sign_in(&json!("42")).to_string();
    let mut encoded = STANDARD.encode(format!("8f14e45fceea167a5a36dedd4bea2543:{json}"));
    assert_eq!(account(&encoded), named("42"));
    // As `encodebytes` breaks lines.
    encoded.insert(76, '\n');
    encoded.push('\n');
    assert_eq!(account(&encoded), named("42"));
}

#[test]
fn i18_nobody_is_signed_in_without_all_that_a_sign_in_writes() {
    assert_eq!(of(&json!({})), Ok(None));
    assert_eq!(of(&json!({"cart": [1, 2], "_language": "de"})), Ok(None));
    for missing in ["_auth_user_id", "_auth_user_backend", "_auth_user_hash"] {
        let mut data = sign_in(&json!("42"));
        data.as_object_mut().unwrap().remove(missing);
        assert_eq!(of(&data), Ok(None), "{missing}");
        data[missing] = Value::Null;
        assert_eq!(of(&data), Ok(None), "{missing}");
    }
    // Django's hash of a user model without passwords.
    let mut data = sign_in(&json!("42"));
    data["_auth_user_hash"] = json!("");
    assert_eq!(of(&data), named("42"));
}

#[test]
fn i18_a_key_is_a_text_or_a_whole_number() {
    let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
    for (key, expected) in [(json!("7"), "7"), (json!(7), "7"), (json!(uuid), uuid)] {
        assert_eq!(of(&sign_in(&key)), named(expected));
    }
    for key in [
        json!(""),
        json!(7.5),
        json!([7]),
        json!({"id": 7}),
        json!(true),
        json!("7\0"),
    ] {
        assert_eq!(of(&sign_in(&key)), Err(Undecodable::User), "{key}");
    }
}

#[test]
fn i18_garbage_has_a_reason() {
    let json = sign_in(&json!("42")).to_string();
    let whole = signed(json.as_bytes(), true);
    let pickle = signed(b"\x80\x04\x95\x10\x00\x00\x00}\x94\x8c\x05", false);
    for (data, expected) in [
        (String::new(), Undecodable::Form),
        (":".into(), Undecodable::NotJson),
        ("no base64 at all".into(), Undecodable::Form),
        ("ä:b:c".into(), Undecodable::Form),
        (STANDARD.encode("no colon"), Undecodable::Form),
        (STANDARD.encode("hash:no json"), Undecodable::NotJson),
        (whole.replacen('.', "", 1), Undecodable::NotJson),
        (
            format!(".{}", signed(json.as_bytes(), false)),
            Undecodable::Compression,
        ),
        (pickle, Undecodable::NotJson),
        (signed(b"[1, 2]", false), Undecodable::NotJson),
        (signed(b"", false), Undecodable::NotJson),
    ] {
        assert_eq!(account(&data), Err(expected), "{data}");
    }
}

#[test]
fn i18_what_would_need_much_memory_is_not_decompressed() {
    let bomb = signed(&vec![b' '; 16 * 1024 * 1024], true);
    assert!(bomb.len() < MAX_ENCODED);
    assert_eq!(account(&bomb), Err(Undecodable::TooLong));
    assert_eq!(account(&"a".repeat(MAX_ENCODED + 1)), Err(Undecodable::TooLong));
    let deep = format!("{{\"deep\": {}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(account(&signed(deep.as_bytes(), true)), Ok(None));
}

#[test]
fn i18_numbers_that_only_python_writes_are_passed_over() {
    let json = r#"{"a": NaN, "b": [Infinity, -Infinity], "NaN\"": "Infinity\\", "_auth_user_id": "NaN",
                   "_auth_user_backend": "b", "_auth_user_hash": "-Infinity"}"#;
    assert_eq!(account(&signed(json.as_bytes(), false)), named("NaN"));
}

proptest! {
    #[test]
    fn i18_whatever_else_is_in_the_data_the_account_is_found(
        user in "[a-zA-Z0-9-]{1,40}",
        other in proptest::collection::hash_map("[^_].{0,20}", ".{0,60}", 0..8),
        compressed: bool,
    ) {
        let mut data = sign_in(&json!(user));
        data["other"] = json!(other);
        for (key, value) in &other {
            data[key] = json!(value);
        }
        prop_assert_eq!(account(&signed(data.to_string().as_bytes(), compressed)), named(&user));
    }

    #[test]
    fn i18_garbage_never_panics(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = account(&text);
        let _ = account(&STANDARD.encode(&bytes));
        for compressed in [false, true] {
            let _ = account(&signed(&bytes, compressed));
        }
        let _ = account(&format!(".{}:a:b", URL_SAFE_NO_PAD.encode(&bytes)));
    }
}
