//! The binary as operators call it: exit codes, and one readable message for everything that is wrong.

mod check;
mod configuration;
mod migrate;
mod route_files;
mod spool;
mod usage;

use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::process::{self, Told};
use crate::support::service::free_port;
use crate::support::sidecar;

/// A configuration that is in order, but for what a test adds: its database is nowhere.
const IN_ORDER: &str =
    "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n";

/// A folder with configuration and route files. Its ports are taken by the test itself: what fails before
/// they are bound says nothing of them.
struct Folder {
    directory: TempDir,
    config: PathBuf,
    taken: Option<TcpListener>,
}

impl Folder {
    fn new(config: &str, routes: &str) -> Self {
        let taken = TcpListener::bind(("127.0.0.1", free_port())).expect("a free port");
        let port = taken.local_addr().expect("an address").port();
        let directory = tempfile::tempdir().expect("a directory");
        let config = format!("{config}\n[listen]\nhttp = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:0\"\n");
        Self {
            config: sidecar::write_config(directory.path(), &config, routes),
            directory,
            taken: Some(taken),
        }
    }

    /// Lets go of the port: for what fails later.
    fn with_its_port_free(mut self) -> Self {
        self.taken = None;
        self
    }

    fn path(&self, file: &str) -> String {
        self.directory
            .path()
            .join(file)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    }

    /// Runs a command with this folder's configuration file.
    fn run(&self, arguments: &[&str]) -> Told {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Told {
        let config = ["--config", self.config.to_str().expect("UTF-8")];
        process::run(&[arguments, &config].concat(), environment)
    }
}

impl Told {
    /// One line on standard error, and nothing on standard output.
    #[track_caller]
    fn is_one_message(&self, code: i32, message: &str) {
        assert_eq!(self.err, format!("headcount: {message}\n"));
        assert_eq!((self.code, &*self.out), (Some(code), ""));
    }
}
