//! What is accepted is what `PyJWT` accepts, which most Django sites verify with: over thousands of tokens with claims of
//! every kind, changed signatures, other keys and other algorithms.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use headcount::auth::{JwtFound, Jwts};
use headcount::config::{Algorithm, Jwt};
use headcount::reload::KeyFile;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::support::backend::python_script;

const CASES: usize = 3_000;
/// The time in the script.
const NOW: i64 = 1_700_000_000;

/// A claim's value: the right one often, and others around it.
fn moment() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        6 => (1_i64..1_000).prop_map(|seconds| Some(json!(NOW + seconds))),
        2 => (-15_i64..15).prop_map(|seconds| Some(json!(NOW + seconds))),
        1 => (-1_000_i64..0).prop_map(|seconds| Some(json!(NOW + seconds))),
        1 => Just(None),
    ]
}

fn begins() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        6 => Just(None),
        2 => (-15_i64..15).prop_map(|seconds| Some(json!(NOW + seconds))),
    ]
}

fn issuer() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        4 => Just(Some(json!("site"))),
        1 => Just(Some(json!("other"))),
        1 => Just(Some(json!(["site"]))),
    ]
}

fn audience() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        4 => Just(None),
        3 => Just(Some(json!("web"))),
        1 => Just(Some(json!(["other", "app"]))),
        1 => Just(Some(json!("other"))),
        1 => Just(Some(json!(["other"]))),
    ]
}

fn kind() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        6 => Just(None),
        3 => Just(Some(json!("access"))),
        1 => Just(Some(json!("refresh"))),
    ]
}

fn trick() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        10 => Just(""),
        1 => Just("none"),
        1 => Just("confusion"),
        1 => Just("other_key"),
        1 => Just("other_algorithm"),
        2 => Just("flip"),
        1 => Just("cut"),
        1 => Just("swap"),
    ]
}

fn case() -> impl Strategy<Value = Value> {
    let claims = (
        moment(),
        begins(),
        issuer(),
        audience(),
        kind(),
        "[0-9]{1,9}|[a-z-]{1,20}",
    );
    let demands = (
        prop_oneof![Just(""), Just("site")],
        prop_oneof![Just(vec![]), Just(vec!["web"]), Just(vec!["web", "app"])],
        prop_oneof![3 => Just(0_u64), 1 => 1_u64..15],
    );
    let algorithm = prop_oneof![Just("HS256"), Just("RS256"), Just("ES256")];
    let none = prop_oneof![Just("none"), Just("None"), Just("NONE"), Just("")];
    (claims, demands, algorithm, trick(), none, any::<u16>()).prop_map(
        |((exp, nbf, iss, aud, kind, user), (issuer, audience, leeway), algorithm, trick, none, place)| {
            let claims = [
                ("exp", exp),
                ("nbf", nbf),
                ("iss", iss),
                ("aud", aud),
                ("token_type", kind),
            ];
            let mut claims: Map<_, _> = claims
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect();
            claims.insert("user_id".into(), user.into());
            json!({
                "claims": claims, "issuer": issuer, "audience": audience, "leeway": leeway,
                "algorithm": algorithm, "trick": trick, "none": none, "place": place,
            })
        },
    )
}

/// Verifiers by what they demand.
struct Verifiers<'a> {
    folder: &'a Path,
    made: BTreeMap<String, Jwts>,
}

impl Verifiers<'_> {
    fn accepts(&mut self, case: &Value, jwt: &str) -> bool {
        let name = format!(
            "{}{}{}{}",
            case["algorithm"], case["issuer"], case["audience"], case["leeway"]
        );
        let folder = self.folder;
        let jwts = self.made.entry(name).or_insert_with(|| {
            let algorithm: Algorithm =
                serde_json::from_value(case["algorithm"].clone()).expect("one of them");
            let settings = Jwt {
                algorithms: vec![algorithm],
                key_file: Some(folder.join(format!("{algorithm:?}"))),
                issuer: case["issuer"].as_str().expect("text").into(),
                audience: serde_json::from_value(case["audience"].clone()).expect("texts"),
                leeway: Duration::from_secs(case["leeway"].as_u64().expect("a number")),
                ..Jwt::default()
            };
            let keys = KeyFile::read(&settings).expect("keys").expect("they are read");
            Jwts::new(&settings, keys, 10, Arc::default())
        });
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {jwt}").parse().expect("a value"));
        let at = DateTime::from_timestamp(NOW, 0).expect("a time");
        matches!(jwts.in_authorization(&headers, at), JwtFound::Token(_))
    }
}

#[test]
fn i24_what_is_accepted_is_what_pyjwt_accepts() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str| folder.path().join(name);
    let mut runner = TestRunner::default();
    let strategy = case();
    let next = |_| strategy.new_tree(&mut runner).expect("a case").current();
    let cases: Vec<Value> = (0..CASES).map(next).collect();
    std::fs::write(file("cases"), json!(cases).to_string()).expect("a file");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/pyjwt_oracle.py");
    let [cases_file, told_file] = [file("cases"), file("told")];
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    python_script(&text(&script), &[&text(&cases_file), &text(&told_file)]);
    let told: Value = serde_json::from_slice(&std::fs::read(told_file).expect("a file")).expect("JSON");
    for (name, key) in [("HS256", "secret"), ("RS256", "RS256"), ("ES256", "ES256")] {
        std::fs::write(file(name), told[key].as_str().expect("text")).expect("a file");
    }
    let mut verifiers = Verifiers {
        folder: folder.path(),
        made: BTreeMap::new(),
    };
    let mut accepted = 0;
    for (case, told) in cases.iter().zip(told["told"].as_array().expect("a list")) {
        let jwt = told["jwt"].as_str().expect("a JWT");
        let is_accepted = verifiers.accepts(case, jwt);
        assert_eq!(json!(is_accepted), told["accepted"], "{case}\n{jwt}");
        accepted += usize::from(is_accepted);
    }
    // Both kinds are many.
    assert!(
        (CASES / 20..CASES / 2).contains(&accepted),
        "{accepted} of {CASES}"
    );
}
