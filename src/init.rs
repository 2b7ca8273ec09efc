//! `headcount init`: a configuration and routes that fit the live database, and the site's own settings where it can be
//! asked.
//!
//! `catalogue` describes the tables, `django` asks the site, `guess` decides (pure), `write` makes the files. `behind_proxy`
//! compares the site's settings with a configuration, for `headcount check --django`.

mod behind_proxy;
mod catalogue;
mod django;
mod guess;
mod hosts;
mod role;
mod write;

use std::path::PathBuf;

use crate::config::{self, Secret};
use crate::store::{self, StoreError};
use catalogue::Tables;
use guess::Guess;
use write::{Files, Given};

pub use behind_proxy::{unlisted_types, warnings};
pub use django::{DjangoError, Site, ask};

/// What the operator gives.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The app's database; otherwise the site's own.
    pub database: Option<Secret>,
    /// Where the app listens.
    pub upstream: Option<String>,
    /// Redis.
    pub redis: Option<String>,
    /// The folder of the Django project, or its `manage.py`.
    pub django: Option<PathBuf>,
    /// Its interpreter.
    pub python: Option<PathBuf>,
    /// Where the files go.
    pub folder: PathBuf,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The configuration file.
    pub config: PathBuf,
    /// What was found, a line each.
    pub found: Vec<String>,
    /// What the operator has to decide.
    pub open: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Files of before.
    #[error(
        "{0} exists, and init overwrites nothing: move it away, or name another folder (headcount init … FOLDER)"
    )]
    Exists(PathBuf),
    /// Neither a URL nor a site.
    #[error(
        "name the app's database (--database postgres://user:password@host/name), or its Django project (--django FOLDER)"
    )]
    NoDatabase,
    /// The site's database is of another kind.
    #[error("the site's database is of {0:?}: the sidecar knows Postgres and SQLite")]
    OtherDatabase(String),
    /// The URL cannot be used.
    #[error("--database: {0}")]
    Url(String),
    /// The site cannot be asked.
    #[error("--django: {0}")]
    Django(#[from] DjangoError),
    /// The database cannot be asked.
    #[error("the database cannot be asked")]
    Database(#[source] StoreError),
    /// A file cannot be written.
    #[error("cannot be written: {0}")]
    Write(std::io::Error),
}

/// Asks site and database, and writes the files.
///
/// # Errors
/// Each with its cure. Then nothing was written, but for files before one that cannot be.
pub async fn init(wanted: &Wanted) -> Result<Written, InitError> {
    let files = Files::of(&wanted.folder);
    if let Some(existing) = files.existing() {
        return Err(InitError::Exists(existing.to_owned()));
    }
    let site = match &wanted.django {
        Some(project) => Some(ask(project, wanted.python.as_deref())?),
        None => None,
    };
    let (url, url_from) = database_url(wanted, site.as_ref())?;
    let database = config::Database {
        url: Some(url.clone()),
        ..config::Database::default()
    };
    let catalogue = store::read_catalogue(&database)
        .await
        .map_err(InitError::Database)?;
    let owner = catalogue.owner.clone();
    let tables = Tables::new(catalogue, site.as_ref());
    let mut guess = guess::guess(&tables, site.as_ref());
    if owner.is_some() {
        guess.open.push(role::TO_DECIDE.into());
    }
    let given = Given {
        url: &url,
        url_from,
        owner: owner.as_deref(),
        upstream: wanted.upstream.as_deref(),
        redis: wanted.redis.as_deref(),
    };
    write::write(&files, &given, &guess).map_err(InitError::Write)?;
    Ok(Written {
        found: found(&tables, site.as_ref(), &guess),
        open: guess.open,
        config: files.config,
    })
}

fn database_url(wanted: &Wanted, site: Option<&Site>) -> Result<(Secret, &'static str), InitError> {
    if let Some(url) = &wanted.database {
        let is_known = ["postgres://", "postgresql://", "sqlite://"]
            .iter()
            .any(|scheme| url.expose().starts_with(scheme));
        if !is_known {
            return Err(InitError::Url(
                "a URL that begins with postgres:// or sqlite:// is needed".into(),
            ));
        }
        return Ok((url.clone(), "--database"));
    }
    let site = site.ok_or(InitError::NoDatabase)?;
    let url = site.database.url();
    let url = url.ok_or_else(|| InitError::OtherDatabase(site.database.engine.clone()))?;
    Ok((url, "the site's DATABASES"))
}

/// A line for each thing that the guess stands on.
fn found(tables: &Tables, site: Option<&Site>, guess: &Guess) -> Vec<String> {
    let mut found = vec![format!("{} tables", tables.0.len())];
    if let Some(site) = site {
        found.push(format!(
            "{} models and {} URL patterns of the site",
            site.models.len(),
            site.patterns.len()
        ));
    }
    for (key, what) in [
        ("schema.session", "sessions"),
        ("schema.profile", "users"),
        ("schema.event", "events"),
        ("schema.community", "communities"),
    ] {
        let mut settings = guess.settings.iter();
        if let Some(setting) = settings.find(|setting| setting.section == key && setting.key == "table") {
            found.push(format!("{what}: {} ({})", setting.value, setting.reason));
        }
    }
    let pages = guess
        .routes
        .iter()
        .filter(|route| !route.is_excluded && !route.is_proposal);
    found.push(format!("{} routes to pages of communities", pages.count()));
    found
}
