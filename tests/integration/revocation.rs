//! Sessions end, and the database tells of it (I4). The sidecars here remember a session for an hour, so that
//! what they know sooner they were told.
//!
//! Site and sidecar have roles of their own, as they should: the site's has no rights on the schema
//! `headcount`, the sidecar's only those that deploy/README.md lists.

mod appears;
mod ends;
mod gaps;
mod trigger;

use std::collections::HashMap;
use std::path::Path;

use headcount::config::Config;
use headcount::store;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World};

/// `[session]` of a sidecar that relies on what it is told.
const RELIANT: &str = "cache_ttl = \"1h\"\nnegative_ttl = \"1h\"\nrevocation = \"trigger\"";

/// A world in which the database tells.
struct Told {
    world: World,
    /// Between the sidecar and its database.
    database: Proxy,
    variant: Variant,
    /// The sidecar's whole configuration but for `[listen]`, with the right to migrate.
    config: String,
}

impl Told {
    /// With the trigger.
    async fn start(variant: Variant) -> Self {
        Self::with(variant, true).await
    }

    async fn with(variant: Variant, trigger: bool) -> Self {
        let (database, seeded) = Database::seeded(Parts::Production, variant).await;
        let proxy = Proxy::before(Postgres::shared().port()).await;
        let roles = Roles::make(variant, &database).await;
        let wanted = Wanted {
            session: RELIANT.into(),
            database: "acquire_timeout = \"1s\"".into(),
            database_port: Some(proxy.port()),
            ..Wanted::new(Parts::Production, variant)
        };
        let site = Backend::start(
            variant,
            &as_role(&database.url(), &roles.site),
            Settings::default(),
        );
        let config = wanted.configuration(&site, &database);
        if trigger {
            migrate(&config).await;
        }
        let sidecar = Sidecar::start(&as_role(&config, &roles.sidecar));
        let told = Self {
            world: World {
                sidecar,
                site,
                database,
                seeded,
            },
            database: proxy,
            variant,
            config,
        };
        if trigger {
            told.listens().await;
        }
        told
    }

    /// Waits until the sidecar hears.
    async fn listens(&self) {
        let up = "headcount_session_listener_up";
        self.world.sidecar.wait_for_metric(up, |up| up == 1.0).await;
    }

    /// Waits until the sidecar knows that it does not hear.
    async fn hears_nothing(&self) {
        let up = "headcount_session_listener_up";
        self.world.sidecar.wait_for_metric(up, |up| up == 0.0).await;
    }

    async fn evicted(&self, reason: &str) -> f64 {
        self.world.sidecar.metric(&evictions(reason)).await
    }

    /// Waits until sessions were given up so often.
    async fn has_evicted(&self, reason: &str, times: f64) {
        let name = evictions(reason);
        let sidecar = &self.world.sidecar;
        sidecar.wait_for_metric(&name, |evicted| evicted >= times).await;
    }

    /// Runs a statement at the database itself. `{session}` is the session table, `{token}` its column of
    /// tokens.
    async fn execute(&self, sql: &str) {
        let (session, token) = match self.variant {
            Variant::Default | Variant::Text | Variant::Django | Variant::Counters => {
                ("accounts_usersession", "session_id")
            }
            Variant::Uuid => ("people_browsersession", "token"),
        };
        let sql = sql.replace("{session}", session).replace("{token}", token);
        self.pool()
            .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .expect("the statement runs");
    }

    fn pool(&self) -> PgPool {
        Postgres::shared().pool(self.world.database.name())
    }

    /// Somebody signs in through the sidecar.
    async fn signs_in(&self, name: &str) -> Browser {
        let before = self.tokens(name).await;
        let member = self.world.member(name).await;
        let mut tokens = self.tokens(name).await;
        tokens.retain(|token| !before.contains(token));
        let [token] = &tokens[..] else {
            panic!("not one new session: {tokens:?}");
        };
        Browser {
            cookie: format!("{}={token}", self.variant.cookie()),
            token: token.clone(),
            member,
            keeper: self.world.stranger(),
        }
    }

    async fn tokens(&self, name: &str) -> Vec<String> {
        let sessions = self.world.site.ask("oracle/sessions").await;
        let sessions = sessions.as_array().expect("a list").iter();
        sessions
            .filter(|session| session["username"] == name)
            .map(|session| session["session_id"].as_str().expect("text").to_owned())
            .collect()
    }

    /// The browser looks at a page and is counted; the visitors API answers it.
    async fn is_somebody(&self, browser: &Browser) {
        let counted = "headcount_page_views_counted_total";
        let before = self.world.sidecar.metric(counted).await;
        browser.sees("/about/").await;
        let sidecar = &self.world.sidecar;
        sidecar.wait_for_metric(counted, |views| views > before).await;
        let visitors = self.world.visitors("rust", "");
        assert_eq!(browser.status(&visitors).await, StatusCode::OK);
    }

    /// The browser looks at a page and is not counted; the visitors API refuses it.
    async fn is_nobody(&self, browser: &Browser) {
        let sidecar = &self.world.sidecar;
        let counted = "headcount_page_views_counted_total";
        // The row may be gone, or say that the session has ended.
        let nobodys = ["no_session", "session_ended"]
            .map(|reason| format!("headcount_page_views_not_counted_total{{reason=\"{reason}\"}}"));
        let all = |metrics: &HashMap<String, f64>| nobodys.iter().map(|name| metrics[name]).sum::<f64>();
        let before = sidecar.metrics().await;
        browser.sees("/about/").await;
        eventually(async || all(&sidecar.metrics().await) == all(&before) + 1.0).await;
        assert_eq!(sidecar.metric(counted).await, before[counted]);
        let visitors = self.world.visitors("rust", "");
        assert_eq!(browser.status(&visitors).await, StatusCode::UNAUTHORIZED);
    }
}

fn evictions(reason: &str) -> String {
    format!("headcount_session_evictions_total{{reason=\"{reason}\"}}")
}

/// Applies `headcount migrate`.
async fn migrate(config: &str) {
    let config = Config::parse(Path::new("headcount.toml"), config.into(), []).expect("a configuration");
    store::migrate(&config, false).await.expect("it is migrated");
}

/// The same for another role than the administrator.
fn as_role(text: &str, role: &str) -> String {
    text.replace("postgres://postgres@", &format!("postgres://{role}@"))
}

/// Somebody's browser.
struct Browser {
    member: Member,
    token: String,
    /// A browser without memory that sends the cookie whatever the site says of it.
    keeper: Member,
    cookie: String,
}

impl Browser {
    async fn sees(&self, path: &str) {
        let request = self.keeper.navigation(path).header("cookie", &self.cookie);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.bytes().await.expect("a body");
    }

    async fn status(&self, path: &str) -> StatusCode {
        let request = self.keeper.request(Method::GET, path);
        let response = request.header("cookie", &self.cookie).send().await;
        response.expect("an answer").status()
    }
}

/// Roles of one test's site and sidecar.
struct Roles {
    site: String,
    sidecar: String,
}

impl Roles {
    async fn make(variant: Variant, database: &Database) -> Self {
        let any = uuid::Uuid::new_v4().simple();
        let roles = Self {
            site: format!("site_{any}"),
            sidecar: format!("sidecar_{any}"),
        };
        let [session, event, profile, community] = match variant {
            Variant::Default | Variant::Text | Variant::Django | Variant::Counters => [
                "accounts_usersession",
                "accounts_userevent",
                "accounts_userprofile",
                "communities_community",
            ],
            Variant::Uuid => [
                "people_browsersession",
                "people_activity",
                "people_profile",
                "groups_group",
            ],
        };
        let Self { site, sidecar } = &roles;
        let sql = format!(
            "CREATE ROLE {site} LOGIN;
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {site};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {site};
             CREATE ROLE {sidecar} LOGIN;
             GRANT SELECT ON {session}, {event}, {profile}, {community} TO {sidecar};
             GRANT INSERT ON {event} TO {sidecar};
             GRANT UPDATE (pages_visited) ON {session} TO {sidecar};
             GRANT UPDATE (last_active) ON {profile} TO {sidecar};
             GRANT USAGE ON SCHEMA headcount TO {sidecar};
             GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA headcount TO {sidecar}"
        );
        let pool = Postgres::shared().pool(database.name());
        pool.execute(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
            .expect("roles are made");
        roles
    }
}

/// The sessions as the site's ORM reads them.
async fn sessions(world: &World) -> Vec<Value> {
    let sessions = world.site.ask("oracle/sessions").await;
    sessions.as_array().expect("a list").clone()
}
