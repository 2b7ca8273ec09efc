//! The prefix of the keys in Redis, after the site: sites with one prefix would count and list each other's visitors. Pure.

use percent_encoding::percent_decode_str;

use super::django::DjangoSite;
use super::guess::{Setting, text};
use crate::config::Secret;

/// Names of databases and modules that many sites have.
const COMMON: &[&str] = &[
    "postgres",
    "db",
    "database",
    "app",
    "site",
    "mysite",
    "web",
    "django",
    "default",
    "main",
    "data",
    "config",
    "conf",
    "settings",
    "core",
    "project",
    "backend",
    "src",
    "prod",
    "production",
    "dev",
    "test",
];
/// Longest name.
const LONGEST: usize = 40;

/// The key `redis.key_prefix`; `is_proposal`: without Redis.
pub(super) fn setting(site: Option<&DjangoSite>, url: &Secret, is_proposal: bool) -> Setting {
    let (name, from) = name(site, url);
    Setting {
        section: "redis",
        key: "key_prefix".into(),
        value: text(&format!("headcount-{name}")),
        reason: format!(
            "after {from}: sites that share a Redis need a prefix each, and all sidecars of one site the same"
        ),
        is_proposal,
    }
}

/// The database's name, unless many sites have it; then that of the settings' module.
fn name(site: Option<&DjangoSite>, url: &Secret) -> (String, &'static str) {
    let database = database(url.expose());
    let module = site.and_then(|site| site.module.as_deref());
    let package = module
        .and_then(|module| module.split('.').next())
        .map(fitting)
        .unwrap_or_default();
    let is_telling = |name: &str| !name.is_empty() && !COMMON.contains(&name);
    if is_telling(&database) {
        (database, "the database")
    } else if is_telling(&package) {
        (package, "the module of the site's settings")
    } else if database.is_empty() {
        ("site".into(), "nothing that tells the site")
    } else {
        (database, "the database")
    }
}

/// The name of the database, or of SQLite's file without its ending.
fn database(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or("", |(_, path)| path);
    let last = path.rsplit_once('/').map_or("", |(_, last)| last);
    let name = percent_decode_str(last).decode_utf8_lossy();
    let stem = if url.starts_with("sqlite") {
        name.split('.').next().unwrap_or_default()
    } else {
        &name
    };
    fitting(stem)
}

/// The text with letters, digits, `-` and `_` only.
fn fitting(text: &str) -> String {
    let fit = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => c.to_ascii_lowercase(),
        _ => '-',
    };
    text.chars().map(fit).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d31_each_site_has_a_prefix_of_its_own() {
        let of = |url: &str, module: Option<&str>| {
            let site = DjangoSite {
                module: module.map(str::to_owned),
                ..DjangoSite::default()
            };
            setting(Some(&site), &Secret::new(url), false).value
        };
        let postgres = |name: &str| format!("postgres://app:a%2Fb@db:5432/{name}?sslmode=require");
        assert_eq!(
            of(&postgres("Forum%20x{1}"), Some("mysite.settings")),
            "\"headcount-forum-x-1-\""
        );
        assert_eq!(
            of(&postgres("postgres"), Some("wiki.settings.production")),
            "\"headcount-wiki\""
        );
        assert_eq!(
            of("sqlite:///srv/bb/db.sqlite3", Some("bb.settings")),
            "\"headcount-bb\""
        );
        assert_eq!(of("sqlite:///srv/bb/bb.sqlite3", None), "\"headcount-bb\"");
        assert_eq!(of(&postgres("app"), Some("config.settings")), "\"headcount-app\"");
        assert_eq!(of("postgres://db", None), "\"headcount-site\"");
    }
}
