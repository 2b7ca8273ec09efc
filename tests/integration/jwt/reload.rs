//! The file with the keys changes while the sidecar runs.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::backend::{Variant, python_says};
use crate::support::database::Database;
use crate::support::jwt::{refused, status};
use crate::support::live::Socket;
use crate::support::process::run;
use crate::support::service::wait_until;
use crate::support::sidecar::write_config;
use crate::support::world::{Parts, Wanted, World};

const OK: &str = "headcount_jwt_keys_last_reload_successful";

/// Two key pairs of each public algorithm, and a JWT of each, as `PyJWT` makes them.
const PAIRS: &str = "
import base64, json, sys, time
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

pairs = []
for number in (1, 2):
    for name, algorithm, key in (
            ('RS256', RSAAlgorithm, rsa.generate_private_key(65537, 2048)),
            ('ES256', ECAlgorithm, ec.generate_private_key(ec.SECP256R1()))):
        kid = f'{name}-{number}'
        public = json.loads(algorithm.to_jwk(key.public_key()))
        claims = {'profile_id': sys.argv[1], 'exp': int(time.time()) + 600}
        pairs.append({'kid': kid, 'jwk': {**public, 'kid': kid, 'use': 'sig'},
                      'jwt': jwt.encode(claims, key, name, headers={'kid': kid})})
print(json.dumps(pairs))
";

struct Site {
    world: World,
    pairs: Vec<Value>,
    file: PathBuf,
    _folder: TempDir,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("jwks.json");
        let database = Database::seeded(Parts::Production, Variant::Default).await;
        let pairs = python_says(PAIRS, &[&database.1.user("alice")]);
        let pairs: Vec<Value> = serde_json::from_str(&pairs).expect("JSON");
        std::fs::write(&file, set(&pairs[..2])).expect("a file");
        let config = format!(
            "[session.jwt]\nalgorithms = [\"RS256\", \"ES256\"]\njwks_file = \"{}\"\nuser_claim = \"profile_id\"\n",
            file.display()
        );
        let world = Wanted {
            config,
            session: "cache_ttl = \"1s\"".into(),
            ..Wanted::usual()
        };
        Self {
            world: world.start_on(database),
            pairs,
            file,
            _folder: folder,
        }
    }

    fn has(&self, text: &str) {
        // As deployments do it: whole, under the name that is watched.
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &self.file).expect("a file");
    }

    /// What becomes of the JWT of each pair.
    async fn outcomes(&self) -> Vec<u16> {
        let path = self.world.visitors("rust", "/count");
        let mut outcomes = Vec::new();
        for pair in &self.pairs {
            let jwt = pair["jwt"].as_str().expect("a JWT");
            outcomes.push(status(&self.world.stranger(), &path, jwt).await);
        }
        outcomes
    }
}

/// A set of these keys.
fn set(pairs: &[Value]) -> String {
    let keys: Vec<_> = pairs.iter().map(|pair| pair["jwk"].clone()).collect();
    json!({"keys": keys}).to_string()
}

#[tokio::test]
async fn i27_keys_are_replaced_while_the_sidecar_runs_and_a_faulty_file_changes_nothing() {
    let site = Site::start().await;
    let sidecar = &site.world.sidecar;
    assert_eq!(site.outcomes().await, [200, 200, 401, 401]);
    assert_eq!(sidecar.metric(&refused("key")).await, 2.0);
    let hint = "a JWT names a key (kid, alg) that is not in the file";
    assert_eq!(sidecar.says(hint).matches(hint).count(), 1);

    site.has(&set(&site.pairs));
    sidecar.says("keys of JWTs loaded");
    assert_eq!(site.outcomes().await, [200; 4]);

    site.has("{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0LW9mLXRoZS1zZXQ\"]}");
    sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
    assert_eq!(site.outcomes().await, [200; 4]);
    sidecar.signal("HUP");
    let told = "keys of JWTs refused; the last good ones stay in use";
    wait_until("the second error", || sidecar.log().matches(told).count() == 2);
    let log = sidecar.log();
    assert!(
        log.contains("is no JSON Web Key Set") && !log.contains("c2VjcmV0"),
        "{log}"
    );
    let ready = reqwest::get(sidecar.admin_url("/readyz"))
        .await
        .expect("an answer");
    let ready = ready.text().await.expect("text");
    assert!(
        ready.contains("the file with the keys of JWTs is faulty"),
        "{ready}"
    );

    let jwt = site.pairs[0]["jwt"].as_str().expect("a JWT");
    let authorization = format!("Bearer {jwt}");
    let path = site.world.visitors("rust", "/live");
    let mut socket = Socket::try_open(sidecar, &path, &[("authorization", &authorization)])
        .await
        .expect("a connection");
    site.has(&set(&site.pairs[2..]));
    sidecar.wait_for_metric(OK, |ok| ok == 1.0).await;
    assert_eq!(socket.close_code().await, 4401);
    assert_eq!(site.outcomes().await, [401, 401, 200, 200]);
}

#[test]
fn i27_keys_of_the_wrong_kind_are_refused_with_a_sentence() {
    let pem = "
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa
key = eval(__import__('sys').argv[1])
private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
print((private if __import__('sys').argv[2] else public).decode())
";
    let key = |kind: &str, private: &str| python_says(pem, &[kind, private]);
    let (rsa, p256) = (
        "rsa.generate_private_key(65537, 2048)",
        "ec.generate_private_key(ec.SECP256R1())",
    );
    for (algorithms, text, problem) in [
        ("[\"RS256\"]", key(rsa, ""), None),
        ("[\"ES256\"]", key(p256, ""), None),
        ("[\"HS256\"]", "a secret of exactly 32 characters".into(), None),
        (
            "[\"HS256\"]",
            "a secret of 31 characters, no more\n"[..31].into(),
            Some("holds a secret of less than 32 bytes"),
        ),
        (
            "[\"HS256\", \"RS256\"]",
            key(rsa, ""),
            Some("holds an RSA key, which is for RS256 only"),
        ),
        (
            "[\"HS256\"]",
            key(p256, ""),
            Some("holds a key on P-256, which is for ES256 only"),
        ),
        (
            "[\"RS256\"]",
            "a secret of exactly 32 characters".into(),
            Some("holds a shared secret, which is for HS256 only"),
        ),
        ("[\"RS256\"]", key(rsa, "1"), Some("holds a private key; ")),
        (
            "[\"RS256\"]",
            key("rsa.generate_private_key(65537, 1024)", ""),
            Some("RSA key of less than 2048 bits"),
        ),
        (
            "[\"ES256\"]",
            key("ec.generate_private_key(ec.SECP256K1())", ""),
            Some("neither of RSA nor on P-256"),
        ),
        (
            "[\"RS256\"]",
            "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n".into(),
            Some("is no PEM file with a public key"),
        ),
        ("[\"HS256\"]", "\n".into(), Some("holds an empty secret")),
    ] {
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::write(folder.path().join("key"), &text).expect("a file");
        let config = format!(
            "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n\
             [session.jwt]\nalgorithms = {algorithms}\nkey_file = \"key\"\n"
        );
        let path = write_config(folder.path(), &config, "");
        let told = run(
            &["check", "--offline", "--config", path.to_str().expect("UTF-8")],
            &[],
        );
        match problem {
            None => assert_eq!(told.code, Some(0), "{told:?}"),
            Some(problem) => {
                assert_eq!(told.code, Some(64), "{told:?}");
                assert!(
                    told.err.contains("session.jwt.key_file") && told.err.contains(problem),
                    "{told:?}"
                );
                assert_eq!(told.err.trim().lines().count(), 1, "{told:?}");
            }
        }
    }
}
