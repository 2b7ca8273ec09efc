//! The built binary: processes of it, and commands that are run to their end.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::service::{Service, wait_until};

/// The built binary, unless another is to be tested.
const BINARY: &str = env!("CARGO_BIN_EXE_headcount");

/// One process of a sidecar.
pub struct Process {
    service: Option<Service>,
    log: PathBuf,
}

impl Process {
    /// Starts the binary with `directory` as its working directory and place of its log.
    pub fn start(directory: &Path, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self {
            service: Some(Service::start(directory, &binary(), arguments, environment)),
            log: directory.join("log"),
        }
    }

    /// The same through a line of shell, which has the binary and its arguments in `"$@"`.
    pub fn start_through(line: &str, directory: &Path, arguments: &[&str]) -> Self {
        let binary = binary();
        let mut command = vec!["-c", line, "through", &*binary];
        command.extend(arguments);
        Self {
            service: Some(Service::start(directory, "bash", command, &[])),
            log: directory.join("log"),
        }
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("a process that was not waited for")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.service().pid()
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        self.service().signal(name);
    }

    /// The file of what it prints and logs.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What the process has printed and logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    pub fn says(&self, what: &str) {
        wait_until(what, || self.log().contains(what));
    }

    /// Waits until it has ended by itself; returns its exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.service.take().expect("waited for once").wait_for_end()
    }
}

/// The binary that is tested. Measurements are of a release build.
pub fn binary() -> String {
    std::env::var("HEADCOUNT_TEST_BINARY").unwrap_or_else(|_| BINARY.into())
}

/// Runs the binary to its end, with `environment` over this process' own. Should it not end by itself, its
/// exit code is 124.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Told {
    let output = Command::new("timeout")
        .args(["120", &*binary()])
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Told {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Told {
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}
