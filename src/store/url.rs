//! The configured database's URL: which kind of database it names, and what can be wrong with it.

use crate::config::{Database, Secret};

/// Why the configuration names no database. Never shows the URL: there may be a password in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `url` nor `url_file`.
    #[error("no database is configured: set database.url, or database.url_file")]
    Missing,
    /// An unknown scheme.
    #[error("database.url must begin with postgres:// or sqlite://, not with {0:?}")]
    Scheme(String),
    /// The rest of the URL is invalid.
    #[error("{key} is not valid")]
    Url {
        /// The key that holds it.
        key: &'static str,
        /// Why.
        source: sqlx::Error,
    },
}

/// The two kinds of database.
pub(super) enum Scheme {
    Postgres,
    Sqlite,
}

impl Scheme {
    pub(super) fn of(url: &Secret) -> Result<Self, OpenError> {
        match url.expose().split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            // Only text that is certainly a scheme is shown.
            Some((scheme, rest)) if rest.starts_with("//") => Err(OpenError::Scheme(scheme.to_owned())),
            _ => Err(OpenError::Scheme(String::new())),
        }
    }
}

/// The configured URL; the content of `url_file` was read with the configuration.
pub(super) fn database_url(database: &Database) -> Result<Secret, OpenError> {
    database.url.clone().ok_or(OpenError::Missing)
}

/// The URL for connections that must not be shared, and the key that holds it.
pub(super) fn direct_url(database: &Database) -> Result<(Secret, &'static str), OpenError> {
    match &database.direct_url {
        Some(url) => Ok((url.clone(), "database.direct_url")),
        None => Ok((database_url(database)?, "database.url")),
    }
}
