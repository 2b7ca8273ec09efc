//! `headcount check --django`: finds settings of the site that fail behind a proxy or contradict the configuration. Pure.

use super::django::{DjangoDatabase, DjangoSettings, DjangoSite};
use super::hosts::Hosts;
use crate::config::{Config, Events, SessionKind};
use crate::routes::RouteTable;

/// One sentence for each such setting, with its remedy.
pub fn warnings(site: &DjangoSite, config: &Config) -> Vec<String> {
    let settings = &site.settings;
    let mut warnings = Vec::new();
    tls(settings, config, &mut warnings);
    hosts(settings, config, &mut warnings);
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

/// Settings of the site with which no visitor can be recognised, a sentence for each, with its remedy.
pub fn unrecognised(site: &DjangoSite, config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    sessions(&site.settings, config, &mut faults);
    faults
}

/// A question where the site is below a path (`FORCE_SCRIPT_NAME`) that no route has: no setting says whether a proxy strips it.
/// `patterns` are the texts of the route files.
pub fn mounted<'p>(site: &DjangoSite, patterns: impl IntoIterator<Item = &'p str>) -> Option<String> {
    let path = super::guess::mounted_at(site)?;
    let escaped = regex::escape(&path);
    let has_it = |text: &str| text.contains(&path) || text.contains(&escaped);
    let is_told = patterns.into_iter().any(has_it);
    (!is_told).then(|| {
        format!(
            "FORCE_SCRIPT_NAME is {path:?}, and no route has it: does a proxy in front of the sidecar strip it? If not, begin the \
             patterns with it ('^(?:{escaped})?/' matches both), and set api.prefix = \"{path}/api\" where only paths below \
             it reach the sidecar"
        )
    })
}

/// Event types of routes that the `choices` of the site's model lack, one sentence for each.
pub fn unlisted_types(site: &DjangoSite, config: &Config, routes: &RouteTable) -> Vec<String> {
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

/// Whether the site recognises requests over https.
fn tls(settings: &DjangoSettings, config: &Config, warnings: &mut Vec<String>) {
    const HEADER: &str = "HTTP_X_FORWARDED_PROTO";
    let is_behind_tls = !config.listen.https.is_empty() || !config.limits.trusted_proxies.is_empty();
    let header = settings
        .secure_proxy_ssl_header
        .as_deref()
        .and_then(|header| header.first());
    match header.map(|header| &**header) {
        Some(HEADER) => {}
        Some(other) => warnings.push(format!(
            "SECURE_PROXY_SSL_HEADER names {other}, which the sidecar does not set and clients can forge: set it to (\"{HEADER}\", \"https\")"
        )),
        None if redirects_to_tls(settings) => warnings.push(format!(
            "SECURE_SSL_REDIRECT is on without SECURE_PROXY_SSL_HEADER, so every page redirects to itself: set \
             SECURE_PROXY_SSL_HEADER = (\"{HEADER}\", \"https\")"
        )),
        None if is_behind_tls && settings.csrf_trusted_origins.is_empty() => {
            warnings.extend(checks_origins(settings).map(|whose| {
                format!(
                    "the site cannot tell that clients use https, and refuses {whose} (CSRF, \"Origin checking failed\"): set \
                     SECURE_PROXY_SSL_HEADER = (\"{HEADER}\", \"https\")"
                )
            }));
        }
        None => {}
    }
    let has_secure_cookies =
        settings.session_cookie_secure || (settings.csrf_cookie_secure && checks_origins(settings).is_some());
    if !is_behind_tls && has_secure_cookies {
        warnings.push(
            "SESSION_COOKIE_SECURE or CSRF_COOKIE_SECURE is on, and the sidecar serves plain http only: browsers send such \
             cookies over https alone; set listen.https, or limits.trusted_proxies where a proxy in front has the certificate"
                .into(),
        );
    }
}

/// Whether a middleware of the site has a name with this in it: sites replace Django's by classes of their own.
fn has_middleware(settings: &DjangoSettings, part: &str) -> bool {
    let mut middleware = settings.middleware.iter();
    middleware.any(|path| path.to_lowercase().contains(part))
}

/// Whose forms the site compares with the origin that they come from: all with the middleware for it, without it those that
/// ask for it, as the admin's do.
fn checks_origins(settings: &DjangoSettings) -> Option<&'static str> {
    if has_middleware(settings, "csrf") {
        return Some("their forms");
    }
    let has_admin = settings
        .installed_apps
        .iter()
        .any(|app| app.starts_with("django.contrib.admin"));
    has_admin.then_some("the forms of its admin, though CsrfViewMiddleware is not in MIDDLEWARE")
}

/// `SECURE_SSL_REDIRECT` is that of a middleware.
fn redirects_to_tls(settings: &DjangoSettings) -> bool {
    settings.secure_ssl_redirect && has_middleware(settings, "security")
}

fn hosts(settings: &DjangoSettings, config: &Config, warnings: &mut Vec<String>) {
    let hosts = Hosts::of(settings);
    let health_host = &config.upstream.health_host;
    if hosts.is_empty() {
        warnings.push(
            "ALLOWED_HOSTS is empty and DEBUG off, so every request is answered 400: list the names of the site".into(),
        );
    } else if !hosts.allow(health_host) {
        let consequence = if config.upstream.health_path.is_some() {
            "so that it looks down"
        } else {
            "and mails its admins (DisallowedHost) when the sidecar probes a server that does not answer (HEAD /)"
        };
        warnings.push(format!(
            "the site refuses {health_host:?}, the Host of the sidecar's own requests (health probes, HTTP/1.0 without Host), \
             {consequence}: set upstream.health_host = {:?}, or add it to ALLOWED_HOSTS",
            hosts.first().unwrap_or_else(|| "a name of the site".into())
        ));
    }
    if let Some(path) = &config.upstream.health_path
        && redirects_to_tls(settings)
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
}

/// Whether a pattern of `SECURE_REDIRECT_EXEMPT` matches a path. Django searches the path without its leading slash. A pattern
/// that Rust cannot compile counts as a match.
fn is_exempt(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path).trim_start_matches('/');
    regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(path))
}

fn sessions(settings: &DjangoSettings, config: &Config, warnings: &mut Vec<String>) {
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
            "SESSION_ENGINE is {engine:?}, which keeps no sessions in the database, so no visitor is recognised: use \
             django.contrib.sessions.backends.cached_db, or [session.jwt]"
        ));
    }
    if (is_djangos || kept_by_engine) && settings.session_cookie_name != *cookie {
        warnings.push(wrong_cookie(&settings.session_cookie_name, cookie));
    }
}

fn wrong_cookie(site: &str, config: &str) -> String {
    format!(
        "SESSION_COOKIE_NAME is {site:?} and session.cookie is {config:?}, so no visitor is recognised: set session.cookie = \
         {site:?}"
    )
}

fn times(settings: &DjangoSettings, config: &Config) -> Option<String> {
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

/// A warning if the names of the two databases differ. Hosts and ports may differ: a pooler has its own.
fn database(database: &DjangoDatabase, config: &Config) -> Option<String> {
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
            "the site's database is {theirs:?}, and database.url names {ours:?}: if these are two databases, no visitor is \
             recognised; set database.url to the site's"
        )
    })
}

#[cfg(test)]
mod tests;
