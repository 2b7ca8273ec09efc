//! The sidecar as operators run it: the built binary with a configuration file.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::process::Process;
use super::service::{BETWEEN_LOOKS, LONGEST_WAIT, free_port, wait_until};

/// Route file of the tests: the communities of the site, by id and by slug.
pub const ROUTES: &str = r#"
[[route]]
name = "community-post"
pattern = '^/communities/(?P<community>[0-9a-f-]+)/posts/(?P<post>\d+)/?$'
page_type = "post"
presence = ["community", "post"]
# The site looks for the post in this community.
grants = true

[[route]]
name = "community-search"
pattern = '^/communities/(?P<community>[0-9a-f-]+)/search/?$'
page_type = "search"
search_param = "q"

[[route]]
name = "community"
pattern = '^/communities/(?P<community>[0-9a-f-]+)/?$'
page_type = "community"

[[route]]
name = "community-by-slug"
pattern = '^/c/(?P<community_slug>[a-z0-9-]+)/?$'
page_type = "community"

[[route]]
name = "health"
pattern = '^/healthz$'
track = "none"
"#;

/// What a new process prints when it waits for the running one.
pub const WAITING: &str = "ready: send SIGQUIT to the running sidecar";
/// What it prints when it has taken over.
pub const SERVING: &str = "serving: the sockets have been handed over";

/// A running sidecar.
pub struct Sidecar {
    pub port: u16,
    pub admin: u16,
    directory: TempDir,
    process: Option<Process>,
    /// The log of the process that runs, or ran last.
    log: PathBuf,
}

/// Writes a configuration with a route file beside it; returns the configuration's path.
pub fn write_config(directory: &Path, config: &str, routes: &str) -> PathBuf {
    std::fs::create_dir_all(directory.join("routes.d")).expect("a folder");
    std::fs::write(directory.join("routes.d/site.toml"), routes).expect("a route file");
    let path = directory.join("headcount.toml");
    std::fs::write(&path, config).expect("a configuration");
    path
}

impl Sidecar {
    /// Starts the sidecar with `config` (all sections but `[listen]`) and waits until it serves.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, ROUTES)
    }

    /// The same with other routes.
    pub fn start_with(config: &str, routes: &str) -> Self {
        let (port, admin) = (free_port(), free_port());
        let config =
            format!("{config}\n[listen]\nhttp = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\n");
        let directory = super::cleaner::folder();
        write_config(directory.path(), &config, routes);
        let mut sidecar = Self {
            port,
            admin,
            log: directory.path().join("log"),
            directory,
            process: None,
        };
        sidecar.restart();
        sidecar
    }

    /// Starts the sidecar with the configuration that `directory` has, and waits until it serves.
    pub fn start_in(directory: TempDir, environment: &[(&str, String)]) -> Self {
        let (port, admin) = (free_port(), free_port());
        let mut environment = environment.to_vec();
        environment.extend([
            ("HEADCOUNT__LISTEN__HTTP", format!("[\"127.0.0.1:{port}\"]")),
            ("HEADCOUNT__LISTEN__ADMIN", format!("127.0.0.1:{admin}")),
        ]);
        let mut sidecar = Self {
            port,
            admin,
            log: directory.path().join("log"),
            directory,
            process: None,
        };
        sidecar.restart_with(&environment);
        sidecar
    }

    /// Starts the process again, with the same configuration.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, with more in its environment.
    pub fn restart_with(&mut self, environment: &[(&str, String)]) {
        self.kill();
        self.log = self.directory.path().join("log");
        let before = self.log().len();
        let arguments = ["run", "--config", &self.config()];
        self.process = Some(Process::start(self.directory.path(), &arguments, environment));
        wait_until("the sidecar", || self.log()[before..].contains("ready"));
    }

    /// Starts the process again through a line of shell, which runs `"$@"`, and waits until it serves.
    pub fn restart_through(&mut self, line: &str) {
        self.kill();
        let arguments = ["run", "--config", &self.config()];
        self.process = Some(Process::start_through(line, self.directory.path(), &arguments));
        // What it says may not be heard.
        wait_until("the sidecar", || self.is_ready());
    }

    fn is_ready(&self) -> bool {
        let ask = || {
            let mut admin = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin))?;
            admin.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            std::io::read_to_string(admin)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"))
    }

    /// The configuration's path.
    pub fn config(&self) -> String {
        let path = self.directory.path().join("headcount.toml");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Starts a process that wants to take over.
    pub fn newcomer(&self) -> Process {
        Process::start(
            &self.folder(),
            &["run", "--upgrade", "--config", &self.config()],
            &[],
        )
    }

    /// A new folder, for the log of a process.
    pub fn folder(&self) -> PathBuf {
        tempfile::tempdir_in(self.directory())
            .expect("a directory")
            .keep()
    }

    /// The process that runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("a running sidecar")
    }

    /// Has the running process hand over to a new one. Returns the old one, which ends by itself.
    pub fn hand_over(&mut self) -> Process {
        let new = self.newcomer();
        new.says(WAITING);
        self.signal("QUIT");
        new.says(SERVING);
        self.replace_with(new)
    }

    /// From now on `new` is the process that runs. Returns the old one.
    pub fn replace_with(&mut self, new: Process) -> Process {
        self.adopt(new).expect("a running sidecar")
    }

    /// The same, where perhaps none runs.
    pub fn adopt(&mut self, new: Process) -> Option<Process> {
        new.log_file().clone_into(&mut self.log);
        self.process.replace(new)
    }

    /// Kills the process, if it runs.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What the process has logged, once that contains `text`: a line is written a moment after what it tells of.
    pub fn says(&self, text: &str) -> String {
        wait_until(text, || self.log().contains(text));
        self.log()
    }

    /// The folder with configuration and route files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        self.process().signal(name);
    }

    /// Memory of the process that is in use.
    pub fn resident_bytes(&self) -> usize {
        let pid = self.process().pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.split_whitespace().next())
            .expect("a size");
        kib.parse::<usize>().expect("a number") * 1_024
    }

    /// Waits until the process has ended by itself; returns its exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.process.take().expect("a running sidecar").wait_for_end()
    }

    /// A URL of the site through the sidecar.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A URL of the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    /// All metrics by name with labels, as Prometheus would read them.
    pub async fn metrics(&self) -> HashMap<String, f64> {
        let text = reqwest::get(self.admin_url("/metrics"))
            .await
            .expect("metrics")
            .text()
            .await
            .expect("text");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    /// One metric; panics when it does not exist.
    pub async fn metric(&self, name: &str) -> f64 {
        *self
            .metrics()
            .await
            .get(name)
            .unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// One metric that is a whole number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    pub async fn count(&self, name: &str) -> usize {
        self.metric(name).await as usize
    }

    /// Waits until a metric satisfies `holds`.
    pub async fn wait_for_metric(&self, name: &str, holds: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let value = self.metric(name).await;
            if holds(value) {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "{name} stays at {value}; others: {:?}; the log says:\n{}",
                self.metrics()
                    .await
                    .into_iter()
                    .filter(|(_, value)| *value != 0.0)
                    .collect::<Vec<_>>(),
                self.log()
            );
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Waits until no page view is on its way to presence or database.
    pub async fn wait_until_idle(&self) {
        // In the order in which a view passes them.
        for queue in ["recorder", "lookups", "presence", "writer"] {
            let name = format!("headcount_recorder_queue_views{{queue=\"{queue}\"}}");
            self.wait_for_metric(&name, |views| views == 0.0).await;
        }
        self.wait_for_metric("headcount_spool_views", |views| views == 0.0)
            .await;
    }
}
