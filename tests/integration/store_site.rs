//! A small community site's database, as Django makes it, in four variants: Postgres and SQLite, with
//! default names and number keys, and with everything renamed and uuid keys. Tests of the store speak to
//! the app's side of it in the app's words.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use headcount::batch::{Batch, BatchKey, BatchPart, RecordedView, WriterId};
use headcount::browser_session::BrowserSession;
use headcount::config::{Config, ProfileColumn, Secret};
use headcount::geoip::Location;
use headcount::ids::{BrowserSessionId, CommunityId, SessionToken, UserId};
use headcount::page_view::device::DeviceInfo;
use headcount::page_view::{PageView, RouteEvent};
use headcount::store::{self, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _, SqlitePool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::postgres::Postgres;

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
    _directory: Option<TempDir>,
}

/// The app's own way to its database.
enum App {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A session as the app writes it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub expires_at: DateTime<Utc>,
    pub is_active: bool,
    pub is_ended: bool,
    pub pages_visited: i64,
}

impl Default for SessionRow {
    fn default() -> Self {
        Self {
            started_at: at("2024-03-01T09:00:00Z"),
            ended_at: None,
            expires_at: at("2999-01-01T00:00:00Z"),
            is_active: true,
            is_ended: false,
            pages_visited: 0,
        }
    }
}

/// An event as it stands in the database.
#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: String,
    pub user_id: String,
    pub event_type: String,
    pub description: String,
    pub metadata: serde_json::Value,
    pub ip_address: Option<String>,
    pub user_agent: String,
    pub device_info: serde_json::Value,
    pub location_data: serde_json::Value,
    /// As SQLite holds it and Django compares it; Postgres' prints the same with `+00`.
    pub timestamp: String,
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
        (app, url, directory): (App, String, Option<TempDir>),
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
            _directory: directory,
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

    /// Somebody signs up.
    pub async fn member(&self, name: &str) -> UserId {
        self.member_with_avatar(name, "").await
    }

    pub async fn member_with_avatar(&self, name: &str, avatar: &str) -> UserId {
        // As the variant has them, wherever the sidecar is told to look.
        let columns = self.variant.config().schema.profile.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let sql = format!(
            r#"INSERT INTO {table} ({id_column} "{username}", "{avatar_column}", "{last_active}")
               VALUES ({id} '{name}', '{avatar}', '2024-01-01 00:00:00') RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.profile.table),
            username = own_name(&columns.username),
            avatar_column = own_name(&columns.avatar),
            last_active = columns.last_active,
            key = columns.id,
        );
        UserId::new(printed(self.text(&sql).await))
    }

    /// Somebody founds a community.
    pub async fn community(&self, slug: &str) -> CommunityId {
        let columns = &self.config.schema.community.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let (name_column, name) = if self.variant.is_renamed() {
            ("", "")
        } else {
            (r#", "name""#, ", 'A name'")
        };
        let sql = format!(
            r#"INSERT INTO {table} ({id_column} "{slug_column}"{name_column}) VALUES ({id} '{slug}'{name})
               RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.community.table),
            slug_column = columns.slug,
            key = columns.id,
        );
        CommunityId::new(printed(self.text(&sql).await))
    }

    /// Somebody signs in.
    pub async fn session(&self, user: &UserId, token: &str, row: SessionRow) -> Arc<BrowserSession> {
        let columns = &self.config.schema.session.columns;
        // Default names: the model of the analysis, whose key is a uuid; renamed: a bigint.
        let (further, values) = if self.variant.is_renamed() {
            ("", String::new())
        } else {
            (
                r#", "id", "ip_address", "user_agent", "device_info", "location_data", "device_fingerprint",
                   "fast_fingerprint", "persistent", "termination_reason""#,
                format!(
                    ", '{}', '203.0.113.9', '', '{{}}', '{{}}', '', '', false, ''",
                    Uuid::new_v4().simple()
                ),
            )
        };
        let sql = format!(
            r#"INSERT INTO {table} ("{user_id}", "{token_column}", "{pages}", "{started}", "{ended_at}",
                                    "{expires}", "{active}", "{ended}" {further})
               VALUES ('{user}', '{token}', {pages_visited}, {started_at}, {closed}, {expires_at},
                       {is_active}, {is_ended} {values})
               RETURNING CAST("{key}" AS TEXT)"#,
            table = self.table(&self.config.schema.session.table),
            user_id = columns.user_id,
            token_column = columns.session_id,
            pages = columns.pages_visited,
            started = columns.started_at,
            ended_at = columns.ended_at,
            expires = columns.expires_at,
            active = columns.is_active,
            ended = columns.is_ended,
            user = stored_key(user.as_str()),
            pages_visited = row.pages_visited,
            started_at = literal(&moment(row.started_at)),
            closed = row.ended_at.map_or("NULL".into(), |end| literal(&moment(end))),
            expires_at = literal(&moment(row.expires_at)),
            is_active = row.is_active,
            is_ended = row.is_ended,
            key = columns.id,
        );
        Arc::new(BrowserSession {
            id: Some(BrowserSessionId::new(printed(self.text(&sql).await))),
            user_id: user.clone(),
            expires_at: row.expires_at,
            is_active: row.is_active,
            is_ended: row.is_ended,
            ended_at: row.ended_at,
            visibility: headcount::browser_session::Visibility::Shown,
        })
    }

    /// The app writes an event of its own.
    pub async fn app_event(&self, user: &UserId, event_type: &str, metadata: &str, when: &str) {
        self.app_event_at(user, event_type, metadata, &moment(at(when)))
            .await;
    }

    /// The same at a moment as the app writes it.
    pub async fn app_event_at(&self, user: &UserId, event_type: &str, metadata: &str, written: &str) {
        let columns = &self.config.schema.event.columns;
        let (id_column, id) = self.new_key(&columns.id);
        let (tenant_column, tenant) = if self.variant.is_renamed() {
            (r#", "tenant""#, ", 7")
        } else {
            ("", "")
        };
        self.execute(&format!(
            r#"INSERT INTO {table} ({id_column} "{user_id}", "{event_type_column}", "{description}",
                   "{metadata_column}", "{ip_address}", "{user_agent}", "{device_info}", "{location_data}",
                   "{timestamp}"{tenant_column})
               VALUES ({id} '{user}', '{event_type}', 'x', '{metadata}', '203.0.113.9', '', '{{}}', '{{}}',
                       '{written}'{tenant})"#,
            table = self.table(&self.config.schema.event.table),
            user_id = columns.user_id,
            event_type_column = columns.event_type,
            description = columns.description,
            metadata_column = columns.metadata,
            ip_address = columns.ip_address,
            user_agent = columns.user_agent,
            device_info = columns.device_info,
            location_data = columns.location_data,
            timestamp = columns.timestamp,
            user = stored_key(user.as_str()),
        ))
        .await;
    }

    /// All events, oldest first.
    pub async fn events(&self) -> Vec<EventRow> {
        let columns = &self.config.schema.event.columns;
        let names = [
            &columns.id,
            &columns.user_id,
            &columns.event_type,
            &columns.description,
            &columns.metadata,
            &columns.ip_address,
            &columns.user_agent,
            &columns.device_info,
            &columns.location_data,
            &columns.timestamp,
        ];
        let list = names.map(|name| {
            if name == &columns.ip_address && self.variant.is_postgres() {
                format!("host(\"{name}\")")
            } else {
                format!("CAST(\"{name}\" AS TEXT)")
            }
        });
        let sql = format!(
            "SELECT {} FROM {} ORDER BY \"{}\"",
            list.join(", "),
            self.table(&self.config.schema.event.table),
            columns.timestamp
        );
        let text = |cell: &Option<String>| cell.clone().expect("not null");
        let json = |cell: &Option<String>| serde_json::from_str(cell.as_ref().unwrap()).expect("JSON");
        self.rows(&sql)
            .await
            .iter()
            .map(|row| EventRow {
                id: printed(text(&row[0])),
                user_id: printed(text(&row[1])),
                event_type: text(&row[2]),
                description: text(&row[3]),
                metadata: json(&row[4]),
                ip_address: row[5].clone(),
                user_agent: text(&row[6]),
                device_info: json(&row[7]),
                location_data: json(&row[8]),
                timestamp: text(&row[9]),
            })
            .collect()
    }

    /// A session's page counter.
    pub async fn pages_visited(&self, session: &BrowserSession) -> i64 {
        let names = &self.config.schema.session;
        let sql = format!(
            r#"SELECT CAST("{}" AS TEXT) FROM {} WHERE "{}" = '{}'"#,
            names.columns.pages_visited,
            self.table(&names.table),
            names.columns.id,
            stored_key(key_of(session).as_str())
        );
        self.text(&sql).await.parse().expect("a number")
    }

    /// The app changes when a session began, ended and expires; moments are as it writes them.
    pub async fn session_lasts(
        &self,
        session: &BrowserSession,
        started: &str,
        ended: Option<&str>,
        expires: &str,
    ) {
        let names = &self.config.schema.session;
        self.execute(&format!(
            r#"UPDATE {table} SET "{started_at}" = '{started}', "{ended_at}" = {ended}, "{expires_at}" = '{expires}'
               WHERE "{id}" = '{session}'"#,
            table = self.table(&names.table),
            started_at = names.columns.started_at,
            ended_at = names.columns.ended_at,
            expires_at = names.columns.expires_at,
            ended = ended.map_or("NULL".into(), literal),
            id = names.columns.id,
            session = stored_key(key_of(session).as_str()),
        ))
        .await;
    }

    /// The app writes when a user was last active.
    pub async fn was_active(&self, user: &UserId, written: &str) {
        let names = &self.config.schema.profile;
        self.execute(&format!(
            r#"UPDATE {} SET "{}" = '{written}' WHERE "{}" = '{}'"#,
            self.table(&names.table),
            names.columns.last_active,
            names.columns.id,
            stored_key(user.as_str())
        ))
        .await;
    }

    /// A profile's `last_active`, as SQLite holds it (on Postgres without the `+00`).
    pub async fn last_active(&self, user: &UserId) -> String {
        let names = &self.config.schema.profile;
        let sql = format!(
            r#"SELECT CAST("{}" AS TEXT) FROM {} WHERE "{}" = '{}'"#,
            names.columns.last_active,
            self.table(&names.table),
            names.columns.id,
            stored_key(user.as_str())
        );
        self.text(&sql).await.trim_end_matches("+00").to_owned()
    }

    /// A configured table name, quoted.
    pub fn table(&self, name: &str) -> String {
        match name.split_once('.') {
            Some((schema, name)) if self.variant.is_postgres() => format!("\"{schema}\".\"{name}\""),
            _ => format!("\"{name}\""),
        }
    }

    fn new_key(&self, column: &str) -> (String, String) {
        if self.variant.is_renamed() {
            (
                format!("\"{column}\","),
                format!("'{}',", Uuid::new_v4().simple()),
            )
        } else {
            (String::new(), String::new())
        }
    }
}

/// The name of a column of the profile table itself.
fn own_name(column: &ProfileColumn) -> &str {
    match column {
        ProfileColumn::Own(name) => name,
        ProfileColumn::Joined(joined) => panic!("{joined:?} is of another table"),
    }
}

/// A key as Django prints it.
fn printed(key: String) -> String {
    match Uuid::try_parse(&key) {
        Ok(id) => id.hyphenated().to_string(),
        Err(_) => key,
    }
}

/// A key as either database takes it in a literal.
pub fn stored_key(key: &str) -> String {
    match Uuid::try_parse(key) {
        Ok(id) => id.simple().to_string(),
        Err(_) => key.to_owned(),
    }
}

/// A moment as Django writes it; Postgres' session is in UTC.
fn moment(at: DateTime<Utc>) -> String {
    let text = at.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    text.trim_end_matches(".000000").to_owned()
}

fn literal(text: &str) -> String {
    format!("'{text}'")
}

async fn postgres(variant: Variant, options: &str) -> (App, String, Option<TempDir>) {
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
    (App::Postgres(pool), server.url(&name), None)
}

async fn sqlite(variant: Variant) -> (App, String, Option<TempDir>) {
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
    (App::Sqlite(pool), url, Some(directory))
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
        device: DeviceInfo {
            browser: "Firefox 128.0".into(),
            os: "Linux".into(),
            device: "desktop".into(),
        },
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
