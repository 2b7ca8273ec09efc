//! Tests of JWTs that are signed here with the shared secret. Those of `PyJWT`, with the other algorithms, are in
//! `tests/integration/jwt`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::Algorithm;
use crate::metrics::LabelValue as _;

const SECRET: &str = "a secret that site and sidecar share";

/// The time of all tests.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

struct Site {
    jwts: Jwts,
    keys: Arc<KeyFile>,
    metrics: Arc<Metrics>,
    folder: TempDir,
}

impl Site {
    fn new(configure: impl FnOnce(&mut config::Jwt)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, format!("{SECRET}\n")).unwrap();
        let mut settings = config::Jwt {
            algorithms: vec![Algorithm::HS256],
            key_file: Some(file),
            ..config::Jwt::default()
        };
        configure(&mut settings);
        let keys = KeyFile::read(&settings).unwrap().unwrap();
        let metrics = Arc::<Metrics>::default();
        Self {
            jwts: Jwts::new(&settings, Arc::clone(&keys), 100, Arc::clone(&metrics)),
            keys,
            metrics,
            folder,
        }
    }

    fn bearer(&self, jwt: &str, at: DateTime<Utc>) -> JwtFound {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {jwt}").parse().unwrap());
        self.jwts.in_authorization(&headers, at)
    }

    /// The user of a JWT, or why it identifies nobody.
    fn user(&self, jwt: &str, at: DateTime<Utc>) -> Result<String, &'static str> {
        let before = self.refusals();
        match self.bearer(jwt, at) {
            JwtFound::Token(token) => Ok(token.claims().unwrap().account.to_string()),
            found => {
                assert_eq!(found, JwtFound::Refused);
                let after = self.refusals();
                let changed = JwtRefusal::ALL
                    .iter()
                    .filter(|reason| after[reason.index()] > before[reason.index()]);
                let reasons: Vec<_> = changed.map(|reason| reason.label()).collect();
                let [reason] = reasons[..] else {
                    panic!("{reasons:?}");
                };
                Err(reason)
            }
        }
    }

    fn refusals(&self) -> Vec<u64> {
        JwtRefusal::ALL
            .iter()
            .map(|reason| self.metrics.jwts_refused[*reason].get())
            .collect()
    }
}

/// A secret that is long enough for HS256.
fn long(secret: &str) -> String {
    format!("{secret:.<32}")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(head: &Value, claims: &Value, secret: &str) -> String {
    let text = format!("{}.{}", encoded(head), encoded(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
    format!("{text}.{signature}")
}

fn jwt(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

/// Valid until a minute after [`now`].
fn claims(more: &Value) -> Value {
    let mut claims = json!({"exp": 1_700_000_060, "user_id": 7});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[test]
fn i24_a_jwt_that_is_not_the_sites_identifies_nobody_and_the_reason_is_counted() {
    let site = Site::new(|_| {});
    let valid = claims(&json!({}));
    let good = jwt(&valid);
    assert_eq!(site.user(&good, now()), Ok("7".into()));
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let other = encoded(&claims(&json!({"user_id": 8})));
    let none = encoded(&json!({"alg": "none"}));
    let of = |head: Value| signed(&head, &valid, SECRET);
    for (jwt, reason) in [
        (
            signed(&json!({"alg": "HS256"}), &valid, "another secret"),
            "signature",
        ),
        (format!("{head}.{other}.{signature}"), "signature"),
        (format!("{head}.{body}."), "signature"),
        (format!("{none}.{body}."), "algorithm"),
        (format!("{none}.{body}.{signature}"), "algorithm"),
        (of(json!({"alg": "NONE"})), "algorithm"),
        (of(json!({"alg": "HS512"})), "algorithm"),
        (of(json!({"alg": "RS256"})), "algorithm"),
        (of(json!({"alg": 256})), "malformed"),
        (of(json!({"alg": "HS256", "crit": ["exp"]})), "malformed"),
        (of(json!({"alg": "HS256", "b64": false})), "malformed"),
        (of(json!({})), "malformed"),
        (format!("{head}.{body}"), "malformed"),
        (format!("{good}.{signature}"), "malformed"),
        (format!("{head}.{body}.{signature}é"), "malformed"),
        ("..".into(), "malformed"),
        (String::new(), "malformed"),
        ("an-opaque-token".into(), "malformed"),
        ("x".repeat(MAX_JWT + 1), "too_long"),
    ] {
        assert_eq!(site.user(&jwt, now()), Err(reason), "{jwt}");
        // The same from memory.
        assert_eq!(site.user(&jwt, now()), Err(reason), "{jwt}");
    }
}

#[test]
fn i24_the_claims_decide() {
    let site = Site::new(|_| {});
    for (more, user) in [
        (json!({"user_id": "7"}), Ok("7")),
        (
            json!({"user_id": "0190163d-8694-739b-aea5-966c26f8ad91"}),
            Ok("0190163d-8694-739b-aea5-966c26f8ad91"),
        ),
        (
            json!({"user_id": 9_007_199_254_740_993_u64}),
            Ok("9007199254740993"),
        ),
        (json!({"user_id": 7.0}), Err("claims")),
        (json!({"user_id": ""}), Err("claims")),
        (json!({"user_id": null}), Err("claims")),
        (json!({"user_id": [7]}), Err("claims")),
        (json!({"user_id": "a\u{0}b"}), Err("claims")),
        (json!({"user_id": "x".repeat(256)}), Err("claims")),
        (json!({"exp": null}), Err("claims")),
        (json!({"exp": "1700000060"}), Err("claims")),
        (json!({"exp": 1_700_000_060.5}), Ok("7")),
        (json!({"exp": 1e300}), Err("claims")),
        (json!({"nbf": "soon"}), Err("claims")),
        (json!({"token_type": "access"}), Ok("7")),
        (json!({"token_type": "refresh"}), Err("token_type")),
        (json!({"token_type": "sliding"}), Err("token_type")),
        // Nothing is configured that it could be for.
        (json!({"aud": "others"}), Err("audience")),
        (json!({"iss": "anybody"}), Ok("7")),
    ] {
        let jwt = jwt(&claims(&more));
        assert_eq!(site.user(&jwt, now()), user.map(ToOwned::to_owned), "{more}");
    }
    let nobody = jwt(&json!({"exp": 1_700_000_060, "sub": 7}));
    assert_eq!(site.user(&nobody, now()), Err("claims"));
}

#[test]
fn i24_issuer_and_audience_are_demanded_where_they_are_configured() {
    let site = Site::new(|settings| {
        settings.issuer = "site".into();
        settings.audience = vec!["web".into(), "app".into()];
        settings.user_claim = "sub".into();
    });
    let of = |issuer: Value, audience: Value| {
        let jwt = jwt(&json!({"exp": 1_700_000_060, "sub": "7", "iss": issuer, "aud": audience}));
        site.user(&jwt, now())
    };
    assert_eq!(of("site".into(), "app".into()), Ok("7".into()));
    assert_eq!(of("site".into(), json!(["x", "web"])), Ok("7".into()));
    for issuer in [json!("other"), json!(["site"]), json!(null), json!(1)] {
        assert_eq!(of(issuer, "app".into()), Err("issuer"));
    }
    for audience in [json!("other"), json!([]), json!(null), json!(1)] {
        assert_eq!(of("site".into(), audience), Err("audience"));
    }
}

#[test]
fn i24_a_jwt_is_valid_from_nbf_until_exp_and_clocks_may_differ_by_the_leeway() {
    let at = |seconds: i64| now() + chrono::TimeDelta::seconds(seconds);
    let jwt = jwt(&claims(&json!({"nbf": 1_700_000_010})));
    let exact = Site::new(|_| {});
    let lenient = Site::new(|settings| settings.leeway = Duration::from_secs(5));
    for (seconds, is_exact, is_lenient) in [
        (4, Err("not_yet"), Err("not_yet")),
        (5, Err("not_yet"), Ok(())),
        (10, Ok(()), Ok(())),
        (59, Ok(()), Ok(())),
        (60, Err("expired"), Ok(())),
        (64, Err("expired"), Ok(())),
        (65, Err("expired"), Err("expired")),
    ] {
        let outcome = |site: &Site| site.user(&jwt, at(seconds)).map(drop);
        assert_eq!(
            (outcome(&exact), outcome(&lenient)),
            (is_exact, is_lenient),
            "{seconds}"
        );
    }
}

#[test]
fn i25_a_jwt_names_its_session_where_that_is_configured() {
    let site = Site::new(|settings| settings.session_claim = "sid".into());
    let session = |more: Value| match site.bearer(&jwt(&claims(&more)), now()) {
        JwtFound::Token(token) => token.claims().unwrap().session.as_ref().map(ToString::to_string),
        _ => None,
    };
    assert_eq!(session(json!({"sid": 31})), Some("31".into()));
    assert_eq!(session(json!({"sid": "abc"})), Some("abc".into()));
    assert_eq!(site.user(&jwt(&claims(&json!({}))), now()), Err("claims"));
}

#[test]
fn i27_other_keys_come_to_another_outcome_at_once() {
    let site = Site::new(|_| {});
    let (old, new) = (
        jwt(&claims(&json!({}))),
        signed(&json!({"alg": "HS256"}), &claims(&json!({})), &long("new")),
    );
    assert_eq!(site.user(&old, now()), Ok("7".into()));
    assert_eq!(site.user(&new, now()), Err("signature"));
    std::fs::write(site.folder.path().join("key"), long("new")).unwrap();
    assert!(site.keys.read_again().unwrap());
    assert_eq!(site.user(&new, now()), Ok("7".into()));
    assert_eq!(site.user(&old, now()), Err("signature"));
    assert!(!site.keys.read_again().unwrap(), "nothing is new");
    std::fs::write(site.folder.path().join("key"), "").unwrap();
    assert!(site.keys.read_again().is_err());
    assert_eq!(site.user(&new, now()), Ok("7".into()));
}

/// A key of a set.
fn key(kid: Option<&str>, secret: &str) -> Value {
    let mut key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(long(secret))});
    if let Some(kid) = kid {
        key["kid"] = kid.into();
    }
    key
}

fn with_set(keys: &[Value]) -> Site {
    Site::new(|settings| {
        let file = settings.key_file.take().unwrap();
        std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
        settings.jwks_file = Some(file);
    })
}

/// A JWT that names this key, signed with that of a secret.
fn naming(kid: Option<&str>, secret: &str) -> String {
    let mut head = json!({"alg": "HS256"});
    if let Some(kid) = kid {
        head["kid"] = kid.into();
    }
    signed(&head, &claims(&json!({})), &long(secret))
}

#[test]
fn i27_the_key_of_a_set_is_found_by_its_id() {
    let of = naming;
    let named = with_set(&[key(Some("1"), "one"), key(Some("2"), "two")]);
    for (jwt, outcome) in [
        (of(Some("1"), "one"), Ok(())),
        (of(Some("2"), "two"), Ok(())),
        (of(Some("1"), "two"), Err("signature")),
        (of(Some("3"), "one"), Err("key")),
        // Without a name, each is tried.
        (of(None, "two"), Ok(())),
        (of(None, "three"), Err("signature")),
    ] {
        assert_eq!(named.user(&jwt, now()).map(drop), outcome);
    }
    let unnamed = with_set(&[key(None, "one")]);
    assert_eq!(unnamed.user(&of(Some("1"), "one"), now()), Ok("7".into()));
}

/// As many keys as a file may hold, and a JWT that does not say by which of them it is signed.
#[test]
fn i34_each_key_of_a_set_verifies_whether_or_not_it_is_named() {
    let keys: Vec<_> = (0..64).map(|number| number.to_string()).collect();
    let set: Vec<_> = keys.iter().map(|number| key(Some(number), number)).collect();
    let site = with_set(&set);
    for number in &keys {
        for kid in [Some(&**number), None] {
            assert_eq!(
                site.user(&naming(kid, number), now()),
                Ok("7".into()),
                "{number} {kid:?}"
            );
        }
    }
    assert_eq!(site.user(&naming(None, "another"), now()), Err("signature"));
}

#[test]
fn i23_a_cookie_may_hold_a_jwt() {
    let site = Site::new(|settings| settings.cookie = "access".into());
    let found = |cookie: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        site.jwts.in_cookie(&headers, now())
    };
    let good = jwt(&claims(&json!({})));
    assert!(matches!(
        found(&format!("a=b; access={good}")),
        JwtFound::Token(_)
    ));
    assert_eq!(found("access=x"), JwtFound::Refused);
    assert_eq!(found("access=ä"), JwtFound::Refused);
    assert_eq!(found("access="), JwtFound::None);
    assert_eq!(found(&format!("other={good}")), JwtFound::None);
}
