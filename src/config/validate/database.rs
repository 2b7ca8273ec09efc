//! Validation of `[database]`: URLs of a database, and limits that let it answer.

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::{Problem, ensure, positive};
use crate::config::{Database, for_driver};

/// Checks the whole section.
pub(super) fn database(database: &Database) -> Result<(), Problem> {
    let Some(url) = &database.url else {
        return Err((
            "database.url".into(),
            "is missing; write the app's database, for example postgres://user:password@host/name or \
             sqlite:///path/to/db.sqlite3, or set database.url_file"
                .into(),
        ));
    };
    database_url("database.url", url.expose())?;
    if let Some(direct) = &database.direct_url {
        ensure(
            !is_sqlite(url.expose()) && !is_sqlite(direct.expose()),
            "database.direct_url",
            "is for Postgres; remove it",
        )?;
        database_url("database.direct_url", direct.expose())?;
    }
    ensure(
        database.max_connections > 0,
        "database.max_connections",
        "must be at least 1",
    )?;
    positive(&[
        ("database.acquire_timeout", database.acquire_timeout),
        ("database.statement_timeout", database.statement_timeout),
        ("database.lock_timeout", database.lock_timeout),
    ])
}

fn is_sqlite(url: &str) -> bool {
    url.starts_with("sqlite:")
}

fn database_url(key: &str, url: &str) -> Result<(), Problem> {
    let known = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    ensure(
        known || is_sqlite(url),
        key,
        "must start with postgres:// or sqlite:",
    )?;
    let parsed = if is_sqlite(url) {
        url.parse::<SqliteConnectOptions>().map(drop)
    } else {
        let url = for_driver(url).map_err(|problem| (key.to_owned(), problem.to_owned()))?;
        url.url.parse::<PgConnectOptions>().map(drop)
    };
    parsed.map_err(|error| {
        let reason = match error {
            sqlx::Error::Configuration(reason) => reason.to_string(),
            other => other.to_string(),
        };
        let problem = format!(
            "is not a URL of a database ({reason}); special characters must be escaped, as %40 for @ in \
             a password"
        );
        (key.to_owned(), problem)
    })
}
