//! A small community site's database, as Django makes it, in four variants: Postgres and SQLite, with
//! default names and number keys, and with everything renamed and uuid keys. Tests of the store speak to
//! the app's side of it in the app's words.

mod rows;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use headcount::batch::{Batch, BatchKey, BatchPart, RecordedView, WriterId};
use headcount::browser_session::BrowserSession;
use headcount::config::{Config, Secret};
use headcount::geoip::Location;
use headcount::ids::{BrowserSessionId, CommunityId, SessionToken};
use headcount::page_view::device::DeviceInfo;
use headcount::page_view::{PageView, RouteEvent};
use headcount::store::{self, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _, SqlitePool};
use tempfile::TempDir;

use crate::support::cleaner::TestDatabase;
use crate::support::postgres::Postgres;
pub use rows::{SessionRow, stored_key};

/// Which database, which names and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    PostgresDefault,
    PostgresRenamed,
    SqliteDefault,
    SqliteRenamed,
}

impl Variant {
    pub fn is_postgres(self) -> bool {
        matches!(self, Self::PostgresDefault | Self::PostgresRenamed)
    }

    pub fn is_renamed(self) -> bool {
        matches!(self, Self::PostgresRenamed | Self::SqliteRenamed)
    }

    fn ddl(self) -> &'static str {
        match self {
            Self::PostgresDefault => include_str!("support/ddl/postgres_default.sql"),
            Self::PostgresRenamed => include_str!("support/ddl/postgres_renamed.sql"),
            Self::SqliteDefault => include_str!("support/ddl/sqlite_default.sql"),
            Self::SqliteRenamed => include_str!("support/ddl/sqlite_renamed.sql"),
        }
    }

    fn config(self) -> Config {
        let mut config = Config::default();
        if !self.is_renamed() {
            return config;
        }
        let schema = &mut config.schema;
        // On Postgres the renamed tables also live in a schema of their own.
        let table = |name: &str| {
            if self.is_postgres() {
                format!("forum.{name}")
            } else {
                name.into()
            }
        };
        schema.profile.table = table("people_Person");
        schema.session.table = table("people_session");
        schema.event.table = table("audit_Event");
        schema.community.table = table("groups_group");
        let profile = &mut schema.profile.columns;
        profile.id = "person_id".into();
        profile.username = "displayName".into();
        profile.avatar = "avatar".into();
        profile.last_active = "lastSeen".into();
        let session = &mut schema.session.columns;
        session.user_id = "person_id".into();
        session.session_id = "token".into();
        session.pages_visited = "pages".into();
        session.started_at = "opened".into();
        session.ended_at = "closed".into();
        session.expires_at = "expires".into();
        session.is_active = "active".into();
        session.is_ended = "ended".into();
        let event = &mut schema.event.columns;
        event.user_id = "person_id".into();
        event.event_type = "type".into();
        event.description = "text".into();
        event.metadata = "meta".into();
        event.ip_address = "ip".into();
        event.user_agent = "agent".into();
        event.device_info = "device".into();
        event.location_data = "place".into();
        event.timestamp = "at".into();
        schema.event.constants.insert("tenant".into(), "7".into());
        schema.community.columns.slug = "short".into();
        config
    }
}

/// The site's database and the store under test.
pub struct Site {
    pub variant: Variant,
    pub config: Config,
    pub store: Arc<dyn Store>,
    app: App,
    _left: Left,
}

/// What is removed when the test is over.
type Left = (Option<TestDatabase>, Option<TempDir>);

/// The app's own way to its database.
enum App {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A moment, as RFC 3339 has it.
pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a moment")
}

impl Site {
    /// With the sidecar's own tables.
    pub async fn new(variant: Variant) -> Self {
        Self::with(variant, |_| {}).await
    }

    /// A site whose sidecar is configured otherwise.
    pub async fn with(variant: Variant, configure: impl FnOnce(&mut Config)) -> Self {
        let site = Self::unmigrated_with(variant, configure).await;
        // The ledger alone: whoever wants the rest, or tests how it is made, has `headcount migrate`.
        site.execute(if variant.is_postgres() {
            concat!(
                "CREATE SCHEMA headcount;",
                include_str!("../../migrations/postgres/0002_ledger.sql")
            )
        } else {
            include_str!("../../migrations/sqlite/0002_ledger.sql")
        })
        .await;
        site
    }

    /// A site as it is before `headcount migrate`.
    pub async fn unmigrated(variant: Variant) -> Self {
        Self::unmigrated_with(variant, |_| {}).await
    }

    /// The same, configured otherwise.
    pub async fn unmigrated_with(variant: Variant, configure: impl FnOnce(&mut Config)) -> Self {
        let place = if variant.is_postgres() {
            postgres(variant, "").await
        } else {
            sqlite(variant).await
        };
        Self::at(variant, place, configure)
    }

    /// A site whose database is in an encoding of before Unicode, with `headcount migrate` run.
    pub async fn in_latin1() -> Self {
        let variant = Variant::PostgresDefault;
        let place = postgres(variant, "ENCODING 'LATIN1' LOCALE 'C'").await;
        let site = Self::at(variant, place, |_| {});
        store::migrate(&site.config, false).await.expect("it is migrated");
        site
    }

    fn at(
        variant: Variant,
        (app, url, left): (App, String, Left),
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = variant.config();
        // A busy machine is no reason for a test to fail; tests of limits set their own.
        config.database.acquire_timeout = Duration::from_secs(60);
        config.database.statement_timeout = Duration::from_secs(60);
        config.database.lock_timeout = Duration::from_secs(60);
        config.database.url = Some(Secret::new(url));
        // Exact, except where a test is about what is left out.
        config.record.last_active_interval = Duration::ZERO;
        configure(&mut config);
        Self {
            variant,
            store: store::open(&config).expect("a store"),
            config,
            app,
            _left: left,
        }
    }

    /// The same site through another store, configured otherwise.
    pub fn reconfigured(&self, configure: impl FnOnce(&mut Config)) -> Arc<dyn Store> {
        let mut config = self.config.clone();
        configure(&mut config);
        store::open(&config).expect("a store")
    }

    /// Runs statements as the app.
    pub async fn execute(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        match &self.app {
            App::Postgres(pool) => pool.execute(sql).await.map(drop),
            App::Sqlite(pool) => pool.execute(sql).await.map(drop),
        }
        .expect("the app's statement runs");
    }

    /// Rows of texts, read as the app.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let sql = AssertSqlSafe(sql);
        match &self.app {
            App::Postgres(pool) => {
                let rows = sqlx::query(sql)
                    .fetch_all(pool)
                    .await
                    .expect("the app's query runs");
                rows.iter()
                    .map(|row| (0..row.len()).map(|i| row.get(i)).collect())
                    .collect()
            }
            App::Sqlite(pool) => {
                let rows = sqlx::query(sql)
                    .fetch_all(pool)
                    .await
                    .expect("the app's query runs");
                // Unchecked: numbers as text, too.
                rows.iter()
                    .map(|row| (0..row.len()).map(|i| row.get_unchecked(i)).collect())
                    .collect()
            }
        }
    }

    /// One text, read as the app.
    pub async fn text(&self, sql: &str) -> String {
        let mut rows = self.rows(sql).await;
        rows.remove(0).remove(0).expect("not null")
    }

    /// How often Postgres has read a table from its beginning to its end so far. A connection may keep what it has counted
    /// for itself as long as it lives, so all are ended first.
    pub async fn sequential_scans(&self, table: &str) -> u64 {
        let ended = "SELECT bool_and(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1";
        let options = (*self.postgres().connect_options()).clone();
        let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
        // One that has ended by itself meanwhile is gone from the list once it has told what it counted.
        while sqlx::query_scalar::<_, Option<bool>>(ended)
            .fetch_one(&mut connection)
            .await
            .expect("an answer")
            .is_some()
        {}
        let scans: i64 = sqlx::query_scalar(scans)
            .bind(table)
            .fetch_one(&mut connection)
            .await
            .expect("an answer");
        connection.close().await.expect("it closes");
        u64::try_from(scans).expect("a number of scans")
    }

    /// The app's connections to Postgres.
    pub fn postgres(&self) -> &PgPool {
        match &self.app {
            App::Postgres(pool) => pool,
            App::Sqlite(_) => panic!("this site is in SQLite"),
        }
    }
}

async fn postgres(variant: Variant, options: &str) -> (App, String, Left) {
    let server = Postgres::shared();
    let name = server.database_with(options).await;
    let pool = server.pool(&name);
    let ddl = match variant {
        Variant::PostgresRenamed => format!(
            "CREATE SCHEMA forum; SET search_path = forum; {}; RESET search_path",
            variant.ddl().trim_end().trim_end_matches(';')
        ),
        _ => variant.ddl().to_owned(),
    };
    pool.execute(sqlx::raw_sql(AssertSqlSafe(ddl)))
        .await
        .expect("the app's tables are made");
    let url = server.url(&name);
    let database = TestDatabase::new(server.port(), name);
    (App::Postgres(pool), url, (Some(database), None))
}

async fn sqlite(variant: Variant) -> (App, String, Left) {
    let directory = TempDir::with_prefix("headcount-sqlite-").expect("a directory");
    let file = directory.path().join("db.sqlite3");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(60));
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    pool.execute(sqlx::raw_sql(variant.ddl()))
        .await
        .expect("the app's tables are made");
    let url = format!("sqlite://{}", file.display());
    (App::Sqlite(pool), url, (None, Some(directory)))
}

/// A page view at a moment; tests change what they are about.
pub fn page_view(when: &str) -> PageView {
    PageView {
        at: at(when),
        finer: Arc::default(),
        url: "/communities/42/?page=2".into(),
        route: Some("community".into()),
        page_type: Some("community".into()),
        community: None,
        referrer: Some("https://example.org/".into()),
        search_query: None,
        status: 200,
        duration_ms: 12,
        client_ip: Some("198.51.100.7".parse().expect("an address")),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0".into(),
        device: Arc::new(DeviceInfo {
            browser: "Firefox 128.0".into(),
            os: "Linux".into(),
            device: "desktop".into(),
        }),
        event: RouteEvent::default(),
    }
}

/// Primary key of a session's row.
pub fn key_of(session: &BrowserSession) -> &BrowserSessionId {
    session.id.as_ref().expect("a row")
}

/// A batch of views of one session in one community.
pub fn batch(session: &Arc<BrowserSession>, community: &CommunityId, views: Vec<PageView>) -> Batch {
    let views = views
        .into_iter()
        .map(|view| RecordedView {
            location: Location::default(),
            view,
            session_id: session.id.clone(),
            user_id: session.user_id.clone(),
            community: Some(community.clone()),
        })
        .collect();
    batch_of(views)
}

/// A batch of one part that no other batch has.
pub fn batch_of(views: Vec<RecordedView>) -> Batch {
    let key = BatchKey {
        writer: WriterId::random(),
        seq: 1,
    };
    Batch {
        parts: vec![BatchPart { key, views }],
        settled: Vec::new(),
    }
}

/// The same views once more, as another batch.
pub fn another(batch: &Batch) -> Batch {
    batch_of(batch.views().cloned().collect())
}

pub fn token(text: &str) -> SessionToken {
    SessionToken::new(text)
}

/// The configuration of a sidecar that signs in to Postgres as another role.
pub fn as_role(config: &Config, role: &str) -> Config {
    let mut config = config.clone();
    let url = config.database.url.take().expect("a URL");
    let url = url
        .expose()
        .replacen("postgres://postgres@", &format!("postgres://{role}@"), 1);
    config.database.url = Some(Secret::new(url));
    config
}
