//! The files that `headcount init` writes: each guess with its reason as a comment. Nothing is overwritten.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::guess::{GrantsKey, Guess, GuessedRoute, Setting};
use super::role;
use crate::config::Secret;
use crate::printable::{is_unprintable, one_line};

/// Sections, in the order of config/headcount.toml.
const SECTIONS: &[&str] = &[
    "upstream",
    "database",
    "redis",
    "session",
    "session.jwt",
    "record",
    "api",
    "widget",
    "schema.django_session",
    "schema.session",
    "schema.session.columns",
    "schema.event",
    "schema.event.columns",
    "schema.event.constants",
    "schema.profile",
    "schema.profile.columns",
    "schema.community",
    "schema.community.columns",
    "schema.lookup",
];

/// Addresses of database, app and Redis, from the command line or the site.
pub(super) struct Services<'a> {
    pub url: &'a Secret,
    /// Where the URL comes from, for a comment.
    pub url_from: &'a str,
    /// The role of the URL, where it owns the app's tables.
    pub owner: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub redis: Option<&'a str>,
}

/// Paths of the files.
pub(super) struct OutputFiles {
    pub config: PathBuf,
    pub routes: PathBuf,
    /// The URL of the database, if it has a password.
    pub url: PathBuf,
    /// The URL of Redis, if it has a password.
    pub redis: PathBuf,
}

impl OutputFiles {
    pub(super) fn of(folder: &Path) -> Self {
        Self {
            config: folder.join("headcount.toml"),
            routes: folder.join("routes.d/communities.toml"),
            url: folder.join("database-url"),
            redis: folder.join("redis-url"),
        }
    }

    /// The first that exists.
    pub(super) fn existing(&self) -> Option<&Path> {
        let files = [&self.config, &self.routes, &self.url, &self.redis];
        files
            .into_iter()
            .map(|file| &**file)
            .find(|file| file.symlink_metadata().is_ok())
    }
}

/// Writes all files.
pub(super) fn write(files: &OutputFiles, given: &Services<'_>, guess: &Guess) -> std::io::Result<()> {
    if let Some(folder) = files.routes.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if has_password(given.url) {
        create(&files.url, 0o600, &format!("{}\n", given.url.expose()))?;
    }
    if let Some(url) = given.redis.filter(|url| has_password(&Secret::new(*url))) {
        create(&files.redis, 0o600, &format!("{url}\n"))?;
    }
    create(&files.routes, 0o644, &routes(&guess.routes))?;
    create(&files.config, 0o644, &configuration(given, guess))
}

fn create(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Whether a URL has a password, before the host or as a parameter.
pub(super) fn has_password(url: &Secret) -> bool {
    let url = url.expose();
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let before_host = rest
        .split('/')
        .next()
        .and_then(|authority| authority.rsplit_once('@'));
    before_host.is_some_and(|(user, _)| user.contains(':'))
        || url.contains("password=")
        || url.contains("pass=")
}

/// `headcount.toml`.
pub(super) fn configuration(given: &Services<'_>, guess: &Guess) -> String {
    let mut text = String::from(
        "# Written by `headcount init`: what it found, with the reason for each guess. All other keys have their\n\
         # defaults; the reference is config/headcount.toml in the source tree.\n",
    );
    for open in &guess.open {
        let _ = writeln!(text, "#\n# To decide: {}", one_line(open));
    }
    let own = own(given);
    for section in SECTIONS {
        let of_section: Vec<_> = own
            .iter()
            .chain(&guess.settings)
            .filter(|setting| setting.section == *section)
            .collect();
        if of_section.is_empty() {
            continue;
        }
        let mark = if of_section.iter().all(|setting| setting.is_proposal) {
            "#"
        } else {
            ""
        };
        let _ = writeln!(text, "\n{mark}[{section}]");
        for setting in of_section {
            line(&mut text, setting);
        }
    }
    text
}

fn line(text: &mut String, setting: &Setting) {
    if !setting.reason.is_empty() {
        let _ = writeln!(text, "# {}", one_line(&setting.reason));
    }
    let mark = if setting.is_proposal { "#" } else { "" };
    let _ = writeln!(text, "{mark}{} = {}", key(&setting.key), setting.value);
}

/// A key as TOML: quoted where it is not a bare one.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare {
        name.to_owned()
    } else {
        super::guess::text(name)
    }
}

/// The settings that are not guessed from tables.
fn own(given: &Services<'_>) -> Vec<Setting> {
    let setting = |section, key: &str, value: String, reason: &str, is_proposal| Setting {
        section,
        key: key.into(),
        value,
        reason: reason.into(),
        is_proposal,
    };
    let text = super::guess::text;
    let servers = |server: &str| format!("[{}]", text(server));
    let mut own = vec![match given.upstream {
        Some(server) => setting("upstream", "servers", servers(server), "--upstream", false),
        None => setting(
            "upstream",
            "servers",
            servers("127.0.0.1:8000"),
            "a guess: the default address of Django and gunicorn",
            false,
        ),
    }];
    let owner = given
        .owner
        .map(|owner| format!("; its role {owner} owns the app's tables"));
    let owner = owner.unwrap_or_default();
    own.push(if has_password(given.url) {
        setting(
            "database",
            "url_file",
            text("database-url"),
            &format!("{}; it has a password{owner}", given.url_from),
            false,
        )
    } else {
        let reason = format!("{}{owner}", given.url_from);
        setting("database", "url", text(given.url.expose()), &reason, false)
    });
    if given.owner.is_some()
        && let Some(url) = role::of_its_own(given.url)
    {
        own.push(setting("database", "url", text(&url), role::HOW, true));
    }
    own.push(match given.redis {
        Some(url) if has_password(&Secret::new(url)) => {
            let reason = "--redis; it has a password";
            setting("redis", "url_file", text("redis-url"), reason, false)
        }
        Some(url) => setting("redis", "url", text(url), "--redis", false),
        None => setting(
            "redis",
            "url",
            text("redis://127.0.0.1:6379/0"),
            "without Redis, presence is kept in this process' memory, which is enough for one sidecar",
            true,
        ),
    });
    own.push(setting(
        "widget",
        "inject",
        "true".into(),
        "shows the count in the pages of communities",
        true,
    ));
    own
}

/// `routes.d/communities.toml`.
pub(super) fn routes(routes: &[GuessedRoute]) -> String {
    let mut text = String::from(
        "# Written by `headcount init`. The first route that matches wins; try them with\n\
         # `headcount routes test /some/path/`. How routes are written: config/README.md in the source tree.\n",
    );
    for route in routes {
        let mark = if route.is_proposal { "#" } else { "" };
        let _ = writeln!(
            text,
            "\n# {}\n{mark}[[route]]\n{mark}name = \"{}\"",
            one_line(&route.reason),
            route.name
        );
        if let Some(finer) = route.finer() {
            let _ = writeln!(
                text,
                "{mark}pattern = {}\n\
                 # To count by themselves those who are at each of them, too:\n\
                 #presence = {}",
                pattern(&finer.pattern),
                finer.presence
            );
        } else {
            let _ = writeln!(text, "{mark}pattern = {}", pattern(&route.pattern));
        }
        if let Some(page_type) = &route.page_type {
            let _ = writeln!(text, "{mark}page_type = {}", super::guess::text(page_type));
        }
        if route.is_excluded {
            let _ = writeln!(text, "{mark}track = \"none\"");
        } else if route.is_proposal {
            let _ = writeln!(text, "{mark}track = \"request\"");
        }
        match route.grants {
            GrantsKey::Default => {}
            GrantsKey::Proposed => text.push_str("#grants = true\n"),
            GrantsKey::No | GrantsKey::NotOwn => {
                let _ = writeln!(text, "{mark}grants = false");
            }
        }
        if let Some(parameter) = route.search_param {
            let _ = writeln!(text, "{mark}search_param = \"{parameter}\"");
        }
    }
    text
}

/// In single quotes, which need no escapes, where possible.
fn pattern(regex: &str) -> String {
    if regex.contains('\'') || regex.contains(is_unprintable) {
        super::guess::text(regex)
    } else {
        format!("'{regex}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database_alone(url: &Secret) -> Services<'_> {
        Services {
            url,
            url_from: "--database",
            owner: None,
            upstream: None,
            redis: None,
        }
    }

    #[test]
    fn d5_a_url_with_a_password_goes_into_a_file_of_its_own() {
        for url in [
            "postgres://app:secret@db/site",
            "postgres:///site?user=app&password=secret",
            "redis+unix:///run/redis.sock?user=app&pass=secret",
        ] {
            assert!(has_password(&Secret::new(url)), "{url}");
            let folder = tempfile::tempdir().expect("a folder");
            let files = OutputFiles::of(folder.path());
            let url = Secret::new(url);
            let given = Services {
                redis: Some("redis://:secret@127.0.0.1/0"),
                ..database_alone(&url)
            };
            write(&files, &given, &Guess::default()).expect("written");
            let text = std::fs::read_to_string(&files.config).expect("a configuration");
            assert!(!text.contains("secret"), "{text}");
            for file in [&files.url, &files.redis] {
                let permissions = std::fs::metadata(file).expect("a file").permissions();
                let mode = std::os::unix::fs::PermissionsExt::mode(&permissions);
                assert_eq!(mode & 0o777, 0o600);
            }
        }
        for url in [
            "postgres://app@db/site",
            "sqlite:///a@b:c/app.db",
            "postgres:///site",
        ] {
            assert!(!has_password(&Secret::new(url)), "{url}");
        }
    }

    #[test]
    fn d3_names_of_the_site_stay_within_their_line() {
        let mut guess = Guess::default();
        guess.settings.push(Setting {
            section: "schema.event.constants",
            key: "a b\"".into(),
            value: super::super::guess::text("x\n[redis]"),
            reason: "by\n[redis]\nurl = 1".into(),
            is_proposal: false,
        });
        let url = Secret::new("sqlite:///app.db");
        let text = configuration(&database_alone(&url), &guess);
        let read: toml::Table = text.parse().expect("TOML");
        assert_eq!(
            read["schema"]["event"]["constants"]["a b\""].as_str(),
            Some("x\n[redis]")
        );
        assert!(read.get("redis").is_none(), "{text}");
    }

    #[test]
    fn d19_control_characters_of_names_stay_within_comments_and_proposals() {
        let odd = "x\n[redis]\nurl = \"redis://evil\"\n\u{1b}[2J\r\u{2028}\u{85}\u{202e}";
        let mut guess = Guess::default();
        guess.open.push(format!("the table {odd}"));
        guess.settings.push(Setting {
            section: "session.jwt",
            key: "issuer".into(),
            value: super::super::guess::text(odd),
            reason: odd.into(),
            is_proposal: true,
        });
        let url = Secret::new("sqlite:///app.db");
        let text = configuration(&database_alone(&url), &guess);
        let read: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(read.get("redis").is_none(), "{text}");
        assert!(
            !text.contains(['\u{1b}', '\r', '\u{2028}', '\u{85}', '\u{202e}']),
            "{text:?}"
        );
        // What an operator makes of the proposal is the site's own value.
        let line = text.lines().find_map(|line| line.strip_prefix("#issuer = "));
        let read: toml::Table = format!("issuer = {}", line.expect("a proposal"))
            .parse()
            .expect("TOML");
        assert_eq!(read["issuer"].as_str(), Some(odd));
    }
}
