//! The whole system for one test: site, database, presence, and a sidecar in front.

use serde_json::Value;
use tokio::sync::OnceCell;

use super::backend::{Backend, Seeded, Settings, Variant};
use super::member::Member;
use super::sidecar::Sidecar;
use super::{database::Database, redis};

/// Where the app's tables and presence are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Postgres and Redis.
    Production,
    /// SQLite and memory.
    Embedded,
}

/// A running system.
pub struct World {
    pub sidecar: Sidecar,
    pub site: Backend,
    pub database: Database,
    pub seeded: Seeded,
}

/// What a test wants of its world.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub parts: Parts,
    pub variant: Variant,
    pub settings: Settings,
    /// Further configuration, as TOML with section headers; its sections must not repeat the usual ones.
    pub config: String,
    /// What is behind the sidecar instead of the site, as in `[upstream] servers`.
    pub servers: Option<Vec<String>>,
    /// Further keys of `[database]`, `[redis]`, `[record]`, `[session]` and `[upstream]`.
    pub database: String,
    pub redis_keys: String,
    pub record: String,
    /// `record.batch_age`: how long views wait for company.
    pub batch_age: &'static str,
    /// `record.keep_applied`: how long they stay on disk then.
    pub keep_applied: &'static str,
    pub session: String,
    pub upstream: String,
    /// Another Redis than the shared one.
    pub redis: Option<String>,
    /// The same, as keys of `[redis]` that say where it is.
    pub redis_at: Option<String>,
    /// First part of all keys in Redis, where several sidecars share them.
    pub key_prefix: Option<String>,
    /// `api.access`, where `config` says nothing of it: most tests ask about communities whose pages nobody opens.
    pub access: &'static str,
    /// Port of a proxy in front of the database's server, for the sidecar only.
    pub database_port: Option<u16>,
}

impl Wanted {
    pub fn new(parts: Parts, variant: Variant) -> Self {
        Self {
            parts,
            variant,
            settings: Settings::default(),
            config: String::new(),
            servers: None,
            database: String::new(),
            redis_keys: String::new(),
            record: String::new(),
            batch_age: "50ms",
            keep_applied: "1s",
            session: String::new(),
            upstream: String::new(),
            redis: None,
            redis_at: None,
            key_prefix: None,
            access: "session",
            database_port: None,
        }
    }

    /// With the access of a sidecar that says nothing of it.
    pub fn with_default_access(self) -> Self {
        Self {
            access: "visited",
            ..self
        }
    }

    /// Postgres, Redis, and the default schema.
    pub fn usual() -> Self {
        Self::new(Parts::Production, Variant::Default)
    }

    /// Starts everything.
    pub async fn start(self) -> World {
        let database = Database::seeded(self.parts, self.variant).await;
        self.start_on(database)
    }

    /// Starts site and sidecar on a database that is there already.
    pub fn start_on(self, (database, seeded): (Database, Seeded)) -> World {
        let site = Backend::start(self.variant, &database.url(), self.settings);
        let sidecar = Sidecar::start(&self.configuration(&site, &database));
        World {
            sidecar,
            site,
            database,
            seeded,
        }
    }

    /// The further configuration, which says who may ask the API.
    fn with_access(&self) -> String {
        let (config, access) = (&self.config, format!("access = \"{}\"\n", self.access));
        if config.contains("\naccess = ") {
            return config.clone();
        }
        match config.split_once("[api]\n") {
            Some((before, api)) => format!("{before}[api]\n{access}{api}"),
            None => format!("{config}\n[api]\n{access}"),
        }
    }

    /// The sidecar's configuration, but for `[listen]`.
    pub fn configuration(&self, site: &Backend, database: &Database) -> String {
        let redis = match self.parts {
            Parts::Production => {
                let url = || self.redis.clone().unwrap_or_else(|| redis::shared().url());
                let at = self.redis_at.clone();
                let at = at.unwrap_or_else(|| format!("url = \"{}\"\n", url()));
                let prefix = self.key_prefix.clone().unwrap_or_else(any_prefix);
                let more = &self.redis_keys;
                format!("[redis]\n{at}key_prefix = \"{prefix}\"\n{more}")
            }
            Parts::Embedded => String::new(),
        };
        let schema = match self.variant {
            Variant::Default | Variant::Text | Variant::Counters => "",
            Variant::Uuid => UUID_SCHEMA,
            Variant::Django => DJANGO_SCHEMA,
        };
        let servers = self.servers.clone();
        let servers = servers.unwrap_or_else(|| vec![format!("127.0.0.1:{}", site.port())]);
        let url = match self.database_port {
            Some(proxy) => database.url_through(proxy),
            None => database.url(),
        };
        format!(
            "[upstream]\nservers = {servers:?}\n{upstream}\n\
             [database]\nurl = \"{url}\"\n{database}\n\
             {redis}\n\
             [session]\ncookie = \"{cookie}\"\nkind = \"{kind}\"\n{session}\n\
             [record]\nbatch_age = \"{batch_age}\"\nkeep_applied = \"{keep_applied}\"\ncoalesce = \"0s\"\n\
             last_active_interval = \"0s\"\n{record}\n\
             {schema}\n{more}\n",
            upstream = self.upstream,
            database = self.database,
            cookie = self.variant.cookie(),
            kind = match self.variant {
                Variant::Django => "django",
                _ => "table",
            },
            session = self.session,
            batch_age = self.batch_age,
            keep_applied = self.keep_applied,
            record = self.record,
            more = self.with_access(),
        )
    }
}

/// A key prefix that no other test has.
pub fn any_prefix() -> String {
    format!("test{}", uuid::Uuid::new_v4().simple())
}

/// `[schema]` for the site with Django's own sessions.
const DJANGO_SCHEMA: &str = r#"
[schema.profile.columns]
account = "user_id"
"#;

/// What `headcount migrate` must know of it.
pub const DJANGO_SESSIONS: &str = r#"
[session]
kind = "django"
"#;

/// `[schema]` for the site's second variant.
pub const UUID_SCHEMA: &str = r#"
[schema.session]
table = "people_browsersession"
columns = { session_id = "token" }

[schema.profile]
table = "people_profile"

[schema.community]
table = "groups_group"

[schema.event]
table = "people_activity"
columns = { timestamp = "occurred_at" }
constants = { tenant = "main" }
"#;

impl World {
    /// Postgres, Redis, and the default schema.
    pub async fn usual() -> Self {
        Wanted::usual().start().await
    }

    /// The usual world, for tests that neither write nor count: they share it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<World> = OnceCell::const_new();
        SHARED.get_or_init(Self::usual).await
    }

    /// A second sidecar in front of the same site and database, configured in another way.
    pub fn another_sidecar(&self, wanted: &Wanted) -> Sidecar {
        Sidecar::start(&wanted.configuration(&self.site, &self.database))
    }

    /// A member, signed in through the sidecar.
    pub async fn member(&self, name: &str) -> Member {
        let member = Member::new(self.sidecar.url(""));
        member.sign_in(name).await;
        member
    }

    /// Somebody without a session.
    pub fn stranger(&self) -> Member {
        Member::new(self.sidecar.url(""))
    }

    /// Path of a community's page.
    pub fn community(&self, slug: &str) -> String {
        format!("/communities/{}/", self.seeded.community(slug))
    }

    /// Path of a community's visitors in the API; `rest` is appended.
    pub fn visitors(&self, slug: &str, rest: &str) -> String {
        format!("/api/communities/{}/visitors{rest}", self.seeded.community(slug))
    }

    /// All events that the site's ORM reads, oldest first.
    pub async fn events(&self) -> Vec<Value> {
        let mut events = self
            .site
            .ask("oracle/events")
            .await
            .as_array()
            .expect("a list")
            .clone();
        events.sort_by_key(|event| event["timestamp"].as_str().unwrap_or_default().to_owned());
        events
    }

    /// Page views that the sidecar wrote, oldest first.
    pub async fn page_views(&self) -> Vec<Value> {
        let mut events = self.events().await;
        events.retain(|event| event["metadata"]["source"] == "headcount");
        events
    }

    /// Waits until the sidecar has written `count` page views in all, and no recorded view is on its way.
    pub async fn wait_for_views(&self, count: usize) -> Vec<Value> {
        let least = u32::try_from(count).map_or(f64::INFINITY, f64::from);
        self.sidecar
            .wait_for_metric("headcount_applied_views_total", |views| views >= least)
            .await;
        self.sidecar.wait_until_idle().await;
        self.page_views().await
    }
}
