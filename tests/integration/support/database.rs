//! The app's database for one test: migrated and seeded once per test process, then copied.

use std::path::PathBuf;

use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::backend::{self, Seeded, Variant};
use super::cleaner::{TestDatabase, folder};
use super::postgres::{self, Postgres};
use super::process::run;
use super::sidecar::write_config;
use super::world::{DJANGO_SESSIONS, Parts, UUID_SCHEMA};

/// A database with the site's tables, members and communities.
pub struct Database(Place);

enum Place {
    Postgres(TestDatabase),
    Sqlite(TempDir),
}

/// What is copied for each test.
struct Template {
    /// Name of the database, or path of the file.
    source: String,
    seeded: Seeded,
}

impl Database {
    /// A copy of the seeded database, for this test alone, with the sidecar's own tables.
    pub async fn seeded(parts: Parts, variant: Variant) -> (Self, Seeded) {
        static TEMPLATES: [OnceCell<Template>; 2 * Variant::COUNT] =
            [const { OnceCell::const_new() }; 2 * Variant::COUNT];
        let place = usize::from(parts == Parts::Embedded) * Variant::COUNT + variant as usize;
        let template = TEMPLATES[place]
            .get_or_init(async || {
                let bare = bare_template(parts, variant).await;
                let (database, seeded) = (copy(parts, &bare.source).await, bare.seeded.clone());
                migrate(variant, &database.url());
                let source = database.keep();
                Template { source, seeded }
            })
            .await;
        (copy(parts, &template.source).await, template.seeded.clone())
    }

    /// The same without the sidecar's own tables: as it is before `headcount migrate`.
    pub async fn unmigrated(parts: Parts, variant: Variant) -> Self {
        copy(parts, &bare_template(parts, variant).await.source).await
    }

    /// Keeps it for the whole process; returns what it is copied from.
    pub fn keep(self) -> String {
        match self.0 {
            Place::Postgres(database) => database.keep(),
            Place::Sqlite(directory) => {
                let path = directory.keep().join("app.db");
                path.to_str().expect("UTF-8").to_owned()
            }
        }
    }

    /// A seeded database on a server of the test's own.
    pub async fn seeded_on(server: &Postgres, variant: Variant) -> (Self, Seeded) {
        let name = server.database().await;
        let database = Self(Place::Postgres(TestDatabase::new(server.port(), name)));
        backend::migrate(variant, &database.url());
        let seeded = backend::seed(variant, &database.url());
        migrate(variant, &database.url());
        (database, seeded)
    }

    /// The database's own URL.
    pub fn url(&self) -> String {
        match &self.0 {
            Place::Postgres(database) => postgres::url(database.port, database.name()),
            Place::Sqlite(_) => format!("sqlite://{}", self.file().display()),
        }
    }

    /// Its URL through a proxy in front of the server.
    pub fn url_through(&self, proxy: u16) -> String {
        postgres::url(proxy, self.name())
    }

    /// Name of the database on the shared Postgres server.
    pub fn name(&self) -> &str {
        match &self.0 {
            Place::Postgres(database) => database.name(),
            Place::Sqlite(_) => panic!("a SQLite database has no name"),
        }
    }

    fn file(&self) -> PathBuf {
        match &self.0 {
            Place::Postgres(_) => panic!("a Postgres database is no file"),
            Place::Sqlite(directory) => directory.path().join("app.db"),
        }
    }
}

async fn bare_template(parts: Parts, variant: Variant) -> &'static Template {
    static TEMPLATES: [OnceCell<Template>; 2 * Variant::COUNT] =
        [const { OnceCell::const_new() }; 2 * Variant::COUNT];
    let place = usize::from(parts == Parts::Embedded) * Variant::COUNT + variant as usize;
    TEMPLATES[place]
        .get_or_init(|| make_template(parts, variant))
        .await
}

/// `headcount migrate`, as an operator runs it.
fn migrate(variant: Variant, url: &str) {
    let schema = match variant {
        Variant::Default | Variant::Text | Variant::Counters => "",
        Variant::Django => DJANGO_SESSIONS,
        Variant::Uuid => UUID_SCHEMA,
    };
    let config = format!("[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{url}\"\n{schema}");
    let directory = folder();
    let config = write_config(directory.path(), &config, "");
    let told = run(&["migrate", "--config", config.to_str().expect("UTF-8")], &[]);
    assert_eq!(told.code, Some(0), "{}", told.err);
}

async fn make_template(parts: Parts, variant: Variant) -> Template {
    let (source, url) = match parts {
        Parts::Production => {
            let name = Postgres::shared().database().await;
            let url = Postgres::shared().url(&name);
            (name, url)
        }
        Parts::Embedded => {
            let path = folder().keep().join("template.db");
            let path = path.to_str().expect("UTF-8").to_owned();
            (path.clone(), format!("sqlite://{path}"))
        }
    };
    backend::migrate(variant, &url);
    let seeded = backend::seed(variant, &url);
    Template { source, seeded }
}

async fn copy(parts: Parts, source: &str) -> Database {
    match parts {
        Parts::Production => {
            let name = format!("test_{}", Uuid::new_v4().simple());
            let sql = format!("CREATE DATABASE {name} TEMPLATE {source}");
            let pool = Postgres::shared().pool("postgres");
            sqlx::query(AssertSqlSafe(sql))
                .execute(&pool)
                .await
                .expect("a copy is made");
            pool.close().await;
            let database = TestDatabase::new(Postgres::shared().port(), name);
            Database(Place::Postgres(database))
        }
        Parts::Embedded => {
            let directory = folder();
            std::fs::copy(source, directory.path().join("app.db")).expect("a copy is made");
            Database(Place::Sqlite(directory))
        }
    }
}
