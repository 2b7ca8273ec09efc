//! `headcount check`: configuration, routes and files, then the database and Redis.

use std::path::Path;

use super::{Failure, api_key, block_on, print_line};
use crate::config::{Access, Config, TlsListener, Validity, read_key_pair};
use crate::routes::{RouteNames, RouteTable};
use crate::writer::spool::Directory;
use crate::{app, presence, reload, store};

/// `path` is the configuration's file. `offline`: neither the database nor Redis is asked.
pub(super) fn run(path: &Path, config: &Config, offline: bool) -> Result<(), Failure> {
    print_line(format_args!("{}: the configuration is valid", path.display()));
    let table = routes(config)?;
    for listener in &config.listen.https {
        print_line(certificate(listener));
    }
    app::open_geoip(config)?;
    if config.record.writes() {
        Directory::check(&config.spool.dir).map_err(|error| Failure::Usage(error.to_string()))?;
    }
    if config.api.enabled && config.api.identities && config.api.access == Access::Session {
        print_line(
            "warning: api.access = \"session\" shows who is in a community to every signed-in visitor, also where the \
             community is private: leave it out, so that only those see it to whom the app has shown the community, \
             or set api.identities = false",
        );
    }
    api_key::check(&config.api);
    if offline {
        print_line("the database was not asked");
        return Ok(());
    }
    tables(path, config)?;
    events(path, config, &table)?;
    ledger(path, config)?;
    redis(path, config)
}

/// Reads the route files.
fn routes(config: &Config) -> Result<RouteTable, Failure> {
    let table = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let folder = config.routes.dir.display();
    print_line(format_args!("{folder}: {} routes are valid", table.len()));
    if let Some(route) = table.by_slug().filter(|_| !config.schema.has_slugs()) {
        print_line(format_args!(
            "warning: route {} names communities by slugs, which they do not have, so that its pages have no community: name \
             the column in schema.community.columns.slug, or use (?P<community>…)",
            route.name
        ));
    }
    for file in reload::blank_files(&reload::read_route_files(&config.routes.dir)?, &[]) {
        print_line(format_args!(
            "warning: {}: the route file is empty: it has no routes",
            file.display()
        ));
    }
    Ok(table)
}

/// The app's tables, and remarks about them.
fn tables(path: &Path, config: &Config) -> Result<(), Failure> {
    let problems =
        block_on(store::check(config))?.map_err(|error| Failure::of_store(path, config, &error))?;
    let (warnings, problems): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.is_a_warning());
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        return Err(Failure::Usage(format!(
            "{}: the database's tables are not as configured:{}",
            path.display(),
            list.concat()
        )));
    }
    block_on(api_key::check_communities(config))??;
    print_line("the database has the tables that the configuration names");
    for warning in warnings {
        print_line(format_args!("warning: {warning}"));
    }
    let remarks =
        block_on(store::remarks(config))?.map_err(|error| Failure::of_store(path, config, &error))?;
    for remark in remarks {
        print_line(format_args!("note: {remark}"));
    }
    Ok(())
}

/// The event types that routes write.
fn events(path: &Path, config: &Config, table: &RouteTable) -> Result<(), Failure> {
    let (refused, notes) = block_on(store::events_of_routes(config, table))?
        .map_err(|error| Failure::of_store(path, config, &error))?;
    if !refused.is_empty() {
        return Err(Failure::Usage(refused.join("\n")));
    }
    for note in notes {
        print_line(format_args!("note: {note}"));
    }
    Ok(())
}

fn ledger(path: &Path, config: &Config) -> Result<(), Failure> {
    if config.record.writes() {
        let ledger = block_on(store::check_ledger(config))?;
        if let Some(problem) = ledger.map_err(|error| Failure::of_store(path, config, &error))? {
            return Err(Failure::Usage(format!("{}: database: {problem}", path.display())));
        }
        print_line("the database has the ledger of applied batches");
    }
    Ok(())
}

fn redis(path: &Path, config: &Config) -> Result<(), Failure> {
    let remarks = block_on(presence::remarks(&config.redis, &config.record))?;
    for remark in remarks.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))? {
        print_line(format_args!("note: {remark}"));
    }
    Ok(())
}

/// The line about a listener's certificate, which is known to be readable.
fn certificate(listener: &TlsListener) -> String {
    let path = listener.certificate.display();
    let pair = read_key_pair(&listener.certificate, &listener.key).ok();
    let Some(validity) = pair.and_then(|pair| Validity::of(&pair)) else {
        return format!("note: {path}: the dates of the certificate cannot be read");
    };
    match validity.problem(chrono::Utc::now()) {
        Some(problem) => format!("warning: {path}: the certificate {problem}"),
        None => format!("{path}: the certificate {validity}"),
    }
}
