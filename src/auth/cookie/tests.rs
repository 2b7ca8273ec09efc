//! Tests of the session cookie: which token is found, and which are refused.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "a8f5f167f44f4964e6c998dee827110c";

fn found(headers: &[&str]) -> TokenFound {
    let mut map = HeaderMap::new();
    for header in headers {
        map.append(COOKIE, HeaderValue::from_bytes(header.as_bytes()).unwrap());
    }
    session_token(&map, "session_id", 16, 255)
}

fn token(text: &str) -> TokenFound {
    TokenFound::Token(SessionToken::new(text))
}

#[test]
fn i7_a_token_is_found_wherever_the_app_finds_it() {
    let expected = [
        format!("session_id={TOKEN}"),
        format!("theme=dark; session_id={TOKEN}; lang=de"),
        format!("theme=dark;session_id={TOKEN};lang=de"),
        format!("  session_id = {TOKEN} \t; a=b"),
        format!("\u{a0}session_id={TOKEN}\u{a0}"),
        format!(";;; ; =; session_id={TOKEN};"),
        format!("session_id=\"{TOKEN}\""),
        format!("loose text; session_id={TOKEN}"),
        format!("caf\u{e9}=\u{e9}; session_id={TOKEN}"),
        format!("session_id=\"\\141{}\"", &TOKEN[1..]),
        format!("session_id=\"\\a{}\"", &TOKEN[1..]),
    ];
    for header in &expected {
        assert_eq!(found(&[header]), token(TOKEN), "{header}");
    }
}

#[test]
fn i7_of_several_cookies_of_one_name_the_last_counts() {
    let other = TOKEN.replace('a', "b");
    assert_eq!(
        found(&[&format!("session_id={other}; session_id={TOKEN}")]),
        token(TOKEN)
    );
    assert_eq!(
        found(&[&format!("session_id={other}"), &format!("session_id={TOKEN}")]),
        token(TOKEN)
    );
    assert_eq!(
        found(&["theme=dark", &format!("session_id={TOKEN}"), "lang=de"]),
        token(TOKEN)
    );
    // Also when the last one is invalid.
    assert_eq!(
        found(&[&format!("session_id={TOKEN}; session_id=")]),
        TokenFound::None
    );
    assert_eq!(
        found(&[&format!("session_id={TOKEN}; session_id=x")]),
        TokenFound::Malformed
    );
}

#[test]
fn i7_an_empty_or_absent_cookie_is_nobody() {
    for headers in [
        &[][..],
        &[""],
        &["theme=dark"],
        &["session_id="],
        &["session_id=\"\""],
        &["session_id=  "],
        &["session_id"],
        &["SESSION_ID=a8f5f167f44f4964e6c998dee827110c"],
        &["xsession_id=a8f5f167f44f4964e6c998dee827110c"],
        &["session_id2=a8f5f167f44f4964e6c998dee827110c"],
        &["x=session_id=a8f5f167f44f4964e6c998dee827110c"],
    ] {
        assert_eq!(found(headers), TokenFound::None, "{headers:?}");
    }
}

#[test]
fn i1_what_cannot_be_a_token_costs_no_lookup() {
    let malformed = [
        "session_id=short".to_owned(),
        format!("session_id={}", "x".repeat(256)),
        format!("session_id={}", "x".repeat(100_000)),
        format!("session_id=\"{}\"", "\\101".repeat(256)),
        "session_id=with a space inside it".to_owned(),
        "session_id='; DROP TABLE sessions --".to_owned(),
        format!("session_id={TOKEN},theme=dark"),
        format!("session_id=\"{TOKEN}"),
        format!("session_id={TOKEN}\""),
        format!("session_id=\"\\000{TOKEN}\""),
        format!("session_id=\"\\012{TOKEN}\""),
        format!("session_id=\"\\351{TOKEN}\""),
        format!("session_id={TOKEN}\u{e9}"),
        format!("session_id={TOKEN}%00"),
        format!("session_id={TOKEN}\\"),
        "session_id=\"".to_owned(),
    ];
    for header in &malformed {
        assert_eq!(found(&[header]), TokenFound::Malformed, "{header}");
    }
    let mut latin = HeaderMap::new();
    latin.append(
        COOKIE,
        HeaderValue::from_bytes(b"session_id=a8f5f167f44f4964\xe9\xff").unwrap(),
    );
    assert_eq!(
        session_token(&latin, "session_id", 16, 255),
        TokenFound::Malformed
    );
}

#[test]
fn i1_the_usual_forms_of_tokens_pass() {
    for value in [
        "k2j4h5k6j7h8g9f0d1s2a3q4w5e6r7t8",
        "xSZ8aKmWkYJk_3vT0q-7Zw1bYyZcQ2yVx0r5u8e9tGk",
        "0190a1b2-0000-7000-8000-00000000000f",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl",
        "c2lnbmVkIHZhbHVlIQ==",
        "signed:1abcDE:xyz~0/+=signature",
    ] {
        assert_eq!(found(&[&format!("session_id={value}")]), token(value));
    }
    for length in [16, 255] {
        assert_eq!(
            found(&[&format!("session_id={}", "x".repeat(length))]),
            token(&"x".repeat(length))
        );
    }
}

#[test]
fn a_found_token_is_not_printed() {
    let found = found(&[&format!("session_id={TOKEN}")]);
    assert!(!format!("{found:?}").contains(TOKEN));
    assert_eq!(found.token().unwrap().expose_secret(), TOKEN);
}

#[test]
fn i10_the_token_that_a_response_sets_is_found() {
    let set = |headers: &[&str]| {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(SET_COOKIE, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        }
        tokens_set(&map, "session_id", 16, 255).collect::<Vec<_>>()
    };
    let token = SessionToken::new(TOKEN);
    for header in [
        format!("session_id={TOKEN}"),
        format!(
            "session_id=\"{TOKEN}\"; expires=Thu, 01 Jan 2026 00:00:00 GMT; HttpOnly; Path=/; SameSite=Lax"
        ),
    ] {
        assert_eq!(
            set(&["theme=dark", &header]),
            std::slice::from_ref(&token),
            "{header}"
        );
    }
    for header in [
        "session_id=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/",
        "session_id",
        "theme=session_id=a8f5f167f44f4964e6c998dee827110c",
        "theme=dark; session_id=a8f5f167f44f4964e6c998dee827110c",
    ] {
        assert!(set(&[header]).is_empty(), "{header}");
    }
}

proptest! {
    #[test]
    fn any_cookies_are_read_without_panic(
        headers in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                "(session_id|=|;|\"|\\\\|[0-7a-z]| ){0,30}".prop_map(String::into_bytes),
            ],
            0..4,
        ),
    ) {
        let mut map = HeaderMap::new();
        for header in &headers {
            if let Ok(value) = HeaderValue::from_bytes(header) {
                map.append(COOKIE, value);
            }
        }
        if let TokenFound::Token(token) = session_token(&map, "session_id", 4, 20) {
            let text = token.expose_secret();
            prop_assert!((4..=20).contains(&text.len()) && text.bytes().all(is_token_byte));
        }
    }

    #[test]
    fn a_quoted_value_is_unquoted_to_what_it_was(value in "[ -~]{0,40}") {
        let quoted = format!("\"{}\"", value.replace('\\', r"\\").replace('"', r#"\""#));
        let unquoted = unquote(quoted.as_bytes());
        prop_assert_eq!(&unquoted[..], value.as_bytes());
    }
}

#[test]
fn a29_a_cookie_that_an_answer_takes_back_is_told_from_one_that_it_sets() {
    let now = "2026-11-29T12:00:00Z".parse().unwrap();
    let of = |set: &[&str]| {
        let mut headers = HeaderMap::new();
        for set in set {
            headers.append(SET_COOKIE, set.parse().unwrap());
        }
        change_of(&headers, "session_id", &SessionToken::new(TOKEN), now)
    };
    for deleted in [
        // As Django, Rails, PHP and others write it.
        "session_id=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/",
        "session_id=; path=/; max-age=0; expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "session_id=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/",
        "session_id=gone; MAX-AGE = -1",
        "session_id=gone; Expires=Sun, 29 Nov 2026 11:59:59 GMT",
        "session_id=",
    ] {
        assert_eq!(of(&[deleted]), CookieChange::Deleted, "{deleted}");
    }
    let same = format!("session_id={TOKEN}; Max-Age=1209600; Path=/");
    let other = "session_id=0123456789abcdef0123; Path=/; Expires=Sun, 29 Nov 2026 12:00:01 GMT";
    assert_eq!(of(&[]), CookieChange::Kept);
    assert_eq!(
        of(&["other=; Max-Age=0", "Session_Id=; Max-Age=0"]),
        CookieChange::Kept
    );
    assert_eq!(of(&[&same]), CookieChange::Kept);
    // It lasts, whatever the date says.
    let lasts = "session_id=0123456789abcdef0123; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60";
    for replaced in [
        other,
        lasts,
        "session_id=0123456789abcdef0123; Expires=never; Max-Age=soon",
    ] {
        assert_eq!(of(&[replaced]), CookieChange::Replaced, "{replaced}");
    }
    // An old cookie of another domain is cleared away beside it.
    let of_another_domain = "session_id=\"\"; Domain=.example.com; Max-Age=0";
    assert_eq!(of(&[of_another_domain]), CookieChange::Replaced);
    for both in [[of_another_domain, other], [other, of_another_domain]] {
        assert_eq!(of(&both), CookieChange::Replaced);
    }
    for both in [[of_another_domain, &*same], [&*same, of_another_domain]] {
        assert_eq!(of(&both), CookieChange::Kept);
    }
}
