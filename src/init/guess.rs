//! What of a configuration can be guessed from a description of a site. Pure: tables, and what the site says of itself, in;
//! settings with the reason of each out.

mod events;
mod people;
mod places;
mod routes;
mod sessions;

use super::catalogue::{Table, Tables};
use super::django::Site;

pub(super) use routes::Route;

/// A configuration that may fit.
#[derive(Debug, Default)]
pub(super) struct Guess {
    pub settings: Vec<Setting>,
    pub routes: Vec<Route>,
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
    /// Empty where the one above gives it.
    pub reason: String,
    /// Only proposed: written as a comment.
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

    /// A column where it is not called as by default. `""` stands for one that is not there.
    fn set_column(&mut self, section: &'static str, key: &str, found: Option<&str>, default: &str) {
        match found {
            Some(name) if name == default => {}
            Some(name) => self.set_text(section, key, name, ""),
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

/// A text as TOML.
pub(super) fn text(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// Guesses everything but addresses of servers.
pub(super) fn guess(tables: &Tables, site: Option<&Site>) -> Guess {
    let mut guess = Guess::default();
    let session = sessions::find(tables, site);
    sessions::say(&mut guess, &session, site);
    let people = people::find(tables, session.user(), site);
    people::say(&mut guess, people.as_ref(), &session, site);
    let community = places::find(tables, site);
    places::say(&mut guess, community, site);
    events::say(&mut guess, tables, people.as_ref().map(|people| people.table));
    if let Some(site) = site {
        times(&mut guess, site, tables);
    }
    guess.routes = routes::routes(tables, community, site);
    routes::say(&mut guess, community);
    guess
}

/// The zone of moments without one.
fn times(guess: &mut Guess, site: &Site, tables: &Tables) {
    let settings = &site.settings;
    let without_zone = |table: &Table| {
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

#[cfg(test)]
mod tests;
