//! Guesses a configuration from the tables of the database and the site's description of itself. Pure: the result is a list
//! of settings and routes, each with its reason.
//!
//! One file per subject, each with `find` and `add_settings`: `sessions`, `people` (users), `communities`, `events`, `routes`.

mod communities;
mod events;
mod people;
mod routes;
mod sessions;

use std::fmt::Write as _;

use super::catalogue::{AppTable, AppTables};
use super::django::DjangoSite;
use super::hosts;
use crate::printable::is_unprintable;
use crate::store::catalogue::CatalogueColumn;

pub(super) use communities::candidates;
pub(super) use routes::{GrantsKey, GuessedRoute, mounted_at};

/// A guessed configuration.
#[derive(Debug, Default)]
pub(super) struct Guess {
    pub settings: Vec<Setting>,
    pub routes: Vec<GuessedRoute>,
    /// What the operator has to decide, a sentence for each.
    pub open: Vec<String>,
}

/// One key, with the reason for its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// `session`, `schema.session.columns` …
    pub section: &'static str,
    pub key: String,
    /// As TOML.
    pub value: String,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether it is written as a comment.
    pub is_proposal: bool,
}

impl Guess {
    fn set(&mut self, section: &'static str, key: &str, value: impl Into<String>, reason: impl Into<String>) {
        self.settings.push(Setting {
            section,
            key: key.into(),
            value: value.into(),
            reason: reason.into(),
            is_proposal: false,
        });
    }

    fn set_text(&mut self, section: &'static str, key: &str, value: &str, reason: impl Into<String>) {
        self.set(section, key, text(value), reason);
    }

    fn propose(
        &mut self,
        section: &'static str,
        key: &str,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.set(section, key, value, reason);
        if let Some(last) = self.settings.last_mut() {
            last.is_proposal = true;
        }
    }

    /// Sets a column that is not named as by default. `""` stands for one that does not exist.
    fn set_column(
        &mut self,
        section: &'static str,
        key: &str,
        found: Option<&CatalogueColumn>,
        default: &str,
    ) {
        match found {
            Some(column) if column.name == default => {}
            Some(column) => self.set_text(section, key, &column.name, why(column)),
            None => self.set_text(section, key, "", "no such column was found"),
        }
    }

    #[cfg(test)]
    fn value(&self, section: &str, key: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        let found =
            settings.find(|setting| setting.section == section && setting.key == key && !setting.is_proposal);
        found.map(|setting| &*setting.value)
    }
}

/// A text as TOML on a single line, whatever it contains: it may be part of a comment.
pub(super) fn text(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_unprintable(c) => {
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// The reason for a column.
fn why(column: &CatalogueColumn) -> String {
    if column.is_key {
        return format!("the primary key, {}", column.type_name);
    }
    if let Some(to) = &column.references {
        let schema = match &*to.schema {
            "" | "public" => String::new(),
            schema => format!("{schema}."),
        };
        return format!("it refers to {schema}{}.{}", to.table, to.column);
    }
    let unique = if column.is_unique { ", unique" } else { "" };
    format!("by its name and type, {}{unique}", column.type_name)
}

/// Guesses all settings except addresses of servers. `named` is the table of communities, where the operator names it.
pub(super) fn guess(tables: &AppTables, site: Option<&DjangoSite>, named: Option<&AppTable>) -> Guess {
    let mut guess = Guess::default();
    let session = sessions::find(tables, site);
    sessions::add_settings(&mut guess, &session, site);
    let people = people::find(tables, session.user(), site);
    people::add_settings(&mut guess, people.as_ref(), &session, site);
    let community = named.or_else(|| communities::find(tables, site));
    communities::add_settings(&mut guess, community, named.is_some(), tables, site);
    tenants(&mut guess, tables, community);
    events::add_settings(&mut guess, tables, people.as_ref().map(|people| people.table));
    if let Some(site) = site {
        times(&mut guess, site, tables);
        host(&mut guess, site);
        mount(&mut guess, site);
    }
    guess.routes = routes::routes(tables, community, site);
    routes::add_settings(&mut guess, community);
    guess
}

/// Tells the operator which tenant the configuration is for, where the tables exist once per schema.
fn tenants(guess: &mut Guess, tables: &AppTables, community: Option<&AppTable>) {
    let Some(community) = community else { return };
    let alike = tables.0.iter().filter(|table| table.name == community.name);
    let schemas: Vec<&str> = alike.map(|table| &*table.schema).collect();
    if schemas.len() > 1 {
        guess.open.push(format!(
            "{} exists in the schemas {}, one per tenant it seems: this configuration is for {}. Run one sidecar per tenant; \
             init uses the schema that search_path names (--database 'postgres://…?options=-csearch_path%3D{}')",
            community.name,
            schemas.join(", "),
            community.schema,
            schemas.last().unwrap_or(&"SCHEMA"),
        ));
    }
}

/// The time zone of columns without one.
fn times(guess: &mut Guess, site: &DjangoSite, tables: &AppTables) {
    let settings = &site.settings;
    let without_zone = |table: &AppTable| {
        table
            .columns
            .iter()
            .any(|column| column.kind == crate::store::schema::Kind::Timestamp)
    };
    if let Some(zone) = &settings.time_zone
        && !settings.use_tz
        && tables.0.iter().any(without_zone)
    {
        guess.set_text(
            "database",
            "time_zone",
            zone,
            "USE_TZ is off: the app writes times without a zone, in TIME_ZONE",
        );
    }
}

/// Where the API is, for a site below a path.
fn mount(guess: &mut Guess, site: &DjangoSite) {
    let Some(path) = routes::mounted_at(site) else {
        return;
    };
    let prefix = format!("{path}{}", crate::config::Api::default().prefix);
    guess.open.push(format!(
        "FORCE_SCRIPT_NAME is {path:?}: does a proxy in front of the sidecar strip it? The routes match with and without it. \
         Where nothing strips it, and only paths below it reach the sidecar, pages find API and widget with api.prefix = \
         {prefix:?}"
    ));
    let reason =
        "where no proxy in front strips FORCE_SCRIPT_NAME: the widget and its script are asked for below it";
    guess.propose("api", "prefix", text(&prefix), reason);
}

/// The `Host` of the sidecar's own requests to the site.
fn host(guess: &mut Guess, site: &DjangoSite) {
    let hosts = hosts::Hosts::of(&site.settings);
    let default = crate::config::Upstream::default().health_host;
    if hosts.allow(&default) {
        return;
    }
    match hosts.first() {
        Some(host) => guess.set_text(
            "upstream",
            "health_host",
            &host,
            format!(
                "the first of ALLOWED_HOSTS, which lacks {default}: the Host of health probes and of HTTP/1.0 requests \
                 without one, which Django would refuse (DisallowedHost, of which it mails its admins)"
            ),
        ),
        None => guess.open.push(
            "upstream.health_host: a name that the site answers to; ALLOWED_HOSTS has none, so that it refuses every request"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests;
