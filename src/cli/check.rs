//! `headcount check`: configuration, routes and files, then the app, the database and Redis.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Failure, api_key, block_on, print_line};
use crate::config::{Access, Config, TlsListener, Upstream, Validity, read_key_pair};
use crate::ids::SiteIdentity;
use crate::printable::counted;
use crate::routes::{RouteNames, RouteTable};
use crate::store::Examination;
use crate::writer::spool::Directory;
use crate::{app, presence, reload, store};

/// `path` is the configuration's file. `offline`: neither the app nor the database nor Redis is asked.
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
        print_line("neither the app nor the database was asked");
        return Ok(());
    }
    silent_servers(&config.upstream)?;
    let site = database(path, config, &table)?;
    redis(path, config, site)
}

/// Tells of servers of the app that take no connection: it may be that they do not run yet.
fn silent_servers(config: &Upstream) -> Result<(), Failure> {
    let servers = config
        .servers
        .iter()
        .map(|server| connect(server, config.connect_timeout));
    for (server, outcome) in config.servers.iter().zip(block_on(join_all(servers))?) {
        if let Err(error) = outcome {
            print_line(format_args!(
                "note: upstream.servers: {server} takes no connection ({error}): start the app, or correct the address (of a Unix \
                 socket also who may write to it)"
            ));
        }
    }
    Ok(())
}

/// Connects, to the first of a name's addresses that answers, and disconnects.
async fn connect(server: &str, limit: Duration) -> io::Result<()> {
    let connected = async {
        match server.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).await.map(drop),
            None => TcpStream::connect(server).await.map(drop),
        }
    };
    let in_time = timeout(limit, connected).await;
    in_time.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads the route files.
fn routes(config: &Config) -> Result<RouteTable, Failure> {
    let table = reload::load_routes(&config.routes.dir, &RouteNames::of(config))?;
    let folder = config.routes.dir.display();
    let routes = counted(table.len(), "route is", "routes are");
    print_line(format_args!("{folder}: {routes} valid"));
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

/// The app's tables, the ledger, and the event types that routes write. All that is wrong with them is told at once. Returns which
/// site it is.
fn database(path: &Path, config: &Config, table: &RouteTable) -> Result<SiteIdentity, Failure> {
    let examined = block_on(store::examine(config, table))?;
    let Examination {
        inspection,
        keys,
        notes,
        site,
    } = examined.map_err(|error| Failure::of_store(path, config, &error))?;
    let path = path.display();
    let mut wrong = Vec::new();
    let faults = inspection.faults(|problem| !problem.is_a_warning());
    if !faults.is_empty() {
        let list: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
        wrong.push(format!(
            "{path}: the database's tables are not as configured:{}",
            list.concat()
        ));
    }
    wrong.extend(inspection.refused_types(table));
    wrong.extend(
        inspection
            .ledger_fault()
            .map(|problem| format!("{path}: database: {problem}")),
    );
    if !wrong.is_empty() {
        return Err(Failure::Usage(wrong.join("\n")));
    }
    api_key::check_communities(config, keys)?;
    print_line("the database has the tables that the configuration names");
    for warning in &inspection.tables {
        print_line(format_args!("warning: {warning}"));
    }
    for note in notes {
        print_line(format_args!("note: {note}"));
    }
    if config.record.writes() {
        print_line("the database has the ledger of applied batches");
    }
    Ok(site)
}

fn redis(path: &Path, config: &Config, site: SiteIdentity) -> Result<(), Failure> {
    let remarks = block_on(presence::remarks(&config.redis, &config.record, site))?;
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
