//! A Django site's description of itself: settings, models and URL patterns.
//!
//! `ask` runs the site's `manage.py shell` with a script (`django.py`) that only reads and needs no database. `process` limits
//! its time and output; `database` turns `DATABASES["default"]` into a URL.

mod ask;
mod database;
mod error;
mod process;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::Secret;

pub use ask::ask;
pub use error::DjangoError;

/// A site's own description.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DjangoSite {
    /// Settings by name.
    pub(super) settings: DjangoSettings,
    /// The module of the settings.
    pub(super) module: Option<String>,
    /// Further settings that name cookies, with those names.
    pub(super) cookies: BTreeMap<String, String>,
    /// `DATABASES["default"]`.
    pub(super) database: DjangoDatabase,
    /// `SIMPLE_JWT`, without its keys.
    pub(super) tokens: Option<SimpleJwt>,
    pub(super) models: Vec<Model>,
    pub(super) patterns: Vec<Pattern>,
}

/// Settings by name; Django has a default for each.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(clippy::struct_excessive_bools, reason = "as Django has them")]
pub(super) struct DjangoSettings {
    pub allowed_hosts: Vec<String>,
    pub auth_user_model: String,
    pub csrf_trusted_origins: Vec<String>,
    pub debug: bool,
    pub installed_apps: Vec<String>,
    pub media_url: Option<String>,
    pub static_url: Option<String>,
    pub middleware: Vec<String>,
    pub secure_proxy_ssl_header: Option<Vec<String>>,
    pub secure_ssl_redirect: bool,
    pub session_cookie_name: String,
    pub session_cookie_secure: bool,
    pub csrf_cookie_secure: bool,
    pub secure_redirect_exempt: Vec<String>,
    pub session_engine: String,
    pub session_serializer: String,
    pub time_zone: Option<String>,
    pub use_tz: bool,
    pub use_x_forwarded_host: bool,
    pub force_script_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
pub(super) struct DjangoDatabase {
    pub engine: String,
    pub name: String,
    pub user: String,
    pub password: Option<Secret>,
    pub host: String,
    pub port: String,
    /// The `OPTIONS` that a URL can have.
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct SimpleJwt {
    pub algorithm: Option<String>,
    pub user_id_claim: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    /// Label of its app.
    #[serde(default)]
    pub app: String,
    /// Name, in lower case.
    #[serde(rename = "model")]
    pub name: String,
    /// `db_table`.
    pub table: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Field {
    pub column: String,
    #[serde(default)]
    pub unique: bool,
    pub refers: Option<Refers>,
    pub default: Option<Plain>,
    /// The values that the field allows; empty where it has no `choices`.
    #[serde(default)]
    pub choices: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refers {
    pub table: String,
    pub column: String,
}

/// A default value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Plain {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Plain {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Flag(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

/// One URL pattern, with the patterns that include it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pattern {
    /// Regular expressions of Python, outermost first.
    pub parts: Vec<String>,
    pub name: String,
    /// The view, with its module.
    pub view: String,
    /// Table of the view's model.
    pub table: Option<String>,
    /// Tables whose models say that it is their rows' own page (`get_absolute_url`).
    #[serde(default)]
    pub own_of: Vec<String>,
}
