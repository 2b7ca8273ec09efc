//! The Django site under gunicorn: unchanged, and knowing nothing of the sidecar.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::service::{Service, free_port, wait_until};

/// The schemas that the site comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `bigint` keys, Django's table names, cookie `session_id`.
    Default,
    /// `uuid` keys, other table and column names, a NOT NULL `tenant`, cookie `sid`.
    Uuid,
    /// The default, but communities have slugs for keys: `7`, `007` and `hidden`.
    Text,
    /// The default with Django's own sessions, cookie `sessionid`; accounts and profiles have different keys.
    Django,
    /// The default, with counts in the model of communities.
    Counters,
}

impl Variant {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// Name of the session cookie.
    pub fn cookie(self) -> &'static str {
        match self {
            Self::Default | Self::Text | Self::Counters => "session_id",
            Self::Uuid => "sid",
            Self::Django => "sessionid",
        }
    }

    fn environment(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Django => "django",
            Self::Counters => "counters",
        }
    }
}

/// A running site.
pub struct Backend {
    port: u16,
    directory: TempDir,
    _service: Service,
}

/// Settings of a site beyond its database.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// The site records page views of its own.
    pub tracks: bool,
    /// Threads per worker; each WebSocket and stream holds one.
    pub threads: Option<u16>,
    /// Listen on this port instead of a free one.
    pub port: Option<u16>,
    /// Plain http is redirected to https; the scheme is that of `X-Forwarded-Proto`.
    pub https_only: bool,
    /// Django's own sessions are also kept in a cache.
    pub caches_sessions: bool,
}

/// The site's project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/backend")
}

/// The Python environment with the site's requirements; `tests/run` makes it.
pub fn python(program: &str) -> PathBuf {
    static ENVIRONMENT: OnceLock<PathBuf> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        let path = std::env::var_os("HEADCOUNT_TEST_VENV").map_or_else(
            || {
                let home = std::env::var_os("HOME").expect("HOME is set");
                Path::new(&home).join(".cache/headcount/venv")
            },
            PathBuf::from,
        );
        assert!(
            path.join("bin/gunicorn").exists(),
            "{} has no gunicorn; tests/run installs it",
            path.display()
        );
        path
    });
    environment.join("bin").join(program)
}

/// Creates the site's tables in an empty database.
pub fn migrate(variant: Variant, database: &str) {
    manage(variant, database, &["migrate", "--no-input", "--verbosity", "0"]);
}

/// Creates members and communities, and returns what the site says of them.
pub fn seed(variant: Variant, database: &str) -> Seeded {
    let communities = match variant {
        Variant::Default | Variant::Uuid | Variant::Django | Variant::Counters => {
            "42:rust,43:django,44:hidden:private:alice+bob"
        }
        Variant::Text => "7:rust,007:django,hidden:hidden:private:alice+bob",
    };
    let text = manage(
        variant,
        database,
        &[
            "seed",
            "--members",
            "alice,bob,carol,dave",
            "--outsiders",
            "mallory",
            "--avatars",
            "alice",
            "--communities",
            communities,
        ],
    );
    Seeded(serde_json::from_str(&text).expect("seed prints JSON"))
}

/// Ids of what was seeded, by name.
#[derive(Debug, Clone)]
pub struct Seeded(Value);

impl Seeded {
    /// A community's id as it stands in paths.
    pub fn community(&self, slug: &str) -> String {
        text(&self.0["communities"][slug])
    }

    /// A member's profile id.
    pub fn user(&self, name: &str) -> String {
        text(&self.0["users"][name])
    }
}

/// An id as text, whichever type it has in JSON.
pub fn text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), ToOwned::to_owned)
}

/// Runs a Python script with the tests' environment.
pub fn python_script(script: &str, arguments: &[&str]) {
    let output = Command::new(python("python"))
        .arg(script)
        .args(arguments)
        .output()
        .expect("python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a Python program that must not fail, with the tests' environment; what it prints.
pub fn python_says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(python("python"))
        .args(["-c", program])
        .args(arguments)
        .output()
        .expect("python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.trim_end().to_owned()
}

fn socket_in(directory: &TempDir) -> PathBuf {
    directory.path().join("site.sock")
}

/// Runs one of the site's own commands, which must not fail; what it prints.
pub fn manage(variant: Variant, database: &str, arguments: &[&str]) -> String {
    manage_with(variant, database, arguments, &[])
}

/// Runs a command of the site's, with more in its environment; what it prints.
pub fn manage_with(
    variant: Variant,
    database: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
) -> String {
    let output = Command::new(python("python"))
        .arg("manage.py")
        .args(arguments)
        .current_dir(project())
        .env("BACKEND_DB", database)
        .env("BACKEND_VARIANT", variant.environment())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .output()
        .expect("manage.py runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

impl Backend {
    /// Starts gunicorn and waits until the site answers.
    pub fn start(variant: Variant, database: &str, settings: Settings) -> Self {
        Self::start_with(variant, database, settings, &[])
    }

    /// The same with more in its environment.
    pub fn start_with(
        variant: Variant,
        database: &str,
        settings: Settings,
        environment: &[(&str, String)],
    ) -> Self {
        let directory = super::cleaner::folder();
        let port = settings.port.unwrap_or_else(free_port);
        let project = project();
        let service = Service::start(
            directory.path(),
            python("gunicorn").to_str().expect("UTF-8"),
            [
                "--chdir",
                project.to_str().expect("UTF-8"),
                "-c",
                "gunicorn.conf.py",
                "community_site.wsgi",
            ]
            .map(|argument| match argument {
                // gunicorn looks for its configuration before it changes the directory.
                "gunicorn.conf.py" => project.join(argument).to_str().expect("UTF-8").to_owned(),
                other => other.to_owned(),
            }),
            &[
                environment,
                &[
                    ("BACKEND_DB", database.to_owned()),
                    ("BACKEND_VARIANT", variant.environment().to_owned()),
                    (
                        "BACKEND_BIND",
                        format!("127.0.0.1:{port},unix:{}", socket_in(&directory).display()),
                    ),
                    ("BACKEND_WORKERS", "1".to_owned()),
                    ("BACKEND_THREADS", settings.threads.unwrap_or(16).to_string()),
                    (
                        "BACKEND_TRACKS",
                        if settings.tracks { "1" } else { "" }.to_owned(),
                    ),
                    ("BACKEND_TEST_ENDPOINTS", "1".to_owned()),
                    (
                        "BACKEND_HTTPS_ONLY",
                        if settings.https_only { "1" } else { "" }.to_owned(),
                    ),
                    (
                        "BACKEND_SESSION_ENGINE",
                        format!(
                            "django.contrib.sessions.backends.{}",
                            if settings.caches_sessions {
                                "cached_db"
                            } else {
                                "db"
                            }
                        ),
                    ),
                    ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
                ],
            ]
            .concat(),
        );
        let log = directory.path().join("log");
        wait_until("gunicorn", || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("Booting worker")
        });
        super::service::wait_for_port("gunicorn", port);
        Self {
            port,
            directory,
            _service: service,
        }
    }

    /// Port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket on which it listens too.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    /// A URL that goes to the site directly, past the sidecar.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// How many requests for this tally have come.
    pub async fn tally(&self, name: &str) -> u32 {
        let response = reqwest::get(self.url(&format!("/tally/{name}?read"))).await;
        let text = response.expect("an answer").text().await.expect("text");
        text.parse().expect("a number")
    }

    /// Asks one of the site's test endpoints, past the sidecar.
    pub async fn ask(&self, path: &str) -> Value {
        let response = reqwest::get(self.url(&format!("/__test__/{path}")))
            .await
            .expect("an answer");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.expect("JSON")
    }

    /// Has one of the site's test endpoints change something, past the sidecar.
    pub async fn tell(&self, path: &str, body: &Value) -> Value {
        let url = self.url(&format!("/__test__/{path}"));
        let response = reqwest::Client::new()
            .post(url)
            .json(body)
            .send()
            .await
            .expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("text");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}
