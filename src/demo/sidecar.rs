//! The demo's configuration of the sidecar: a short window, an embedded database and presence in memory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::site;
use crate::config::{Access, Config, Secret};

/// The demo's route file.
const ROUTES: &str = include_str!("routes.toml");

/// Characters with a meaning in the path of a database URL.
const URL_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'%').add(b'?');

/// Preferred port of the admin listener; the default of `listen.admin`.
const ADMIN_PORT: u16 = 9464;

/// Writes the route file and makes the configuration: the site at `upstream`, its database, and loopback
/// listeners on `port` and on a port for the admin pages.
pub(crate) fn configure(
    directory: &Path,
    database: &Path,
    upstream: SocketAddr,
    port: u16,
) -> anyhow::Result<Config> {
    let routes = directory.join("routes.d");
    std::fs::create_dir(&routes)
        .and_then(|()| std::fs::write(routes.join("lantern.toml"), ROUTES))
        .with_context(|| format!("cannot write route files to {}", routes.display()))?;
    let (http, admin) = choose_ports(port)?;

    let mut config = Config::default();
    config.listen.http = vec![http];
    config.listen.admin = admin;
    config.upstream.servers = vec![upstream.to_string()];
    config.database.url = Some(database_url(database)?);
    config.spool.dir = directory.join("spool");
    config.session.cookie = site::COOKIE.into();
    config.routes.dir = routes;
    // Every member may see every community, and the front page shows the counts of all of them: with the default, a member
    // would see those only whose own pages they have opened.
    config.api.access = Access::Session;
    // Short, so that leaving is visible soon.
    config.record.window = Duration::from_secs(site::WINDOW_SECONDS);
    config.record.coalesce = Duration::from_secs(1);
    config.session.cache_ttl = Duration::from_secs(2);
    config.limits.grace_period = Duration::from_secs(1);
    // Few visitors, and fewer open files than a site may need.
    config.limits.max_connections = Some(1_000);
    // The terminal is for the banner.
    // Routes may be edited while it runs.
    config.log.filter = "warn,headcount::reload=info".into();
    Ok(config)
}

fn database_url(file: &Path) -> anyhow::Result<Secret> {
    let path = file
        .to_str()
        .context("the temporary folder's name is not valid UTF-8")?;
    Ok(Secret::new(format!(
        "sqlite://{}",
        utf8_percent_encode(path, URL_PATH)
    )))
}

/// Addresses for the site and the admin pages, both free a moment ago. With `port` 0, any port.
fn choose_ports(port: u16) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let http = bind(port).with_context(|| {
        format!(
            "cannot listen on 127.0.0.1:{port}; choose another port, for example `headcount demo --port {}`, \
             or let the system choose with `--port 0`",
            port.checked_add(1).unwrap_or(8080)
        )
    })?;
    // This port is not promised, and the banner names it: any other will do.
    let admin = bind(ADMIN_PORT)
        .or_else(|_| bind(0))
        .context("cannot listen on 127.0.0.1 for the admin pages")?;
    Ok((http.local_addr()?, admin.local_addr()?))
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_address() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
    }

    #[test]
    fn a_taken_port_is_named_together_with_the_remedy() {
        let taken = bind(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let error = configure(directory.path(), Path::new("/x"), any_address(), port).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains(&format!("127.0.0.1:{port};")), "{message}");
        assert!(message.contains("--port"), "{message}");
    }

    #[test]
    fn port_zero_becomes_a_real_port() {
        let directory = tempfile::tempdir().unwrap();
        let config = configure(directory.path(), Path::new("/x"), any_address(), 0).unwrap();
        assert_ne!(config.listen.http[0].port(), 0);
        assert_ne!(config.listen.admin.port(), 0);
        assert_ne!(config.listen.http[0], config.listen.admin);
        assert!(config.routes.dir.join("lantern.toml").exists());
    }

    #[test]
    fn the_database_url_names_any_file() {
        let url = database_url(Path::new("/tmp/a b?c%d#é.db")).unwrap();
        assert_eq!(url.expose(), "sqlite:///tmp/a%20b%3Fc%25d%23%C3%A9.db");
        let options: sqlx::sqlite::SqliteConnectOptions = url.expose().parse().unwrap();
        assert_eq!(options.get_filename(), Path::new("/tmp/a b?c%d#é.db"));
    }
}
