//! Keys of servers: configured in a file that tests can change.

use std::path::PathBuf;

use headcount::config::KeyHash;
use reqwest::{Method, Response};
use tempfile::TempDir;

use super::member::Member;
use super::world::Wanted;

/// A key that has the form of one, the same for the same name.
pub fn key(name: &str) -> String {
    format!("hc_{name:->40}")
}

/// Both scopes.
pub const BOTH: &str = "scopes = [\"counts\", \"identities\"]\n";
/// Counts alone.
pub const COUNTS: &str = "scopes = [\"counts\"]\n";

/// A file with keys.
pub struct KeyFile {
    path: PathBuf,
    _folder: TempDir,
}

impl KeyFile {
    /// With these keys: names, and what else is said of them.
    pub fn new(keys: &[(&str, &str)]) -> Self {
        let folder = super::cleaner::folder();
        let file = Self {
            path: folder.path().join("keys.toml"),
            _folder: folder,
        };
        file.has(&tables(keys));
        file
    }

    /// From now on it has this text. Written as deployments do it: whole, under the name that is watched.
    pub fn has(&self, text: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, &self.path).expect("a file");
    }

    /// A world with these keys.
    pub fn wanted(&self, wanted: Wanted) -> Wanted {
        let line = format!("key_file = \"{}\"\n", self.path.display());
        let config = match wanted.config.split_once("[api]\n") {
            Some((before, after)) => format!("{before}[api]\n{line}{after}"),
            None => format!("{}\n[api]\n{line}", wanted.config),
        };
        Wanted { config, ..wanted }
    }
}

/// The text of a file with these keys.
pub fn tables(keys: &[(&str, &str)]) -> String {
    let table = |(name, more): &(&str, &str)| {
        let sha256 = KeyHash::of(key(name).as_bytes());
        format!("[[key]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{more}\n")
    };
    keys.iter().map(table).collect()
}

/// What a server with the key of that name is answered; `client` may have a session's cookie.
pub async fn ask(client: &Member, method: Method, path: &str, key: &str) -> Response {
    let request = client
        .request(method, path)
        .header("authorization", format!("Bearer {key}"));
    request.send().await.expect("an answer")
}

/// The status of that.
pub async fn status(client: &Member, path: &str, key: &str) -> u16 {
    ask(client, Method::GET, path, key).await.status().as_u16()
}

/// Name of the metric of a key's requests.
pub fn requests(key: &str, outcome: &str) -> String {
    format!("headcount_api_key_requests_total{{key=\"{key}\",outcome=\"{outcome}\"}}")
}
