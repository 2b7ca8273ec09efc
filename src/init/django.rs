//! What a Django site says of itself: runs its own `manage.py shell`, within a time and with a bounded answer.
//!
//! The script only reads: settings, URL patterns and models. It needs no database.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::config::Secret;

/// What is run. The answer is one line that begins with [`MARK`].
const SCRIPT: &str = include_str!("django.py");
const MARK: &str = "HEADCOUNT ";
/// Longest time for the site to start and answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 16 << 20;
/// Most bytes that are kept of what the site says on standard error.
const MAX_ERROR: u64 = 64 << 10;

/// A site's own description.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Site {
    /// Settings by name.
    pub(super) settings: Settings,
    /// Further settings that name cookies, and those names.
    pub(super) cookies: BTreeMap<String, String>,
    /// `DATABASES["default"]`.
    pub(super) database: Database,
    /// `SIMPLE_JWT`, without its keys.
    pub(super) tokens: Option<Tokens>,
    pub(super) models: Vec<Model>,
    pub(super) patterns: Vec<Pattern>,
}

/// The settings that matter behind a proxy. Django always has them all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(clippy::struct_excessive_bools, reason = "as Django has them")]
pub(super) struct Settings {
    pub allowed_hosts: Vec<String>,
    pub auth_user_model: String,
    pub csrf_trusted_origins: Vec<String>,
    pub debug: bool,
    pub installed_apps: Vec<String>,
    pub media_url: Option<String>,
    pub static_url: Option<String>,
    pub middleware: Vec<String>,
    pub secure_proxy_ssl_header: Option<Vec<String>>,
    pub secure_ssl_redirect: bool,
    pub session_cookie_name: String,
    pub session_cookie_secure: bool,
    pub csrf_cookie_secure: bool,
    pub session_engine: String,
    pub session_serializer: String,
    pub time_zone: Option<String>,
    pub use_tz: bool,
    pub use_x_forwarded_host: bool,
    pub force_script_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
pub(super) struct Database {
    pub engine: String,
    pub name: String,
    pub user: String,
    pub password: Option<Secret>,
    pub host: String,
    pub port: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct Tokens {
    pub algorithm: Option<String>,
    pub user_id_claim: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    /// Name, in small letters.
    #[serde(rename = "model")]
    pub name: String,
    /// `db_table`.
    pub table: String,
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Field {
    pub column: String,
    #[serde(default)]
    pub unique: bool,
    pub refers: Option<Refers>,
    pub default: Option<Plain>,
    /// Values that the site knows; none where it has no list.
    #[serde(default)]
    pub choices: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refers {
    pub table: String,
    pub column: String,
}

/// A default that is a plain value.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Plain {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Plain {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Flag(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

/// One URL pattern, with those that include it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Pattern {
    /// Regular expressions of Python, outermost first.
    pub parts: Vec<String>,
    pub name: String,
    /// The view, with its module.
    pub view: String,
    /// Table of the view's model.
    pub table: Option<String>,
}

impl Database {
    /// The URL of the database, in which there may be a password; none for one that the sidecar does not know.
    pub(super) fn url(&self) -> Option<Secret> {
        let engine = self.engine.to_ascii_lowercase();
        let encoded = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        if engine.contains("sqlite") {
            return Some(Secret::new(format!("sqlite://{}", self.name)));
        }
        if !engine.contains("postg") {
            return None;
        }
        let password = self
            .password
            .as_ref()
            .map(|password| format!(":{}", encoded(password.expose())));
        let user = match (&*self.user, password) {
            ("", _) => String::new(),
            (user, password) => format!("{}{}@", encoded(user), password.unwrap_or_default()),
        };
        let (host, name) = (&self.host, encoded(&self.name));
        let port = match &*self.port {
            "" => String::new(),
            port => format!(":{port}"),
        };
        Some(Secret::new(match &**host {
            "" => format!("postgres://{user}localhost{port}/{name}?host=/var/run/postgresql"),
            socket if socket.starts_with('/') => {
                format!("postgres://{user}localhost{port}/{name}?host={}", encoded(socket))
            }
            host => format!("postgres://{user}{host}{port}/{name}"),
        }))
    }
}

/// Why the site could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DjangoError {
    /// No `manage.py`.
    #[error("{0}: there is no manage.py; name the folder of the Django project with --django")]
    NoProject(PathBuf),
    /// The interpreter does not start.
    #[error("{python} cannot be run ({reason}); name the site's Python with --python")]
    NoPython {
        /// As it was called.
        python: String,
        /// Why.
        reason: String,
    },
    /// It did not answer in time.
    #[error("{0} did not answer within 60 seconds; try `{0} shell` by hand")]
    Slow(String),
    /// The answer is too long.
    #[error("{0} answered with more than 16 MiB")]
    Long(String),
    /// It failed.
    #[error(
        "{command} failed; it needs the environment in which the site runs, and the site's Python (--python):\n{said}"
    )]
    Failed {
        /// What was run.
        command: String,
        /// The end of what it said.
        said: String,
    },
    /// The answer cannot be read.
    #[error("the answer of {command} cannot be read: {reason}")]
    Answer {
        /// What was run.
        command: String,
        /// Why.
        reason: String,
    },
}

/// Asks the site in `project`, a folder or its `manage.py`, with `python` or the one that its folder has.
///
/// # Errors
/// The site cannot be asked; each with its cure.
pub fn ask(project: &Path, python: Option<&Path>) -> Result<Site, DjangoError> {
    ask_within(project, python, LIMIT, MAX_ANSWER)
}

fn ask_within(
    project: &Path,
    python: Option<&Path>,
    limit: Duration,
    most: u64,
) -> Result<Site, DjangoError> {
    let (folder, script) = match project.file_name() {
        Some(name) if project.is_file() => (project.parent().unwrap_or(Path::new(".")), PathBuf::from(name)),
        _ => (project, PathBuf::from("manage.py")),
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    if !folder.join(&script).is_file() {
        return Err(DjangoError::NoProject(project.to_owned()));
    }
    let python = python.map_or_else(
        || python_of(folder),
        |python| std::path::absolute(python).unwrap_or(python.into()),
    );
    let command = format!("{} {}", python.display(), folder.join(&script).display());
    // In a dictionary of its own: as part of the shell's own function its functions would not see each other.
    let code = serde_json::to_string(SCRIPT).expect("text");
    let child = Command::new(&python)
        .arg(&script)
        .args(["shell", "-v", "0", "-c"])
        .arg(format!("exec({code}, {{'__name__': 'headcount'}})"))
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| DjangoError::NoPython {
            python: python.display().to_string(),
            reason: error.to_string(),
        })?;
    let (out, said, ended_well) = finish(child, limit, most).map_err(|cut| match cut {
        Cut::Slow => DjangoError::Slow(command.clone()),
        Cut::Long => DjangoError::Long(command.clone()),
    })?;
    let answer = out.lines().find_map(|line| line.strip_prefix(MARK));
    match answer {
        Some(answer) => serde_json::from_str(answer).map_err(|error| DjangoError::Answer {
            command,
            reason: error.to_string(),
        }),
        None if ended_well => Err(DjangoError::Answer {
            command,
            reason: "there is no line with it".into(),
        }),
        None => Err(DjangoError::Failed {
            command,
            said: last_lines(&said),
        }),
    }
}

/// The interpreter of the project's virtual environment, the active one, or the system's.
fn python_of(folder: &Path) -> PathBuf {
    let beside = [".venv", "venv", "env"].map(|name| folder.join(name));
    let above = [".venv", "venv", "env"].map(|name| folder.join("..").join(name));
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = beside.into_iter().chain(active).chain(above);
    let pythons = environments.map(|environment| environment.join("bin/python"));
    let found = pythons
        .filter(|python| python.is_file())
        .find_map(|python| std::path::absolute(python).ok());
    found.unwrap_or_else(|| "python3".into())
}

enum Cut {
    Slow,
    Long,
}

/// Waits for a process with what it prints; whether it ended well. Whatever it has started ends with it.
fn finish(mut child: Child, limit: Duration, most: u64) -> Result<(String, String, bool), Cut> {
    let (sender, receiver) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let out = read(out, most + 1, sender.clone());
    // Read to its end, so that the site never waits.
    let err = read(err, MAX_ERROR, sender);
    let deadline = std::time::Instant::now() + limit;
    let mut cut = None;
    for _ in 0..2 {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match receiver.recv_timeout(left) {
            Ok(bytes) if bytes > most => cut = Some(Cut::Long),
            Ok(_) => {}
            Err(_) => cut = Some(Cut::Slow),
        }
        if cut.is_some() {
            break;
        }
    }
    if cut.is_some() {
        kill(&child);
    }
    let status = child.wait();
    match cut {
        Some(cut) => Err(cut),
        None => Ok((
            out.join().unwrap_or_default(),
            err.join().unwrap_or_default(),
            status.is_ok_and(|status| status.success()),
        )),
    }
}

/// Kills a process and all that it has started.
fn kill(child: &Child) {
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

/// Reads up to `most` bytes, in a thread of its own, which tells how many there were.
fn read<R: Read + Send + 'static>(
    from: Option<R>,
    most: u64,
    tell: mpsc::Sender<u64>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(most).read_to_end(&mut bytes);
            let kept = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if kept >= most && most > MAX_ERROR {
                let _ = tell.send(kept);
                return String::new();
            }
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
        let _ = tell.send(0);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The last lines of what a program said: the cause of a traceback stands at its end.
fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    last.iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project whose `manage.py` does what a line of shell says; the interpreter is a shell.
    fn project(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("manage.py"), script).expect("a file");
        folder
    }

    fn asked(script: &str, limit: Duration) -> Result<Site, DjangoError> {
        let project = project(script);
        ask_within(project.path(), Some(Path::new("/bin/sh")), limit, 1 << 17)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn d4_the_answer_is_one_line_whatever_else_is_said() {
        let site = asked(
            "echo 5 objects imported automatically; echo noise >&2\necho 'HEADCOUNT {\"cookies\": {\"A\": \"b\"}}'; echo more",
            LONG,
        );
        assert_eq!(site.expect("an answer").cookies["A"], "b");
    }

    #[test]
    fn d4_a_site_that_fails_is_quoted() {
        let error = asked("echo first >&2; echo 'No module named django' >&2; exit 3", LONG);
        let error = error.expect_err("it failed").to_string();
        assert!(
            error.contains("No module named django") && error.contains("--python"),
            "{error}"
        );
    }

    #[test]
    fn d4_a_site_that_hangs_is_killed_with_what_it_started() {
        let error = asked("sleep 1000 & sleep 1000", Duration::from_millis(50)).expect_err("it hangs");
        assert!(error.to_string().contains("did not answer"), "{error}");
    }

    #[test]
    fn d4_an_endless_answer_is_cut() {
        let error = asked(
            "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
            LONG,
        );
        let error = error.expect_err("it is too long").to_string();
        assert!(error.contains("more than"), "{error}");
    }

    #[test]
    fn d4_a_folder_without_a_project_and_a_python_that_is_none_are_named() {
        let empty = tempfile::tempdir().expect("a folder");
        let error = ask(empty.path(), None).expect_err("no project").to_string();
        assert!(error.contains("no manage.py"), "{error}");
        let project = project("");
        let error = ask(project.path(), Some(Path::new("/nowhere/python"))).expect_err("no python");
        assert!(error.to_string().contains("--python"), "{error}");
    }

    #[test]
    fn urls_of_databases_are_those_that_the_sidecar_reads() {
        let of = |engine: &str, host: &str, password: Option<&str>| {
            let database = Database {
                engine: format!("django.db.backends.{engine}"),
                name: "site".into(),
                user: "app".into(),
                password: password.map(Secret::new),
                host: host.into(),
                port: "5432".into(),
            };
            database.url().map(|url| url.expose().to_owned())
        };
        assert_eq!(
            of("postgresql", "db", Some("p@ss/")).as_deref(),
            Some("postgres://app:p%40ss%2F@db:5432/site")
        );
        assert_eq!(
            of("postgresql", "", None).as_deref(),
            Some("postgres://app@localhost:5432/site?host=/var/run/postgresql")
        );
        assert_eq!(of("sqlite3", "", None).as_deref(), Some("sqlite://site"));
        assert_eq!(of("mysql", "db", None), None);
    }
}
