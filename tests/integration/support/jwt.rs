//! The site's JWTs: those that its own endpoint gives, and others that `PyJWT` makes.

use std::path::PathBuf;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::backend::python_says;
use super::member::{FIREFOX, Member};
use super::sidecar::Sidecar;
use super::world::{Wanted, World};

/// What the site signs with: `SECRET_KEY` of its settings.
pub const SECRET: &str = "a-constant-for-tests-only-of-32-bytes";

/// Route file of a single-page app: its requests for data are its page views.
pub const ROUTES: &str = "[[route]]\nname = \"feed\"\npattern = '^/api/feed/(?P<community>[0-9a-f-]+)/?$'\n\
                          page_type = \"community\"\ntrack = \"request\"\n";

/// A file with the site's secret, in a folder of its own.
pub fn key_file() -> (TempDir, PathBuf) {
    let folder = super::cleaner::folder();
    let path = folder.path().join("jwt.key");
    std::fs::write(&path, format!("{SECRET}\n")).expect("a file");
    (folder, path)
}

/// A world whose sidecar reads the site's JWTs, with further keys of `[session.jwt]`, and whose feed is recorded. The folder
/// holds the key.
pub async fn world(wanted: Wanted, jwt: &str) -> (World, TempDir) {
    let (folder, wanted) = with_jwt(wanted, jwt);
    let world = wanted.start().await;
    records_the_feed(&world.sidecar).await;
    (world, folder)
}

/// The same, not started.
pub fn with_jwt(wanted: Wanted, jwt: &str) -> (TempDir, Wanted) {
    let (folder, path) = key_file();
    let section = format!(
        "[session.jwt]\nalgorithms = [\"HS256\"]\nkey_file = \"{}\"\nuser_claim = \"profile_id\"\n{jwt}\n",
        path.display()
    );
    let config = format!("{}\n{section}", wanted.config);
    (folder, Wanted { config, ..wanted })
}

/// Adds the route of the feed.
pub async fn records_the_feed(sidecar: &Sidecar) {
    sidecar.write_routes("feed.toml", ROUTES);
    sidecar.wait_for_route("/api/feed/42/", "feed").await;
}

/// What the site's own endpoint gives.
#[derive(Debug, Clone)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
}

impl Pair {
    /// Signs in through the sidecar.
    pub async fn of(world: &World, name: &str) -> Self {
        let request = world.stranger().request(Method::POST, "/api/token/");
        let request = request.json(&json!({"username": name, "password": format!("{name}-pw")}));
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{name} signs in");
        let pair: Value = response.json().await.expect("JSON");
        let text = |name: &str| pair[name].as_str().expect("a token").to_owned();
        Self {
            access: text("access"),
            refresh: text("refresh"),
        }
    }

    /// What the access token says.
    pub fn claims(&self) -> Value {
        claims(&self.access)
    }
}

/// What a JWT says.
pub fn claims(jwt: &str) -> Value {
    use base64::Engine as _;
    let body = jwt.split('.').nth(1).expect("a body");
    let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(body);
    serde_json::from_slice(&body.expect("base64url")).expect("JSON")
}

/// A JWT that the site has signed, as far as anybody can tell. `exp` is a number of seconds from now.
pub fn signed(mut claims: Value, expires_in: i64) -> String {
    claims["exp"] = (chrono::Utc::now().timestamp() + expires_in).into();
    let program = "import json, jwt, sys; print(jwt.encode(json.loads(sys.argv[1]), sys.argv[2], 'HS256'))";
    python_says(program, &[&claims.to_string(), SECRET])
}

/// A request as a single-page app's script sends it.
pub fn with_bearer(client: &Member, method: Method, path: &str, jwt: &str) -> RequestBuilder {
    let request = client.request(method, path).header("user-agent", FIREFOX);
    request.header("authorization", format!("Bearer {jwt}"))
}

/// Status of a GET with a JWT.
pub async fn status(client: &Member, path: &str, jwt: &str) -> u16 {
    let response = with_bearer(client, Method::GET, path, jwt)
        .send()
        .await
        .expect("an answer");
    response.status().as_u16()
}

/// The name of a counter of refused JWTs.
pub fn refused(reason: &str) -> String {
    format!("headcount_jwts_refused_total{{reason=\"{reason}\"}}")
}
