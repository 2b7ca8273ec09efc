//! Runs the site's `manage.py shell` with a script that prints its description, and reads the answer.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Cut, answer_of};
use super::{DjangoError, DjangoSite};

/// The script. Its answer is one line that begins with [`MARK`].
const SCRIPT: &str = include_str!("../django.py");
const MARK: &str = "HEADCOUNT ";
/// Longest time for the site to start and answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 16 << 20;
/// Most folders in which a virtual environment is looked for.
const MAX_FOLDERS: usize = 1000;

/// Asks the site in `project`, a folder or its `manage.py`, with `python` or the one that its folder has.
///
/// # Errors
/// The site cannot be asked; each message names the remedy.
pub fn ask(project: &Path, python: Option<&Path>) -> Result<DjangoSite, DjangoError> {
    ask_within(project, python, LIMIT, MAX_ANSWER)
}

fn ask_within(
    project: &Path,
    python: Option<&Path>,
    limit: Duration,
    most: u64,
) -> Result<DjangoSite, DjangoError> {
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
    let is_named = python.is_some();
    let python = python.map_or_else(
        || python_of(folder),
        |python| std::path::absolute(python).unwrap_or(python.into()),
    );
    let command = format!("{} {}", python.display(), folder.join(&script).display());
    // With globals of its own: inside the shell's function, functions of the script would not see each other.
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
            example: example(folder, &python),
        })?;
    let answer = answer_of(child, MARK, limit, most).map_err(|cut| match cut {
        Cut::Slow => DjangoError::Slow(command.clone()),
        Cut::Long => DjangoError::Long(command.clone()),
    })?;
    match answer.line {
        Some(line) => serde_json::from_str(&line).map_err(|error| DjangoError::Answer {
            command,
            reason: error.to_string(),
        }),
        None if answer.ended_well => Err(DjangoError::Answer {
            command,
            reason: "it printed no line that begins with HEADCOUNT".into(),
        }),
        None if lacks_django(&answer.said) => Err(DjangoError::NoDjango {
            example: example(folder, &python),
            python: python.display().to_string(),
        }),
        None => Err(DjangoError::Failed {
            // A Python that was named, and has Django, is the site's.
            example: (!is_named).then(|| example(folder, &python)),
            command,
            said: last_lines(&answer.said),
        }),
    }
}

/// Whether a traceback, or Django's own `manage.py`, says that Django is not installed.
fn lacks_django(said: &str) -> bool {
    said.contains("No module named 'django'") || said.contains("Couldn't import Django")
}

/// The interpreter of the project's virtual environment, the active one, or the system's.
fn python_of(folder: &Path) -> PathBuf {
    let usual = |folder: PathBuf| [".venv", "venv", "env"].map(|name| folder.join(name));
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let environments = usual(folder.into()).into_iter().chain(active);
    let environments = environments.chain(usual(folder.join("..")));
    environments
        .chain(environments_in(folder))
        .find_map(|environment| python_in(&environment))
        .unwrap_or_else(|| "python3".into())
}

/// An interpreter for the error's example, other than the one tried: of an existing virtual environment, else the usual
/// path of one.
fn example(folder: &Path, tried: &Path) -> String {
    let above = folder.join("..");
    let near = environments_in(folder).chain(environments_in(&above));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let kept = home
        .iter()
        .flat_map(|home| {
            [
                home.join(".virtualenvs"),
                home.join(".cache/pypoetry/virtualenvs"),
            ]
        })
        .flat_map(|folder| environments_in(&folder));
    let mut pythons = near.chain(kept).filter_map(|environment| python_in(&environment));
    let found = pythons.find(|python| python != tried);
    let usual = || {
        std::path::absolute(folder)
            .unwrap_or(folder.into())
            .join(".venv/bin/python")
    };
    found.unwrap_or_else(usual).display().to_string()
}

/// The virtual environments directly in a folder, by name.
fn environments_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(MAX_FOLDERS);
    let mut environments: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("pyvenv.cfg").is_file())
        .collect();
    environments.sort();
    environments.into_iter()
}

fn python_in(environment: &Path) -> Option<PathBuf> {
    let python = environment.join("bin/python");
    python
        .is_file()
        .then(|| std::path::absolute(&python).ok())
        .flatten()
}

/// The last lines of a program's output: a traceback ends with its cause.
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

    fn asked(script: &str, limit: Duration) -> Result<DjangoSite, DjangoError> {
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
            error.contains("No module named django")
                && error.contains("the environment in which the site runs"),
            "{error}"
        );
        // The Python was named, and is the site's.
        assert!(!error.contains("--python"), "{error}");
    }

    #[test]
    fn d4_a_site_that_hangs_is_killed_with_what_it_started() {
        let error = asked("sleep 1000 & sleep 1000", Duration::from_millis(50)).expect_err("it hangs");
        assert!(error.to_string().contains("did not answer"), "{error}");
    }

    #[test]
    fn d18_an_answer_is_not_waited_for_again() {
        // Its own end does not come, as where an app has started a thread; or others keep its output open, also out of
        // reach of signals to its group.
        for rest in [
            "sleep 1000",
            "sleep 1000 & exit 0",
            "setsid sh -c 'echo $$ > pid; exec sleep 1000' & exit 0",
        ] {
            let project = project(&format!("echo 'HEADCOUNT {{}}'; {rest}"));
            let answer = ask_within(project.path(), Some(Path::new("/bin/sh")), LONG, 1 << 17);
            assert!(answer.is_ok(), "{rest}: {answer:?}");
            end(&project.path().join("pid"));
        }
    }

    /// Ends the process whose id is in a file.
    fn end(pid: &Path) {
        let id = std::fs::read_to_string(pid).ok();
        let id = id.and_then(|id| rustix::process::Pid::from_raw(id.trim().parse().ok()?));
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }

    #[test]
    fn d18_a_site_that_says_no_more_and_does_not_end_is_killed() {
        let deaf = "trap '' TERM HUP INT; exec >&- 2>&-; while :; do sleep 1; done";
        let error = asked(deaf, Duration::from_millis(50)).expect_err("it hangs");
        assert!(error.to_string().contains("did not answer"), "{error}");
    }

    #[test]
    fn d4_a_python_without_django_is_told_with_one_that_has_it() {
        let script = "echo \"ModuleNotFoundError: No module named 'django'\" >&2; exit 1";
        let project = project(script);
        let ask = || ask_within(project.path(), Some(Path::new("/bin/sh")), LONG, 1 << 17);
        let error = ask().expect_err("no Django").to_string();
        assert!(
            error.contains("--python /") && error.contains("/bin/python") && error.contains("virtual"),
            "{error}"
        );
        let python = project.path().join("site-python/bin/python");
        std::fs::create_dir_all(python.parent().expect("a folder")).expect("a folder");
        std::fs::write(&python, "").expect("a file");
        std::fs::write(project.path().join("site-python/pyvenv.cfg"), "").expect("a file");
        let error = ask().expect_err("no Django").to_string();
        assert!(
            error.contains(&format!("--python {}", python.display())),
            "{error}"
        );
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
}
