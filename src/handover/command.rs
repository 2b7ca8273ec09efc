//! `headcount upgrade`: the whole hand-over in one command, for operators and for systemd.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::Stage;

/// Bytes of a process' name that the system keeps: `TASK_COMM_LEN` without the end mark (`proc(5)`).
const LONGEST_NAME: usize = 15;

/// Why the hand-over failed. The running sidecar goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// There is no such process, or it is another user's.
    #[error("process {pid} cannot be signalled ({error}); --pid names the running sidecar")]
    Pid {
        /// As given.
        pid: u32,
        /// The system's reason.
        error: io::Error,
    },
    /// It runs another program, which the signal may kill.
    #[error("process {pid} is {program}, no headcount; --pid names the running sidecar")]
    Other {
        /// As given.
        pid: u32,
        /// The file name of its program.
        program: String,
    },
    /// This binary cannot be started.
    #[error("the new process cannot be started ({0})")]
    Start(#[from] io::Error),
    /// The new process reported the reason, and ended.
    #[error("the new process did not take over; the running sidecar goes on serving")]
    Ended {
        /// Its exit code.
        code: Option<i32>,
    },
}

/// Starts this binary with a configuration as the successor of the sidecar with process id `pid`. Returns its process
/// id once it serves; it then runs on its own and logs where the old one did, and the old one ends. Until then it logs
/// to the standard error of this process. The new process limits the waits.
pub fn upgrade(pid: u32, config: &Path) -> Result<u32, UpgradeError> {
    let failed = |error: io::Error| UpgradeError::Pid { pid, error };
    let old = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    test_kill_process(old).map_err(|error| failed(error.into()))?;
    is_a_sidecar(pid)?;
    let mut new = start(config)?;
    let output = new.stdout.take().map(BufReader::new);
    for line in output.into_iter().flat_map(BufReader::lines) {
        let line = line?;
        if line == Stage::Waiting.line() {
            if let Err(error) = kill_process(old, Signal::QUIT) {
                // It has served no client yet.
                let _ = new.kill();
                let _ = new.wait();
                return Err(failed(error.into()));
            }
        } else if line == Stage::Serving.line() {
            return Ok(new.id());
        }
    }
    let code = new.wait()?.code();
    Err(UpgradeError::Ended { code })
}

/// Checks that the process runs this program: SIGQUIT ends others. Where the system shows neither the file that a process
/// runs nor its name, the caller is trusted.
fn is_a_sidecar(pid: u32) -> Result<(), UpgradeError> {
    if has_ended(pid) {
        let error = io::Error::new(io::ErrorKind::NotFound, "it has ended");
        return Err(UpgradeError::Pid { pid, error });
    }
    let ours = std::env::current_exe()?;
    let ours = ours.file_name().unwrap_or_default().to_string_lossy();
    let Some((program, ours)) = file_of(pid)
        .map(|program| (program, &*ours))
        // The file of another user's process is not shown.
        .or_else(|| Some((name_of(pid)?, ours.get(..LONGEST_NAME).unwrap_or(&ours))))
    else {
        return Ok(());
    };
    // The file may have been replaced since the process started.
    if program.strip_suffix(" (deleted)").unwrap_or(&program) == ours {
        Ok(())
    } else {
        Err(UpgradeError::Other { pid, program })
    }
}

/// Whether a process has ended and only its parent does not know yet, as `proc_pid_stat(5)` has it.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything, a parenthesis too.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}

/// The name of the file that a process runs.
fn file_of(pid: u32) -> Option<String> {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(program.file_name()?.to_string_lossy().into_owned())
}

/// The name of a process.
fn name_of(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn start(config: &Path) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["run", "--upgrade", "--take-over-log", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}
