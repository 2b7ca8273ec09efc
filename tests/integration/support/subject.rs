//! A site for `headcount init`: one of `tests/sites`, or the usual backend, under gunicorn and unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use reqwest::Method;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::backend::{self, Variant};
use super::database::Database;
use super::member::Member;
use super::pgbouncer::PgBouncer;
use super::postgres::Postgres;
use super::service::{Service, free_port, wait_for_port};
use super::world::Parts;

/// A site of `tests/sites`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// django-spirit with django-user-sessions.
    Spirit,
    /// django-machina with Django's own sessions.
    Machina,
    /// A site that was written for the purpose.
    Clubs,
}

impl Foreign {
    const COUNT: usize = 3;

    fn name(self) -> &'static str {
        match self {
            Self::Spirit => "spirit",
            Self::Machina => "machina",
            Self::Clubs => "clubs",
        }
    }

    fn paths(self) -> Paths {
        match self {
            Self::Spirit => Paths {
                file: "/static/spirit/stylesheets/styles.all.min.css",
                upload: Some("/comment/upload/"),
                stream: None,
            },
            Self::Machina => Paths {
                file: "/static/machina/build/css/machina.board_theme.min.css",
                upload: None,
                stream: None,
            },
            Self::Clubs => Paths {
                file: "/files/rules.txt",
                upload: Some("/upload/"),
                stream: Some("/clubs/rust/meetings.csv"),
            },
        }
    }

    fn project(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/sites")
            .join(self.name())
    }

    fn program(self, program: &str) -> PathBuf {
        environments()
            .join(format!("venv-{}", self.name()))
            .join("bin")
            .join(program)
    }
}

/// The folder with the sites' Python environments; `tests/run` makes them.
fn environments() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let given = std::env::var_os("HEADCOUNT_TEST_SITES").map(PathBuf::from);
        given.unwrap_or_else(|| {
            Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/headcount")
        })
    })
}

/// Paths of a site that its seeded data does not have.
#[derive(Debug, Clone, Copy)]
struct Paths {
    file: &'static str,
    upload: Option<&'static str>,
    stream: Option<&'static str>,
}

/// A running site, and what init is told of it.
pub struct Subject {
    pub port: u16,
    /// The Django project.
    pub project: PathBuf,
    pub python: PathBuf,
    /// What its `manage.py` needs.
    pub environment: Vec<(&'static str, String)>,
    /// Keys and paths of what was seeded.
    pub seeded: Value,
    /// Path of the form, and what passwords end with.
    sign_in: (&'static str, &'static str),
    /// Paths of a file, of a form that takes files, and of an answer of unknown length.
    paths: Paths,
    database: String,
    _service: Service,
    _directory: TempDir,
    _pooler: Option<PgBouncer>,
    _keeps: Option<Database>,
}

impl Subject {
    /// A foreign site; with a pooler between it and its database, which lends connections by the transaction.
    pub async fn foreign(site: Foreign, is_pooled: bool) -> Self {
        let template = template(site).await;
        let database = format!("test_{}", Uuid::new_v4().simple());
        let pool = Postgres::shared().pool("postgres");
        let copy = format!("CREATE DATABASE {database} TEMPLATE {}", template.0);
        sqlx::query(AssertSqlSafe(copy))
            .execute(&pool)
            .await
            .expect("a copy is made");
        pool.close().await;

        let pooler = is_pooled.then(|| PgBouncer::start(Postgres::shared().port(), "transaction", 10));
        let database_port = pooler.as_ref().map_or(Postgres::shared().port(), PgBouncer::port);
        let directory = super::cleaner::folder();
        let mut environment = environment(&database, database_port, directory.path());
        let port = free_port();
        let project = site.project();
        environment.push(("SITE_BIND", format!("127.0.0.1:{port}")));
        let configuration = project.join("../gunicorn.conf.py");
        let service = Service::start(
            directory.path(),
            site.program("gunicorn").to_str().expect("UTF-8"),
            ["--chdir", text(&project), "-c", text(&configuration), "wsgi"],
            &environment,
        );
        wait_for_port("gunicorn", port);
        let sign_in = match site {
            Foreign::Spirit => "/user/login/",
            Foreign::Machina => "/accounts/login/",
            Foreign::Clubs => "/sign-in/",
        };
        Self {
            port,
            project,
            python: site.program("python"),
            environment,
            seeded: template.1.clone(),
            sign_in: (sign_in, ""),
            paths: site.paths(),
            database,
            _service: service,
            _directory: directory,
            _pooler: pooler,
            _keeps: None,
        }
    }

    /// The usual backend.
    pub async fn usual() -> Self {
        let database = Database::unmigrated(Parts::Production, Variant::Default).await;
        let (_, seeded) = Database::seeded(Parts::Production, Variant::Default).await;
        let directory = super::cleaner::folder();
        let port = free_port();
        let environment = vec![
            ("BACKEND_DB", database.url()),
            ("BACKEND_VARIANT", String::new()),
            ("BACKEND_BIND", format!("127.0.0.1:{port}")),
            ("BACKEND_WORKERS", "1".to_owned()),
            ("BACKEND_THREADS", "8".to_owned()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        let project = backend::project();
        let configuration = project.join("gunicorn.conf.py");
        let service = Service::start(
            directory.path(),
            text(&backend::python("gunicorn")),
            [
                "--chdir",
                text(&project),
                "-c",
                text(&configuration),
                "community_site.wsgi",
            ],
            &environment,
        );
        wait_for_port("gunicorn", port);
        let page = |rest: &str| format!("/communities/{}/{rest}", seeded.community("rust"));
        let hidden = |rest: &str| format!("/communities/{}/{rest}", seeded.community("hidden"));
        let said = serde_json::json!({
            "communities": {"rust": seeded.community("rust"), "hidden": seeded.community("hidden")},
            "pages": {
                "community": page(""), "topic": page("posts/1/"), "hidden": hidden(""), "hidden_topic": hidden("posts/1/"),
            },
        });
        Self {
            port,
            project,
            python: backend::python("python"),
            environment,
            seeded: said,
            sign_in: ("/accounts/login/", "-pw"),
            paths: Paths {
                file: "/download?size=5000",
                upload: Some("/upload"),
                stream: Some("/stream?n=5"),
            },
            database: database.name().to_owned(),
            _service: service,
            _directory: directory,
            _pooler: None,
            _keeps: Some(database),
        }
    }

    /// Path of a file.
    pub fn file(&self) -> &str {
        self.paths.file
    }

    /// Path of a form that takes files.
    pub fn upload(&self) -> Option<&str> {
        self.paths.upload
    }

    /// Path of an answer whose length is not known when it begins.
    pub fn stream(&self) -> Option<&str> {
        self.paths.stream
    }

    /// Path of its sign-in.
    pub fn form(&self) -> &str {
        self.sign_in.0
    }

    /// Its database, past a pooler.
    pub fn pool(&self) -> PgPool {
        Postgres::shared().pool(&self.database)
    }

    /// URL of its database, past a pooler.
    pub fn direct_url(&self) -> String {
        Postgres::shared().url(&self.database)
    }

    /// A path of the seeded data.
    pub fn page(&self, name: &str) -> &str {
        self.seeded["pages"][name].as_str().expect("a path")
    }

    /// A community's key.
    pub fn community(&self, name: &str) -> String {
        backend::text(&self.seeded["communities"][name])
    }

    /// A member's password.
    pub fn password(&self, name: &str) -> String {
        match self.sign_in.1 {
            "" => "password".to_owned(),
            end => format!("{name}{end}"),
        }
    }

    /// Signs in with the site's own form, with its token against forgery where it has one.
    pub async fn signs_in(&self, base: String, name: &str) -> Member {
        let member = Member::new(base);
        let (path, _) = self.sign_in;
        let form = member.get(path).await.text().await.expect("a page");
        let token = form
            .split_once("csrfmiddlewaretoken\" value=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map_or("", |(token, _)| token);
        let password = self.password(name);
        let fields = [
            ("username", name),
            ("password", &password),
            ("csrfmiddlewaretoken", token),
        ];
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = member.request(Method::POST, path);
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 302, "{name} signs in");
        member.keeps_cookies_of(&response);
        member
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn environment(database: &str, port: u16, directory: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("SITE_DB", database.to_owned()),
        ("SITE_DB_PORT", port.to_string()),
        ("SITE_WORK_DIR", text(directory).to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
}

/// A site's database after its migrations and `seed.py`, made once per test process, and what that printed.
async fn template(site: Foreign) -> &'static (String, Value) {
    static TEMPLATES: [OnceCell<(String, Value)>; Foreign::COUNT] =
        [const { OnceCell::const_new() }; Foreign::COUNT];
    TEMPLATES[site as usize]
        .get_or_init(async || {
            let name = Postgres::shared().database().await;
            let directory = super::cleaner::folder();
            let environment = environment(&name, Postgres::shared().port(), directory.path());
            let manage = |arguments: &[&str], input: std::process::Stdio| {
                let output = Command::new(site.program("python"))
                    .arg("manage.py")
                    .args(arguments)
                    .current_dir(site.project())
                    .envs(environment.iter().map(|(key, value)| (*key, value)))
                    .stdin(input)
                    .output()
                    .expect("manage.py runs; tests/run installs what it needs");
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
                String::from_utf8(output.stdout).expect("UTF-8")
            };
            manage(
                &["migrate", "--no-input", "--verbosity", "0"],
                std::process::Stdio::null(),
            );
            let seed = std::fs::File::open(site.project().join("seed.py")).expect("a script");
            let said = manage(&["shell", "--verbosity", "0"], seed.into());
            let seeded = said.lines().find(|line| line.starts_with('{')).expect("JSON");
            (name, serde_json::from_str(seeded).expect("JSON"))
        })
        .await
}
