//! Validation: the rules for a configuration beyond its types. Each gives the key and a sentence with the remedy; the
//! first that fails is reported.

mod database;
mod redis;
mod upstream;

use std::collections::HashSet;
use std::time::Duration;

use http::{HeaderName, header};

use super::{Config, Revocation, Widget, read_key_pair};

/// Upper bound of `record.keep_applied`.
const MOST_KEPT: Duration = Duration::from_secs(3_600);

/// Dotted key, and problem with remedy.
type Problem = (String, String);

pub(super) fn validate(config: &Config) -> Result<(), Problem> {
    listen(config)?;
    upstream::upstream(config)?;
    database::database(&config.database)?;
    redis::redis(&config.redis)?;
    session(config)?;
    schema(config)?;
    record(config)?;
    spool(config)?;
    api(config)?;
    live(config)?;
    widget(config)?;
    limits(config)?;
    log(config)
}

fn ensure(holds: bool, key: &str, problem: impl Into<String>) -> Result<(), Problem> {
    if holds {
        Ok(())
    } else {
        Err((key.into(), problem.into()))
    }
}

/// Refuses zero durations, which would make every wait fail at once.
fn positive(durations: &[(&str, Duration)]) -> Result<(), Problem> {
    for (key, duration) in durations {
        ensure(
            !duration.is_zero(),
            key,
            "must be longer than zero, for example \"5s\"",
        )?;
    }
    Ok(())
}

fn listen(config: &Config) -> Result<(), Problem> {
    let listen = &config.listen;
    ensure(
        !listen.http.is_empty() || !listen.https.is_empty(),
        "listen.http",
        "there is no listener; give at least one address in listen.http or listen.https",
    )?;
    ensure(
        (1..=64).contains(&listen.threads),
        "listen.threads",
        format!("is {}, must be from 1 to 64", listen.threads),
    )?;
    positive(&[("listen.upgrade_timeout", listen.upgrade_timeout)])?;
    for host in &listen.admin_hosts {
        let is_name = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
        ensure(
            !host.is_empty() && host.chars().all(is_name) && !host.ends_with('.'),
            "listen.admin_hosts",
            format!(
                "{host:?} is no name; give the name alone, such as \"stats.example.org\", without scheme and port"
            ),
        )?;
    }
    let mut taken = HashSet::new();
    let addresses = listen
        .http
        .iter()
        .map(|address| ("listen.http", *address))
        .chain(
            listen
                .https
                .iter()
                .map(|listener| ("listen.https", listener.address)),
        )
        .chain([("listen.admin", listen.admin)]);
    for (key, address) in addresses {
        ensure(
            address.port() == 0 || taken.insert(address),
            key,
            format!("{address} is given twice; every listener needs an address of its own"),
        )?;
    }
    for listener in &listen.https {
        read_key_pair(&listener.certificate, &listener.key)
            .map_err(|problem| ("listen.https".into(), problem))?;
    }
    Ok(())
}

fn session(config: &Config) -> Result<(), Problem> {
    let session = &config.session;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    ensure(
        !session.cookie.is_empty() && session.cookie.chars().all(is_token),
        "session.cookie",
        format!("\"{}\" is not a cookie name", session.cookie),
    )?;
    ensure(
        0 < session.token_min_length && session.token_min_length <= session.token_max_length,
        "session.token_min_length",
        "must be at least 1 and at most session.token_max_length",
    )?;
    ensure(
        session.token_max_length <= 4096,
        "session.token_max_length",
        "must be at most 4096",
    )?;
    ensure(
        session.cache_capacity > 0,
        "session.cache_capacity",
        "must be at least 1",
    )?;
    ensure(
        (1..=1024).contains(&session.max_lookups),
        "session.max_lookups",
        format!("is {}, must be from 1 to 1024", session.max_lookups),
    )?;
    let url = config.database.url.as_ref();
    let is_sqlite = url.is_some_and(|url| url.expose().starts_with("sqlite:"));
    ensure(
        session.revocation == Revocation::Off || !is_sqlite,
        "session.revocation",
        "\"trigger\" needs a Postgres database, and SQLite tells nobody of changes; set it to \"off\": \
         sign-outs are then noticed within session.cache_ttl",
    )
}

fn schema(config: &Config) -> Result<(), Problem> {
    let schema = &config.schema;
    for (key, name) in [
        ("schema.session.table", &schema.session.table),
        ("schema.event.table", &schema.event.table),
        ("schema.profile.table", &schema.profile.table),
        ("schema.community.table", &schema.community.table),
    ] {
        ensure(!name.trim().is_empty(), key, "must not be empty")?;
    }
    Ok(())
}

fn record(config: &Config) -> Result<(), Problem> {
    let record = &config.record;
    ensure(
        record.window >= Duration::from_secs(1),
        "record.window",
        "must be at least \"1s\"",
    )?;
    ensure(
        record.coalesce < record.window,
        "record.coalesce",
        "must be shorter than record.window, or visitors disappear between two touches",
    )?;
    let heartbeats = config.api.enabled && config.api.live && config.live.heartbeat;
    ensure(
        !heartbeats || record.coalesce <= record.window / 3,
        "record.coalesce",
        "must be at most a third of record.window, or a visitor who stays on one page disappears between two \
         heartbeats of its live connection; set live.heartbeat = false to do without them",
    )?;
    ensure(
        record.batch_views <= record.queue_views,
        "record.batch_views",
        "must be at most record.queue_views, or a batch is never full",
    )?;
    ensure(
        record.batch_bytes <= record.queue_bytes,
        "record.batch_bytes",
        "must be at most record.queue_bytes, or a batch is never full",
    )?;
    ensure(
        record.batch_views.get() <= 5000,
        "record.batch_views",
        format!("is {}, must be at most 5000", record.batch_views),
    )?;
    ensure(
        record.presence || config.redis.is_used() || !config.api.enabled,
        "record.presence",
        "is off and there is no Redis, so that the visitors API would always say 0; set api.enabled = false too, \
         or give redis.url, redis.sentinels or redis.nodes",
    )?;
    ensure(
        record.keep_applied <= MOST_KEPT,
        "record.keep_applied",
        "must be at most \"1h\": for so long the ledger would hold the key of every batch",
    )?;
    positive(&[
        ("record.batch_age", record.batch_age),
        ("record.flush_timeout", record.flush_timeout),
    ])
}

fn spool(config: &Config) -> Result<(), Problem> {
    let (spool, record) = (&config.spool, &config.record);
    ensure(
        !spool.dir.as_os_str().is_empty(),
        "spool.dir",
        "must not be empty; give a folder for this user alone, for example \"/var/lib/headcount/spool\"",
    )?;
    ensure(
        spool.max_bytes >= record.batch_bytes,
        "spool.max_bytes",
        format!(
            "is {}, must be at least record.batch_bytes ({}), or there is no room for one batch",
            spool.max_bytes, record.batch_bytes
        ),
    )?;
    ensure(
        spool.max_unspooled <= Duration::from_secs(60),
        "spool.max_unspooled",
        "must be at most \"1m\": a crash loses what is not in the spool yet",
    )?;
    positive(&[("spool.max_unspooled", spool.max_unspooled)])
}

fn api(config: &Config) -> Result<(), Problem> {
    let api = &config.api;
    ensure(
        api.prefix.starts_with('/')
            && !api.prefix.ends_with('/')
            && !api.prefix.contains(['{', '}', '?', '#', '%']),
        "api.prefix",
        format!(
            "\"{}\" must start with / and not end with it, for example \"/api\"",
            api.prefix
        ),
    )?;
    ensure(
        api.backend_check.starts_with('/') && api.backend_check.contains("{community}"),
        "api.backend_check",
        "must be a path with {community} in it, for example \"/api/communities/{community}/\"",
    )?;
    ensure(
        (1..=1000).contains(&api.max_limit),
        "api.max_limit",
        format!("is {}, must be from 1 to 1000", api.max_limit),
    )?;
    ensure(
        (1..=3660).contains(&api.max_days),
        "api.max_days",
        format!("is {}, must be from 1 to 3660", api.max_days),
    )?;
    ensure(
        (1..=6000).contains(&api.beacon_rate),
        "api.beacon_rate",
        format!("is {}, must be from 1 to 6000", api.beacon_rate),
    )?;
    positive(&[("api.timeout", api.timeout)])
}

fn live(config: &Config) -> Result<(), Problem> {
    let live = &config.live;
    for (index, origin) in live.allowed_origins.iter().enumerate() {
        let uri = origin.parse::<http::Uri>().unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default();
        let is_origin = uri.authority().is_some_and(|authority| {
            let is_complete = *origin == format!("{scheme}://{authority}");
            matches!(scheme, "http" | "https") && is_complete && !authority.as_str().contains('@')
        });
        ensure(
            is_origin,
            &format!("live.allowed_origins[{index}]"),
            format!(
                "\"{origin}\" is no origin; write scheme, name and port only, for example \"https://app.example.org\""
            ),
        )?;
        // Browsers name a port only where it is not the scheme's default.
        let default = if scheme == "https" { ":443" } else { ":80" };
        let without = origin.strip_suffix(default);
        ensure(
            without.is_none(),
            &format!("live.allowed_origins[{index}]"),
            format!(
                "\"{origin}\" is not what browsers send; leave out the port: \"{}\"",
                without.unwrap_or_default()
            ),
        )?;
    }
    for (key, duration) in [
        ("live.ping_interval", live.ping_interval),
        ("live.pong_timeout", live.pong_timeout),
        ("live.write_timeout", live.write_timeout),
        ("live.resync_interval", live.resync_interval),
        ("live.access_check_interval", live.access_check_interval),
    ] {
        ensure(duration >= Duration::from_secs(1), key, "must be at least \"1s\"")?;
    }
    ensure(
        live.min_interval <= Duration::from_secs(10),
        "live.min_interval",
        "must be at most \"10s\", or counts are no longer live",
    )?;
    positive(&[("live.retry", live.retry)])
}

fn widget(config: &Config) -> Result<(), Problem> {
    let widget = &config.widget;
    ensure(
        !widget.inject || (config.api.enabled && config.api.live),
        "widget.inject",
        "needs api.enabled and api.live, from which the script and its counts come; switch them on, or this off",
    )?;
    ensure(
        !widget.place.trim().is_empty() && !widget.place.contains(char::is_control),
        "widget.place",
        "must be \"corner\" or a CSS selector, for example \"header .members\"",
    )?;
    for (name, value) in &widget.attributes {
        ensure(
            Widget::ATTRIBUTES.contains(&name.as_str()),
            &format!("widget.attributes.{name}"),
            format!("is not known; possible are {}", Widget::ATTRIBUTES.join(", ")),
        )?;
        ensure(
            value.len() <= 200 && !value.contains(char::is_control),
            &format!("widget.attributes.{name}"),
            "must be a text of at most 200 bytes on one line",
        )?;
    }
    Ok(())
}

fn limits(config: &Config) -> Result<(), Problem> {
    let limits = &config.limits;
    ensure(
        limits.max_connections != Some(0),
        "limits.max_connections",
        "must be at least 1",
    )?;
    ensure(
        (1024..=1024 * 1024).contains(&limits.max_header_bytes.as_u64()),
        "limits.max_header_bytes",
        format!("is {}, must be from 1KiB to 1MiB", limits.max_header_bytes),
    )?;
    for (index, name) in limits.identity_headers.iter().enumerate() {
        if let Some(problem) = identity_header_problem(name) {
            return Err((
                format!("limits.identity_headers[{index}]"),
                format!("{name:?} {problem}"),
            ));
        }
    }
    positive(&[
        ("limits.header_timeout", limits.header_timeout),
        ("limits.keepalive_timeout", limits.keepalive_timeout),
        ("limits.read_timeout", limits.read_timeout),
        ("limits.write_timeout", limits.write_timeout),
    ])
}

/// Why a header cannot be an identity header, which is removed from the requests of all but trusted proxies.
fn identity_header_problem(name: &str) -> Option<&'static str> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Some("is not the name of a header; write for example \"Remote-User\"");
    };
    if name.as_str().contains('_') {
        return Some("has a \"_\", which apps treat as \"-\"; write the name with \"-\", as it is sent");
    }
    let needed_from_everybody = [
        header::HOST,
        header::COOKIE,
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
    ];
    if needed_from_everybody.contains(&name) {
        return Some("is needed from every client; take a header that only the proxy sets");
    }
    if name == "proxy" || name.as_str().starts_with("x-headcount") {
        return Some("never reaches the app; choose another name");
    }
    None
}

fn log(config: &Config) -> Result<(), Problem> {
    match tracing_subscriber::EnvFilter::try_new(&config.log.filter) {
        Ok(_) => Ok(()),
        Err(error) => Err((
            "log.filter".into(),
            format!(
                "\"{}\" is not a filter ({error}); write for example \"info\"",
                config.log.filter
            ),
        )),
    }
}
