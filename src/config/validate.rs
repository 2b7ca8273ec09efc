//! Validation: each section's own rules, then the rules between sections. Each gives the key and a sentence with the
//! remedy; the first that fails is reported.

mod own_listener;

use super::rules::{Checked, ensure};
use super::{Access, CommunityKey, Config, Events, OwnPartitions, Revocation, SessionKind};
use own_listener::is_own_listener;

pub(super) fn validate(config: &mut Config) -> Checked {
    config
        .sections()
        .into_iter()
        .try_for_each(|(_, section)| section.check())?;
    upstream(config)?;
    session(config)?;
    record(config)?;
    slugs(config)?;
    access(config)?;
    spool(config)?;
    counters(config)?;
    widget(config)
}

fn upstream(config: &Config) -> Checked {
    for (index, server) in config.upstream.servers.iter().enumerate() {
        ensure(
            !is_own_listener(server, &config.listen),
            &format!("upstream.servers[{index}]"),
            format!(
                "\"{server}\" is the sidecar's own listener, so that each request would come back; write where the \
                 app listens"
            ),
        )?;
    }
    Ok(())
}

fn session(config: &Config) -> Checked {
    let has_key = config.session.kind == SessionKind::Table && !config.schema.session.columns.id.is_empty();
    ensure(
        config.session.jwt.session_claim.is_empty() || has_key,
        "session.jwt.session_claim",
        "needs a session table with a primary key (schema.session.columns.id), by which the session is found; leave it out",
    )?;
    let parameter = &config.session.jwt.query_parameter;
    ensure(
        parameter.is_empty() || !config.privacy.query_allow.contains(parameter),
        "privacy.query_allow",
        format!("\"{parameter}\" is session.jwt.query_parameter, whose JWTs must not be recorded; remove it"),
    )?;
    ensure(
        config.session.revocation == Revocation::Off || !config.database.is_sqlite(),
        "session.revocation",
        "\"trigger\" needs a Postgres database, and SQLite cannot notify of changes; set it to \"off\": \
         sign-outs are then noticed within session.cache_ttl",
    )
}

fn record(config: &Config) -> Checked {
    let record = &config.record;
    ensure(
        record.events != Events::App || !config.schema.event.table.is_empty(),
        "schema.event.table",
        "is empty, and record.events is \"app\": name the app's event table, or set record.events to \"own\" or false",
    )?;
    let by_month = record.own_partitions == OwnPartitions::Month;
    ensure(
        !by_month || (record.events == Events::Own && !config.database.is_sqlite()),
        "record.own_partitions",
        "\"month\" needs record.events = \"own\" and a Postgres database; set it to \"none\"",
    )?;
    ensure(
        !record.visits_index || !config.database.is_sqlite(),
        "record.visits_index",
        "needs a Postgres database, SQLite's index has all of it already; set it to false",
    )?;
    let heartbeats = config.api.enabled && config.api.live && config.live.heartbeat;
    ensure(
        !heartbeats || record.coalesce <= record.window / 3,
        "record.coalesce",
        "must be at most a third of record.window, or a visitor who stays on one page disappears between two \
         heartbeats of its live connection; set live.heartbeat = false to do without them",
    )?;
    ensure(
        record.presence || config.redis.is_used() || !config.api.enabled,
        "record.presence",
        "is off and there is no Redis, so that the visitors API would always say 0; set api.enabled = false too, \
         or give redis.url, redis.sentinels or redis.nodes",
    )
}

/// Rules about slugs, where communities have none.
fn slugs(config: &Config) -> Checked {
    let api = &config.api;
    let lacks_them = !config.schema.has_slugs() && api.enabled;
    ensure(
        !lacks_them || api.community_key == CommunityKey::Id,
        "api.community_key",
        "names communities by slugs, which they do not have (schema.community): set it to \"id\", or name the column in \
         schema.community.columns.slug",
    )?;
    ensure(
        !lacks_them || api.access != Access::Backend || !api.backend_check.contains("{community_slug}"),
        "api.backend_check",
        "has {community_slug} in it, and communities have no slugs (schema.community): use {community}, or name the column in \
         schema.community.columns.slug",
    )
}

fn access(config: &Config) -> Checked {
    let (api, checked) = (&config.api, config.live.access_check_interval);
    ensure(
        api.access != Access::Visited || !api.enabled || !api.live || api.visited_ttl > checked,
        "api.visited_ttl",
        format!(
            "is {:?}, must be longer than live.access_check_interval ({checked:?}), or pages that stay open lose their \
             count between two checks",
            api.visited_ttl
        ),
    )
}

fn spool(config: &Config) -> Checked {
    let (spool, record) = (&config.spool, &config.record);
    ensure(
        spool.max_bytes >= record.batch_bytes,
        "spool.max_bytes",
        format!(
            "is {}, must be at least record.batch_bytes ({}), or there is no room for one batch",
            spool.max_bytes, record.batch_bytes
        ),
    )
}

fn counters(config: &Config) -> Checked {
    let counters = &config.counters;
    ensure(
        !counters.enabled || !config.schema.community.table.is_empty(),
        "counters.enabled",
        "needs the app's table of communities, whose columns the counts are: name it in schema.community.table, or set \
         this to false",
    )?;
    ensure(
        !counters.enabled || !counters.of_events() || config.record.events != Events::Off,
        "counters.enabled",
        "counts the page views that the sidecar writes, and record.events is false: set counters.total_visitors and \
         counters.page_views to \"\", or record.events to \"app\" or \"own\"",
    )
}

fn widget(config: &Config) -> Checked {
    ensure(
        !config.widget.inject || (config.api.enabled && config.api.live),
        "widget.inject",
        "needs api.enabled and api.live, from which the script and its counts come; enable both, or set this to false",
    )
}
