//! `headcount init`: writes a configuration and routes that fit the live database, and the Django project where one is given.
//!
//! `django` asks the site, `catalogue` joins its models with the database's tables, `guess` decides (pure), `write` writes the
//! files. `behind_proxy` compares the site's settings with a configuration, for `headcount check --django`.

mod behind_proxy;
mod catalogue;
mod django;
mod guess;
mod hosts;
mod key_prefix;
mod role;
mod write;

use std::path::PathBuf;

use crate::config::{self, Secret};
use crate::printable::counted;
use crate::store::{self, StoreError};
use catalogue::{AppTable, AppTables};
use guess::Guess;
use write::{OutputFiles, Services};

pub use behind_proxy::{mounted, unlisted_types, unrecognised, warnings};
pub use django::{DjangoError, DjangoSite, ask};

/// The options of the command.
#[derive(Debug, Default)]
pub struct InitOptions {
    /// The app's database; otherwise the site's own.
    pub database: Option<Secret>,
    /// Where the app listens.
    pub upstream: Option<String>,
    /// Redis.
    pub redis: Option<String>,
    /// The folder of the Django project, or its `manage.py`.
    pub django: Option<PathBuf>,
    /// The site's Python interpreter.
    pub python: Option<PathBuf>,
    /// The table of communities, or its model as `app_label.Model`.
    pub community: Option<String>,
    /// The folder for the files.
    pub folder: PathBuf,
}

/// What was written.
#[derive(Debug)]
pub struct InitOutcome {
    /// The configuration file.
    pub config: PathBuf,
    /// What was found, one line each.
    pub found: Vec<String>,
    /// What the operator has to decide, one sentence each.
    pub open: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file exists already.
    #[error(
        "{0} exists, and init overwrites nothing: move it away, or name another folder (headcount init … FOLDER)"
    )]
    Exists(PathBuf),
    /// Neither a URL nor a site.
    #[error(
        "name the app's database (--database postgres://user:password@host/name), or its Django project (--django FOLDER)"
    )]
    NoDatabase,
    /// The site's database is neither Postgres nor SQLite.
    #[error("the site's database engine is {0:?}; the sidecar supports Postgres and SQLite")]
    OtherDatabase(String),
    /// The URL cannot be used.
    #[error("--database: {0}")]
    Url(String),
    /// The site cannot be asked.
    #[error("--django: {0}")]
    Django(#[from] DjangoError),
    /// The table that is named does not exist.
    #[error("--community {0}: the database has no such table, and the site no such model; candidates: {1}")]
    NoCommunity(String, String),
    /// The table that is named has no primary key.
    #[error(
        "--community {0}: the table has no primary key of a single column, by which paths could name its rows"
    )]
    NoKey(String),
    /// The database cannot be read.
    #[error("the database cannot be read")]
    Database(#[source] StoreError),
    /// A file cannot be written.
    #[error("cannot be written: {0}")]
    Write(std::io::Error),
}

/// Asks site and database, and writes the files.
///
/// # Errors
/// Each message names the remedy. Nothing was written, except files before one that could not be written.
pub async fn init(wanted: &InitOptions) -> Result<InitOutcome, InitError> {
    let files = OutputFiles::of(&wanted.folder);
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
    let tables = AppTables::new(catalogue, site.as_ref());
    let community = match &wanted.community {
        Some(name) => Some(named_community(&tables, name, site.as_ref())?),
        None => None,
    };
    let mut guess = guess::guess(&tables, site.as_ref(), community);
    guess
        .settings
        .push(key_prefix::setting(site.as_ref(), &url, wanted.redis.is_none()));
    if owner.is_some() {
        guess.open.push(role::TO_DECIDE.into());
    }
    let given = Services {
        url: &url,
        url_from,
        owner: owner.as_deref(),
        upstream: wanted.upstream.as_deref(),
        redis: wanted.redis.as_deref(),
    };
    write::write(&files, &given, &guess).map_err(InitError::Write)?;
    Ok(InitOutcome {
        found: found(&tables, site.as_ref(), &guess),
        open: guess.open,
        config: files.config,
    })
}

/// The table of communities that the operator names.
fn named_community<'t>(
    tables: &'t AppTables,
    name: &str,
    site: Option<&DjangoSite>,
) -> Result<&'t AppTable, InitError> {
    let Some(table) = tables.called(name) else {
        let candidates = guess::candidates(tables, site).join(", ");
        let candidates = if candidates.is_empty() {
            "none"
        } else {
            &candidates
        };
        return Err(InitError::NoCommunity(name.to_owned(), candidates.to_owned()));
    };
    if table.key().is_none() {
        return Err(InitError::NoKey(name.to_owned()));
    }
    Ok(table)
}

fn database_url(
    wanted: &InitOptions,
    site: Option<&DjangoSite>,
) -> Result<(Secret, &'static str), InitError> {
    if let Some(url) = &wanted.database {
        let is_known = ["postgres://", "postgresql://", "sqlite://"]
            .iter()
            .any(|scheme| url.expose().starts_with(scheme));
        if !is_known {
            return Err(InitError::Url(
                "the URL must begin with postgres:// or sqlite://".into(),
            ));
        }
        return Ok((url.clone(), "--database"));
    }
    let site = site.ok_or(InitError::NoDatabase)?;
    let url = site.database.url();
    let url = url.ok_or_else(|| InitError::OtherDatabase(site.database.engine.clone()))?;
    Ok((url, "the site's DATABASES"))
}

/// What was found, one line each.
fn found(tables: &AppTables, site: Option<&DjangoSite>, guess: &Guess) -> Vec<String> {
    let mut found = vec![counted(tables.0.len(), "table", "tables")];
    if let Some(site) = site {
        found.push(format!(
            "{} and {} of the site",
            counted(site.models.len(), "model", "models"),
            counted(site.patterns.len(), "URL pattern", "URL patterns")
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
    let pages = counted(pages.count(), "route", "routes");
    // Nothing but a site says which paths it has.
    let how = match site {
        None => {
            ", a guess from the table's name: compare them with the site's paths, or name its project (--django FOLDER)"
        }
        Some(_) => "",
    };
    found.push(format!("{pages} to pages of communities{how}"));
    found
}
