//! Tests of API keys: where they are found, and which are accepted.

use super::*;
use crate::config::{self, KeyScope};

/// A key that has the form of one.
const KEY: &str = "hc_0123456789abcdefghijklmnopqrstuv";
const OTHER: &str = "hc_vutsrqponmlkjihgfedcba9876543210";

fn at() -> DateTime<Utc> {
    "2027-01-31T12:00:00Z".parse().unwrap()
}

fn api_key(name: &str, key: &str) -> ApiKey {
    ApiKey {
        name: name.into(),
        sha256: KeyHash::of(key.as_bytes()),
        scopes: vec![KeyScope::Counts],
        rate: 1,
        burst: 2,
        not_after: None,
        communities: None,
    }
}

fn keys(keys: Vec<ApiKey>) -> Arc<ApiKeys> {
    let settings = config::Api {
        key: keys,
        ..config::Api::default()
    };
    ApiKeys::new(ApiKeyFile::read(&settings).unwrap().unwrap(), Arc::default())
}

fn headers(values: &[&str]) -> HeaderMap {
    let value = |value: &&str| (AUTHORIZATION, value.parse().unwrap());
    values.iter().map(value).collect()
}

/// The name of the key that is found, or why none is.
fn found(keys: &Arc<ApiKeys>, values: &[&str]) -> Result<Option<String>, KeyRefused> {
    let refused = |reason| keys.metrics.api_keys_refused[reason].get();
    let reasons = [KeyRefused::Malformed, KeyRefused::Unknown, KeyRefused::Expired];
    let before = reasons.map(refused);
    match keys.in_authorization(&headers(values), at()) {
        KeyFound::None => Ok(None),
        KeyFound::Key(key) => Ok(Some(key.settings().name.clone())),
        KeyFound::Refused => {
            let counted = (0..3).find(|index| refused(reasons[*index]) == before[*index] + 1);
            Err(reasons[counted.expect("a count")])
        }
    }
}

#[test]
fn a13_a_key_is_found_by_its_hash_and_everything_else_is_no_key() {
    let keys = keys(vec![api_key("django", KEY), api_key("celery", OTHER)]);
    let key = |key: &str| format!("Bearer {key}");
    for (values, name) in [
        (&[&*key(KEY)][..], Ok(Some("django"))),
        (&[&key(OTHER)], Ok(Some("celery"))),
        (&[&format!("bearer  {KEY} ")], Ok(Some("django"))),
        // What is the app's, or a JWT.
        (&[], Ok(None)),
        (&["Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"], Ok(None)),
        (&["Bearer"], Ok(None)),
        (&[&format!("Basic {KEY}")], Ok(None)),
        (&[&format!("Bearer{KEY}")], Ok(None)),
        (&[KEY], Ok(None)),
        (&[&key(&KEY.to_uppercase())], Ok(None)),
        // Made up.
        (&[&key("hc_")], Err(KeyRefused::Malformed)),
        (&[&key("hc_short")], Err(KeyRefused::Malformed)),
        (
            &[&key(&format!("hc_{}", "x".repeat(129)))],
            Err(KeyRefused::Malformed),
        ),
        (&[&key(&KEY.replace('0', "."))], Err(KeyRefused::Malformed)),
        (&[&format!("Bearer {KEY} {KEY}")], Err(KeyRefused::Malformed)),
        (&[&key(KEY), &key(KEY)], Err(KeyRefused::Malformed)),
        (&[&key(KEY), "Basic YTpi"], Err(KeyRefused::Malformed)),
        (&["Basic YTpi", &key(KEY)], Err(KeyRefused::Malformed)),
        (&[&key(&format!("{KEY}x"))], Err(KeyRefused::Unknown)),
        (&[&key(&KEY.replace('0', "1"))], Err(KeyRefused::Unknown)),
    ] {
        assert_eq!(
            found(&keys, values),
            name.map(|name| name.map(Into::into)),
            "{values:?}"
        );
    }
}

#[test]
fn a13_a_key_ends_with_its_time() {
    let until = |not_after| ApiKey {
        not_after: Some(not_after),
        ..api_key("django", KEY)
    };
    let bearer = format!("Bearer {KEY}");
    let second = chrono::TimeDelta::seconds(1);
    let over = keys(vec![until(at())]);
    assert_eq!(found(&over, &[&bearer]), Err(KeyRefused::Expired));
    let valid = keys(vec![until(at() + second)]);
    let KeyFound::Key(key) = valid.in_authorization(&headers(&[&bearer]), at()) else {
        panic!("no key")
    };
    assert_eq!(key.lasts(at()), Some(Duration::from_secs(1)));
    assert_eq!(key.lasts(at() + second), None);
    let KeyFound::Key(key) = keys(vec![api_key("x", KEY)]).in_authorization(&headers(&[&bearer]), at())
    else {
        panic!("no key")
    };
    assert_eq!(key.lasts(at()), Some(Duration::MAX));
}

#[test]
fn a17_a_key_that_is_removed_or_changed_lasts_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml");
    let table = |name: &str, key: &str, scopes: &str| {
        let sha256 = KeyHash::of(key.as_bytes());
        format!("[[key]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [{scopes}]\n")
    };
    let writes = |text: String| std::fs::write(&path, text).unwrap();
    writes(table("django", KEY, "\"counts\"") + &table("celery", OTHER, "\"counts\""));
    let settings = config::Api {
        key_file: Some(path.clone()),
        ..config::Api::default()
    };
    let file = ApiKeyFile::read(&settings).unwrap().unwrap();
    let keys = ApiKeys::new(Arc::clone(&file), Arc::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    keys.observe({
        let seen = Arc::clone(&seen);
        move |keys| seen.lock().unwrap().push(keys.len())
    });
    let shown = |key: &str| match keys.in_authorization(&headers(&[&format!("Bearer {key}")]), at()) {
        KeyFound::Key(key) => Some(key),
        _ => None,
    };
    let [django, celery] = [KEY, OTHER].map(|key| shown(key).unwrap());

    assert!(!file.read_again().unwrap(), "nothing has changed");
    writes(table("django", KEY, "\"counts\", \"identities\""));
    assert!(file.read_again().unwrap());
    assert_eq!([&django, &celery].map(|key| key.lasts(at())), [None, None]);
    assert!(shown(KEY).is_some() && shown(OTHER).is_none());

    writes("[[key]]\nname = 1".into());
    let error = file.read_again().unwrap_err().to_string();
    assert!(error.contains("keys.toml:2: key[0].name"), "{error}");
    assert!(shown(KEY).is_some(), "the last good ones stay in use");
    assert_eq!(*seen.lock().unwrap(), [2, 1]);
}

#[test]
fn a15_a_key_has_a_burst_and_then_its_rate() {
    let keys = keys(vec![api_key("django", KEY), api_key("celery", OTHER)]);
    let ask = |key: &str| match keys.in_authorization(&headers(&[&format!("Bearer {key}")]), at()) {
        KeyFound::Key(key) => key.ask(at()),
        _ => panic!("no key"),
    };
    let first = ask(KEY);
    assert_eq!((first.exceeded, first.burst, first.left), (None, 2, 1));
    assert_eq!(first.window, Duration::from_secs(120));
    assert_eq!(ask(KEY).left, 0);
    let third = ask(KEY);
    let wait = third.exceeded.expect("one too many");
    assert!(wait <= Duration::from_secs(60) && third.full_in <= Duration::from_secs(120));
    assert_eq!(ask(OTHER).exceeded, None, "each has its own");
}

#[test]
fn a12_new_keys_have_the_form_of_one_and_are_each_another() {
    let [one, other] = [new_key(), new_key()];
    assert_ne!(one, other);
    assert_eq!(one.len(), KEY_PREFIX.len() + 43);
    let keys = keys(vec![api_key("new", &one)]);
    assert_eq!(found(&keys, &[&format!("Bearer {one}")]), Ok(Some("new".into())));
    assert_eq!(
        found(&keys, &[&format!("Bearer {other}")]),
        Err(KeyRefused::Unknown)
    );
}
