//! `[database]`: the app's own database.

mod url;

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::files::ConfigFolder;
use super::rules::{Checked, Section, at_least_one, ensure, positive};
use super::secret::Secret;

pub(crate) use url::for_driver;

/// How to reach the app's tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `postgres://user:password@host/name` or `sqlite:///path/to/db.sqlite3`.
    pub url: Option<Secret>,
    /// File whose trimmed content is the URL; instead of `url`.
    pub url_file: Option<PathBuf>,
    /// Where `url` leads to a pooler: URL for what needs a connection of its own (`migrate`, and the listener for
    /// sessions that end). Without it, `url`.
    pub direct_url: Option<Secret>,
    /// File whose trimmed content is the direct URL; instead of `direct_url`.
    pub direct_url_file: Option<PathBuf>,
    /// The zone in which the app writes times without one: Postgres' `timestamp`, and SQLite's texts without offset.
    /// UTC where it is not set, as Django has it.
    #[serde(deserialize_with = "time_zone")]
    pub time_zone: Option<Tz>,
    /// Upper bound of open connections; session lookups, the writer and the API share them.
    pub max_connections: u32,
    /// Longest wait for a free or new connection.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Longest time for one operation: a lookup, a page of visitors, the whole transaction of a batch. A hung
    /// server costs this much and no more.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// Longest wait for a row lock while a batch is applied. The batch is then tried again. It is also about the
    /// longest time that the app waits where it locks the same rows in another order.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            direct_url: None,
            direct_url_file: None,
            time_zone: None,
            max_connections: 8,
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(10),
            // Far below Postgres' `deadlock_timeout` of a second: otherwise the app could be the one that gets a
            // deadlock error, if it had waited first.
            lock_timeout: Duration::from_millis(100),
        }
    }
}

fn time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tz>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let zone = name.parse().map_err(|_| {
        D::Error::custom(format!(
            "{name:?} is no time zone; write the name that the app has in its settings, for example \"Europe/Berlin\" or \
             \"UTC\""
        ))
    });
    zone.map(Some)
}

impl Database {
    /// Whether the database is a file of SQLite.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url::is_sqlite(url.expose()))
    }
}

impl Section for Database {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        files.read_secret("database.url", &mut self.url, self.url_file.as_deref())?;
        files.read_secret(
            "database.direct_url",
            &mut self.direct_url,
            self.direct_url_file.as_deref(),
        )
    }

    fn check(&self) -> Checked {
        let Some(url) = &self.url else {
            return Err((
                "database.url".into(),
                "is missing; write the app's database, for example postgres://user:password@host/name or \
                 sqlite:///path/to/db.sqlite3, or set database.url_file"
                    .into(),
            ));
        };
        let check = |key: &str, url| url::check(url).map_err(|problem| (key.to_owned(), problem));
        check("database.url", url.expose())?;
        if let Some(direct) = &self.direct_url {
            ensure(
                !self.is_sqlite() && !url::is_sqlite(direct.expose()),
                "database.direct_url",
                "is for Postgres; remove it",
            )?;
            check("database.direct_url", direct.expose())?;
        }
        at_least_one("database.max_connections", self.max_connections)?;
        positive(&[
            ("database.acquire_timeout", self.acquire_timeout),
            ("database.statement_timeout", self.statement_timeout),
            ("database.lock_timeout", self.lock_timeout),
        ])
    }
}
