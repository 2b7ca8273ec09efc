//! `headcount check --django`: settings of the site that break behind a proxy, or do not go with the configuration. Pure.

use super::django::{Database, Settings, Site};
use super::hosts::Hosts;
use crate::config::{Config, Events, SessionKind};
use crate::routes::RouteTable;

/// A sentence for each, with its cure.
pub fn warnings(site: &Site, config: &Config) -> Vec<String> {
    let settings = &site.settings;
    let mut warnings = Vec::new();
    tls(settings, config, &mut warnings);
    hosts(settings, config, &mut warnings);
    sessions(settings, config, &mut warnings);
    warnings.extend(times(settings, config));
    warnings.extend(database(&site.database, config));
    if let (Some(media), true) = (&settings.media_url, config.api.identities)
        && media.starts_with('/')
        && media.len() > 1
        && *media != config.api.avatar_base
    {
        warnings.push(format!(
            "MEDIA_URL is {media:?} and api.avatar_base {:?}, so that visitors' pictures are not found: set api.avatar_base \
             = {media:?}",
            config.api.avatar_base
        ));
    }
    warnings
}

/// Event types of routes that the site's own list does not have, a sentence for each.
pub fn unlisted_types(site: &Site, config: &Config, routes: &RouteTable) -> Vec<String> {
    let event = &config.schema.event;
    if config.record.events != Events::App {
        return Vec::new();
    }
    let table = event.table.rsplit('.').next().unwrap_or_default();
    let models = site.models.iter().filter(|model| model.table == table);
    let mut fields = models.flat_map(|model| &model.fields);
    let field = fields.find(|field| field.column == event.columns.event_type && !field.choices.is_empty());
    let Some(field) = field else {
        return Vec::new();
    };
    let unlisted = routes.event_types().filter(|written| {
        !field
            .choices
            .iter()
            .any(|choice| **choice == **written.event_type)
    });
    unlisted
        .map(|written| {
            format!(
                "{}: route `{}`: the choices of {table}.{} have no {:?}: add it there, or use one of them",
                written.source, written.route, field.column, written.event_type
            )
        })
        .collect()
}

/// Which requests the site takes for encrypted ones.
fn tls(settings: &Settings, config: &Config, warnings: &mut Vec<String>) {
    const HEADER: &str = "HTTP_X_FORWARDED_PROTO";
    let is_behind_tls = !config.listen.https.is_empty() || !config.limits.trusted_proxies.is_empty();
    let header = settings
        .secure_proxy_ssl_header
        .as_deref()
        .and_then(|header| header.first());
    match header.map(|header| &**header) {
        Some(HEADER) => {}
        Some(other) => warnings.push(format!(
            "SECURE_PROXY_SSL_HEADER names {other}, which clients can send themselves: the sidecar sets X-Forwarded-Proto only; \
             set it to (\"{HEADER}\", \"https\")"
        )),
        None if settings.secure_ssl_redirect => warnings.push(format!(
            "SECURE_SSL_REDIRECT is on without SECURE_PROXY_SSL_HEADER, so that every page redirects to itself: set \
             SECURE_PROXY_SSL_HEADER = (\"{HEADER}\", \"https\")"
        )),
        None if is_behind_tls && settings.csrf_trusted_origins.is_empty() => warnings.push(format!(
            "the site does not learn that clients use https, and refuses their forms (CSRF, \"Origin checking failed\"): set \
             SECURE_PROXY_SSL_HEADER = (\"{HEADER}\", \"https\")"
        )),
        None => {}
    }
    if !is_behind_tls && (settings.session_cookie_secure || settings.csrf_cookie_secure) {
        warnings.push(
            "SESSION_COOKIE_SECURE or CSRF_COOKIE_SECURE is on, and the sidecar serves plain http only: browsers send such \
             cookies over https alone; set listen.https, or limits.trusted_proxies where a proxy in front has the certificate"
                .into(),
        );
    }
}

fn hosts(settings: &Settings, config: &Config, warnings: &mut Vec<String>) {
    let hosts = Hosts::of(settings);
    let health_host = &config.upstream.health_host;
    if hosts.is_empty() {
        warnings.push(
            "ALLOWED_HOSTS is empty and DEBUG off, so that every request is answered 400: list the names of the site".into(),
        );
    } else if !hosts.allow(health_host) {
        let consequence = if config.upstream.health_path.is_some() {
            "so that it looks down"
        } else {
            "and mails its admins (DisallowedHost) when a server that owes answers is asked HEAD /"
        };
        warnings.push(format!(
            "the site refuses {health_host:?}, the Host of the sidecar's own requests (health probes, HTTP/1.0 without Host), \
             {consequence}: set upstream.health_host = {:?}, or add it to ALLOWED_HOSTS",
            hosts.first().unwrap_or_else(|| "a name of the site".into())
        ));
    }
    if let Some(path) = &config.upstream.health_path
        && settings.secure_ssl_redirect
        && !settings
            .secure_redirect_exempt
            .iter()
            .any(|exempt| is_exempt(exempt, path))
    {
        warnings.push(format!(
            "SECURE_SSL_REDIRECT answers upstream.health_path {path:?} with a redirect, which is not 200, so that the site looks \
             down: set SECURE_REDIRECT_EXEMPT = [r\"^{}$\"]",
            path.trim_start_matches('/')
        ));
    }
    if settings.use_x_forwarded_host {
        warnings.push(
            "USE_X_FORWARDED_HOST is on, which is not needed: the sidecar passes Host on as clients send it; set \
             USE_X_FORWARDED_HOST = False"
                .into(),
        );
    }
    if let Some(prefix) = settings
        .force_script_name
        .as_deref()
        .filter(|prefix| !prefix.is_empty())
    {
        warnings.push(format!(
            "FORCE_SCRIPT_NAME is {prefix:?}: routes match the path as clients send it; begin their patterns with it"
        ));
    }
}

/// Whether Django leaves a path alone: its pattern is searched for in the path without the slash before it. One that cannot
/// be read here may.
fn is_exempt(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path).trim_start_matches('/');
    regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(path))
}

fn sessions(settings: &Settings, config: &Config, warnings: &mut Vec<String>) {
    let engine = &*settings.session_engine;
    let (table, cookie) = (&config.schema.session.table, &config.session.cookie);
    let kept_by_engine = match engine.rsplit('.').nth(2) {
        _ if engine.starts_with("django.contrib.sessions.") => false,
        Some(app) => table.ends_with(&format!("{app}_session")),
        None => false,
    };
    let is_djangos = config.session.kind == SessionKind::Django;
    if is_djangos
        && !["db", "cached_db"]
            .iter()
            .any(|kept| engine.ends_with(&format!("backends.{kept}")))
    {
        warnings.push(format!(
            "SESSION_ENGINE is {engine:?}, which keeps no sessions in the database, so that nobody is recognised: use \
             django.contrib.sessions.backends.cached_db, or [session.jwt]"
        ));
    }
    if (is_djangos || kept_by_engine) && settings.session_cookie_name != *cookie {
        warnings.push(wrong_cookie(&settings.session_cookie_name, cookie));
    }
}

fn wrong_cookie(site: &str, config: &str) -> String {
    format!(
        "SESSION_COOKIE_NAME is {site:?} and session.cookie {config:?}, so that nobody is recognised: set session.cookie = \
         {site:?}"
    )
}

fn times(settings: &Settings, config: &Config) -> Option<String> {
    let zone = settings.time_zone.as_deref()?;
    let configured = config.database.time_zone.map(chrono_tz::Tz::name);
    let differs = !settings.use_tz && configured.unwrap_or("UTC") != zone;
    differs.then(|| {
        format!(
            "USE_TZ is off and TIME_ZONE {zone:?}: times without a zone are read as {}; set database.time_zone = {zone:?}",
            configured.unwrap_or("UTC")
        )
    })
}

/// Whether both mean the same database, as far as its name tells: between them there may be a pooler.
fn database(database: &Database, config: &Config) -> Option<String> {
    let theirs = database.url()?;
    let ours = config.database.url.as_ref()?;
    let name = |url: &str| {
        let (_, rest) = url.split_once("://")?;
        let path = rest.split('?').next()?.split_once('/')?.1;
        Some(path.rsplit('/').next()?.to_owned())
    };
    let (theirs, ours) = (name(theirs.expose())?, name(ours.expose())?);
    (theirs != ours && !ours.is_empty()).then(|| {
        format!(
            "the site's database is called {theirs:?}, and database.url names {ours:?}: if that is another one, nobody is \
             recognised"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(more: &str) -> Config {
        let text = format!(
            "[upstream]\nservers = [\"127.0.0.1:9\"]\nhealth_path = \"/healthz\"\n[database]\nurl = \
             \"postgres://app@db/site\"\n{more}"
        );
        Config::parse(Path::new("headcount.toml"), text, []).expect("a configuration")
    }

    fn site(change: impl FnOnce(&mut Settings)) -> Site {
        let mut settings = Settings {
            allowed_hosts: vec!["localhost".into()],
            session_cookie_name: "sessionid".into(),
            session_engine: "user_sessions.backends.db".into(),
            use_tz: true,
            ..Settings::default()
        };
        change(&mut settings);
        Site {
            settings,
            ..Site::default()
        }
    }

    #[track_caller]
    fn warns(change: impl FnOnce(&mut Settings), more: &str, of: &[&str]) {
        let warnings = warnings(&site(change), &config(more));
        assert_eq!(warnings.len(), of.len(), "{warnings:?}");
        for (warning, word) in warnings.iter().zip(of) {
            assert!(warning.contains(word), "{warning}");
        }
    }

    #[test]
    fn v34_an_event_type_that_the_sites_list_lacks_is_named() {
        let model = r#"{"model": "userevent", "table": "accounts_userevent", "fields": [
            {"column": "event_type", "refers": null, "default": null, "choices": ["page_view", "post_view"]}]}"#;
        let site = Site {
            models: vec![serde_json::from_str(model).unwrap()],
            ..Site::default()
        };
        let of = |event_type: &str, more: &str| {
            let text =
                format!("[[route]]\nname = \"post\"\npattern = \"^/p\"\nevent_type = \"{event_type}\"");
            let path = "posts.toml".into();
            let table = RouteTable::compile(&[crate::routes::RouteFile { path, text }]).unwrap();
            unlisted_types(&site, &config(more), &table)
        };
        assert_eq!(of("post_view", ""), [""; 0]);
        assert_eq!(of("post_seen", "[record]\nevents = \"own\"\n"), [""; 0]);
        assert_eq!(
            of("post_seen", ""),
            [
                "posts.toml:4: route `post`: the choices of accounts_userevent.event_type have no \"post_seen\": add it there, or use \
              one of them"
            ]
        );
    }

    const PROXY: &str = "[limits]\ntrusted_proxies = [\"10.0.0.1\"]\n";

    #[test]
    fn d6_settings_that_fit_are_not_mentioned() {
        warns(|_| {}, "", &[]);
        let header = || Some(vec!["HTTP_X_FORWARDED_PROTO".to_owned(), "https".to_owned()]);
        warns(
            |settings| {
                settings.secure_proxy_ssl_header = header();
                settings.secure_ssl_redirect = true;
                settings.secure_redirect_exempt = vec!["^healthz$".into()];
                settings.session_cookie_secure = true;
            },
            PROXY,
            &[],
        );
        warns(
            |settings| settings.allowed_hosts = vec![".localhost".into()],
            "",
            &[],
        );
    }

    #[test]
    fn d6_each_setting_that_breaks_behind_a_proxy_is_a_sentence() {
        warns(|_| {}, PROXY, &["Origin checking failed"]);
        warns(
            |settings| settings.csrf_trusted_origins = vec!["https://site.test".into()],
            PROXY,
            &[],
        );
        warns(
            |settings| settings.secure_ssl_redirect = true,
            PROXY,
            &["redirects to itself", "SECURE_REDIRECT_EXEMPT = [r\"^healthz$\"]"],
        );
        let other = |settings: &mut Settings| {
            settings.secure_proxy_ssl_header = Some(vec!["HTTP_X_SCHEME".into(), "https".into()]);
        };
        warns(other, PROXY, &["HTTP_X_SCHEME"]);
        warns(
            |settings| settings.session_cookie_secure = true,
            "",
            &["over https alone"],
        );
        warns(|settings| settings.allowed_hosts.clear(), "", &["answered 400"]);
        warns(
            |settings| settings.allowed_hosts = vec!["site.test".into()],
            "",
            &["so that it looks down"],
        );
        warns(
            |settings| settings.use_x_forwarded_host = true,
            "",
            &["USE_X_FORWARDED_HOST"],
        );
        warns(
            |settings| settings.force_script_name = Some("/app".into()),
            "",
            &["/app"],
        );
    }

    #[test]
    fn d6_each_host_that_the_sidecar_itself_sends_is_one_that_the_site_answers_to() {
        let hosts = |hosts: &'static [&str]| {
            move |settings: &mut Settings| {
                settings.allowed_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
            }
        };
        let without_path = |more: &str| {
            let text = format!(
                "[upstream]\nservers = [\"127.0.0.1:9\"]\n{more}[database]\nurl = \"postgres://app@db/site\"\n"
            );
            Config::parse(Path::new("headcount.toml"), text, []).expect("a configuration")
        };
        // Without a health path a server that owes answers is asked HEAD /, and HTTP/1.0 has no Host of its own.
        let said = warnings(&site(hosts(&["site.test", ".shop.test"])), &without_path(""));
        assert!(
            said.len() == 1
                && said[0].contains("upstream.health_host = \"site.test\"")
                && said[0].contains("DisallowedHost"),
            "{said:?}"
        );
        for (allowed, host) in [
            (&["SITE.test"][..], "site.test:8443"),
            (&[".shop.test"], "eu.shop.test"),
            (&["*"], "localhost"),
            (&["[::1]"], "[::1]:8000"),
        ] {
            let config = without_path(&format!("health_host = \"{host}\"\n"));
            assert_eq!(warnings(&site(hosts(allowed)), &config), [""; 0], "{host}");
        }
        let config = without_path("health_host = \"my_app:8000\"\n");
        let said = warnings(&site(hosts(&["*"])), &config);
        assert!(said.len() == 1 && said[0].contains("my_app:8000"), "{said:?}");
        // While DEBUG is on, an empty list means the machine itself.
        let debug = |settings: &mut Settings| {
            settings.debug = true;
            settings.allowed_hosts.clear();
        };
        assert_eq!(warnings(&site(debug), &without_path("")), [""; 0]);
        assert_eq!(
            warnings(&site(debug), &without_path("health_host = \"site.test\"\n")).len(),
            1
        );
    }

    #[test]
    fn d6_settings_that_do_not_go_with_the_configuration_are_sentences() {
        let table = "[schema.session]\ntable = \"user_sessions_session\"\n";
        warns(|_| {}, table, &["session.cookie = \"sessionid\""]);
        warns(
            |settings| {
                settings.use_tz = false;
                settings.time_zone = Some("Europe/Berlin".into());
            },
            "",
            &["database.time_zone = \"Europe/Berlin\""],
        );
        warns(
            |settings| settings.media_url = Some("/files/".into()),
            "",
            &["api.avatar_base = \"/files/\""],
        );
        let mut other = site(|_| {});
        other.database.engine = "django.db.backends.postgresql".into();
        other.database.name = "other".into();
        let warnings = super::warnings(&other, &config(""));
        assert!(
            warnings.len() == 1 && warnings[0].contains("\"other\""),
            "{warnings:?}"
        );
    }
}
