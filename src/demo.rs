//! `headcount demo`: everything embedded. A sample community site as the app, `SQLite` as its database, presence
//! in memory, and simulated members; the sidecar in front of it is the real one.
//!
//! The site and the members live on a runtime of their own, because the sidecar blocks the calling thread.

mod browser;
mod commands;
mod directory;
mod members;
mod sidecar;
mod site;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::store;
use browser::Browser;
use directory::TemporaryDirectory;
use site::content::MEMBERS;

pub use commands::DemoCommand;

/// Longest time for the sidecar to come up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Options of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Port of the site on 127.0.0.1; 0 lets the system choose.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: 8080 }
    }
}

/// Runs the demo until `start` returns. `start` runs the sidecar with the configuration it is given, until
/// SIGINT or SIGTERM.
pub fn run(
    options: Options,
    start: impl FnOnce(Config, PathBuf) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    Demo::prepare(options)?.run(start)
}

/// The demo with its site up, its ports chosen and its sidecar configured but not started.
#[derive(Debug)]
pub struct Demo {
    // In this order: the site lets go of its database before the folder is removed.
    runtime: Runtime,
    directory: TemporaryDirectory,
    config: Config,
}

impl Demo {
    /// Starts the sample site in a new temporary folder and configures the sidecar for it. Fails with a
    /// message for the user when the port is taken.
    pub fn prepare(options: Options) -> anyhow::Result<Self> {
        let directory = TemporaryDirectory::create()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("demo")
            .enable_all()
            .build()
            .context("cannot start the demo's runtime")?;
        let database = directory.path().join("site.sqlite3");
        let upstream = runtime
            .block_on(site::start(&database))
            .context("cannot start the sample site")?;
        let config = sidecar::configure(directory.path(), &database, upstream, options.port)?;
        runtime
            .block_on(store::migrate(&config, false))
            .context("cannot prepare the sample site's database")?;
        Ok(Self {
            runtime,
            directory,
            config,
        })
    }

    /// The sidecar's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The site's address, through the sidecar.
    pub fn site(&self) -> SocketAddr {
        self.config.listen.http[0]
    }

    /// The lines that the banner offers for pasting, to be run in this order. They work while the demo runs.
    pub fn commands(&self) -> Vec<DemoCommand> {
        commands::list(self.site(), self.config.listen.admin, self.directory.path())
    }

    /// Lets `start` run the sidecar, and once it answers prints the banner and starts the members. Returns when
    /// `start` does; the temporary folder is then removed.
    pub fn run(self, start: impl FnOnce(Config, PathBuf) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let site = self.site();
        let banner = self.banner();
        self.runtime.spawn(async move {
            if timeout(START_LIMIT, answers(site)).await.is_err() {
                tracing::warn!(%site, "the sidecar does not answer; the demo goes on without simulated members");
                return;
            }
            // Standard output may be closed.
            let _ = std::io::stdout().write_all(banner.as_bytes());
            members::start(site);
        });
        let result = start(self.config, self.directory.path().to_owned());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        result
    }

    fn banner(&self) -> String {
        let guests: Vec<_> = MEMBERS.iter().filter(|m| m.guest).map(|m| m.username).collect();
        let others: Vec<_> = MEMBERS.iter().filter(|m| !m.guest).map(|m| m.username).collect();
        let mut text = format!(
            "\n  Headcount demo\n\n  site       http://{site}/\n  dashboard  http://{admin}/\n  \
             sign in    as {guests}; {others} wander about by themselves\n  \
             routes     {routes} (edit them while it runs)\n\n",
            site = self.site(),
            admin = self.config.listen.admin,
            guests = guests.join(" or "),
            others = others.join(", "),
            routes = self.config.routes.dir.display(),
        );
        for DemoCommand { title, line } in self.commands() {
            let _ = writeln!(text, "  {title}\n{line}");
        }
        text.push_str("\n  Ctrl-C stops it; nothing stays behind.\n\n");
        text
    }
}

/// Waits until the site answers through the sidecar.
async fn answers(site: SocketAddr) {
    let browser = Browser::new(site, browser::USER_AGENTS[0]);
    while !matches!(browser.open("/healthz").await, Ok(200)) {
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_there_while_the_sidecar_runs_and_gone_afterwards() {
        let demo = Demo::prepare(Options { port: 0 }).unwrap();
        let folder = demo.directory.path().to_owned();
        demo.run(|config, _| {
            assert!(config.routes.dir.starts_with(&folder) && config.routes.dir.exists());
            Ok(())
        })
        .unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn an_error_of_the_sidecar_is_passed_on() {
        let error = run(Options { port: 0 }, |_, _| anyhow::bail!("no luck")).unwrap_err();
        assert_eq!(error.to_string(), "no luck");
    }

    #[test]
    fn the_banner_names_the_site_the_members_and_every_command() {
        let demo = Demo::prepare(Options { port: 0 }).unwrap();
        let banner = demo.banner();
        assert!(banner.contains(&format!("site       http://{}/\n", demo.site())));
        assert!(banner.contains(&format!("dashboard  http://{}/\n", demo.config().listen.admin)));
        assert!(banner.contains("ada") && banner.contains("bram"));
        for command in demo.commands() {
            assert!(
                banner.lines().any(|line| line == command.line),
                "{}",
                command.line
            );
        }
    }
}
