//! Tests of sites whose visitors are not recognised.

use super::*;
use crate::config::{Schema, Session};

const TOKEN: &str = "secret-value-of-a-cookie";

struct Site {
    recognition: Recognition,
    component: Component,
}

fn site() -> Site {
    let component = Component::default();
    let recognition = Recognition::new(&Session::default(), &Schema::default(), component.clone());
    Site {
        recognition,
        component,
    }
}

fn headers(name: &http::HeaderName, values: &[&str]) -> HeaderMap {
    let values = values.iter();
    values
        .map(|value| (name.clone(), value.parse().expect("a value")))
        .collect()
}

impl Site {
    /// So many navigations with these cookies.
    fn navigates(&self, times: u64, cookies: &str, reason: NotCounted) {
        for _ in 0..times {
            self.recognition.missed(&headers(&COOKIE, &[cookies]), reason);
        }
    }

    fn answers(&self, method: &Method, status: u16, cookies: &[&str]) {
        let status = StatusCode::from_u16(status).expect("a status");
        let cookies = headers(&SET_COOKIE, cookies);
        self.recognition.answered(method, status, &cookies);
    }

    fn signs_in(&self) {
        let cookie = format!("sessionid={TOKEN}; HttpOnly; Path=/");
        self.answers(&Method::POST, 302, &["csrftoken=abc; Path=/", &cookie]);
    }
}

fn cookies() -> String {
    format!("_ga=GA1.2.3; sessionid={TOKEN}; value-alone; odd name=1")
}

#[test]
fn h7_names_are_told_and_values_never() {
    let site = site();
    site.signs_in();
    site.navigates(49, &cookies(), NotCounted::NoCookie);
    assert!(!site.component.is_down());
    site.navigates(1, &cookies(), NotCounted::NoCookie);
    let reasons = site.component.condition().reasons;
    let [sentence] = &reasons[..] else {
        panic!("{reasons:?}")
    };
    for part in [
        "none of 50",
        "`session_id`",
        "Cookies seen: `_ga`, `sessionid`.",
        "no_cookie: 50",
        "SESSION_COOKIE_NAME",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    for secret in [TOKEN, "GA1", "value-alone", "odd name"] {
        assert!(!sentence.contains(secret), "{sentence}");
    }
}

#[test]
fn h7_what_is_kept_of_made_up_cookies_is_bounded() {
    let site = site();
    site.signs_in();
    for number in 0..1_000 {
        let many: Vec<_> = (0..50).map(|cookie| format!("c{number}x{cookie}=1")).collect();
        site.navigates(
            1,
            &format!("sessionid={TOKEN}; {}", many.join("; ")),
            NotCounted::NoSession,
        );
        site.answers(&Method::POST, 302, &[&format!("set{number}=1; HttpOnly")]);
    }
    let state = site.recognition.state();
    assert_eq!((state.names.len(), state.set.len()), (NAMES, NAMES));
    drop(state);
    let sentence = &site.component.condition().reasons[0];
    assert!(
        sentence.contains("`sessionid`") && sentence.len() < 1_000,
        "{sentence}"
    );
}

#[test]
fn h8_visitors_who_never_sign_in_are_not_told_of() {
    let site = site();
    site.navigates(500, "_ga=GA1.2.3", NotCounted::NoCookie);
    // A language is chosen, and a cookie deleted.
    site.answers(&Method::GET, 302, &["sessionid=abcdefghijkl"]);
    site.answers(&Method::POST, 302, &["django_language=de; Path=/; SameSite=Lax"]);
    site.answers(&Method::POST, 200, &["csrftoken=abcdefghijkl; Path=/"]);
    site.answers(&Method::POST, 302, &["sessionid=\"\"; Max-Age=0; Path=/"]);
    site.answers(
        &Method::POST,
        302,
        &["a=b; expires=Thu, 01 Jan 1970 00:00:00 GMT"],
    );
    site.navigates(500, &cookies(), NotCounted::NoCookie);
    site.navigates(500, "django_language=de", NotCounted::NoCookie);
    assert!(!site.component.is_down());
    // Somebody signs in, whose cookie does not come back.
    site.signs_in();
    site.navigates(500, "_ga=GA1.2.3", NotCounted::NoCookie);
    assert!(!site.component.is_down());
    site.navigates(1, &cookies(), NotCounted::NoCookie);
    assert!(site.component.is_down());
}

#[test]
fn h8_whoever_is_recognised_ends_it_and_each_false_alarm_makes_the_next_less_likely() {
    let site = site();
    for caution in [1, 2, 4] {
        for _ in 0..caution {
            site.signs_in();
        }
        site.navigates(50 * caution - 1, &cookies(), NotCounted::NoSession);
        assert!(!site.component.is_down(), "{caution}");
        site.navigates(1, &cookies(), NotCounted::NoSession);
        assert!(site.component.is_down(), "{caution}");
        site.recognition.recognised();
        assert!(!site.component.is_down());
    }
    // Those who are recognised all the time make no difference to that.
    site.recognition.recognised();
    assert_eq!(site.recognition.state().caution, 8);
}

#[test]
fn h7_a_sign_in_by_a_script_is_one() {
    let site = site();
    site.answers(&Method::POST, 200, &[&format!("sid={TOKEN}; HttpOnly")]);
    let cookies = format!("sid={TOKEN}");
    for _ in 0..50 {
        site.recognition.asks(&headers(&COOKIE, &[&cookies]));
        site.recognition.found_none(NotCounted::SessionEnded);
    }
    assert!(site.component.condition().reasons[0].contains("inactive, ended or expired"));
}
