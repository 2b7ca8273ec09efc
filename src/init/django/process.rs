//! Runs a program that prints one line of interest, with limits of time and bytes. Afterwards its process group is killed;
//! processes that have left the group and keep its output open are not waited for.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Most bytes of standard error that are kept.
const MAX_ERROR: u64 = 64 << 10;
/// How long a process that was killed may take to end, and the rest of its output to arrive.
const GRACE: Duration = Duration::from_secs(5);

/// What the program printed, and how it ended.
#[derive(Debug)]
pub(super) struct ProcessOutput {
    /// The rest of the line that begins with the mark, if there was one.
    pub line: Option<String>,
    /// The beginning of its standard error.
    pub said: String,
    /// Whether it exited with status 0 by itself.
    pub ended_well: bool,
}

/// Why there is no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Slow,
    Long,
}

enum ProcessEvent {
    /// The line was read.
    Line(String),
    /// Standard output ended without it.
    NoLine,
    /// Too many bytes were read.
    TooLong,
    /// Standard error ended.
    Said,
    /// The process ended. It is not reaped yet, so that its id is not used again.
    Ended,
}

/// Waits until a process that leads a group of its own has printed a line that begins with `mark`, or has ended; its group
/// is killed then.
///
/// # Errors
/// `limit` has passed, or it printed more than `most` bytes.
pub(super) fn answer_of(
    mut child: Child,
    mark: &'static str,
    limit: Duration,
    most: u64,
) -> Result<ProcessOutput, Cut> {
    let (sender, events) = mpsc::channel();
    let said = Arc::new(Mutex::new(Vec::new()));
    if let Some(out) = child.stdout.take() {
        let sender = sender.clone();
        thread::spawn(move || sender.send(line_of(out, mark, most)));
    }
    if let Some(err) = child.stderr.take() {
        let (sender, said) = (sender.clone(), Arc::clone(&said));
        thread::spawn(move || keep(err, &said, &sender));
    }
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    thread::spawn(move || wait_for(group, &sender));

    let mut state = ProcessState::default();
    let is_done = |state: &ProcessState| state.line.is_some() || state.is_too_long || state.has_ended;
    let mut cut = state.wait(&events, Instant::now() + limit, is_done);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Output from before the end may still arrive; another process may keep the pipe open, so the wait is bounded.
    let has_all = |state: &ProcessState| state.line.is_some() || state.is_answered() && state.has_said;
    let is_over = |state: &ProcessState| state.has_ended && (cut.is_some() || has_all(state));
    let _ = state.wait(&events, Instant::now() + GRACE, is_over);
    // A process that cannot be killed (in uninterruptible I/O) is left to the system.
    let status = state.has_ended.then(|| child.wait().ok()).flatten();
    if state.is_too_long {
        cut = Some(Cut::Long);
    }
    match cut {
        Some(cut) => Err(cut),
        None => Ok(ProcessOutput {
            line: state.line,
            said: String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned(),
            ended_well: status.is_some_and(|status: ExitStatus| status.success()),
        }),
    }
}

/// The events so far.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent events")]
struct ProcessState {
    line: Option<String>,
    has_no_line: bool,
    is_too_long: bool,
    has_said: bool,
    has_ended: bool,
}

impl ProcessState {
    fn is_answered(&self) -> bool {
        self.line.is_some() || self.has_no_line || self.is_too_long
    }

    /// Takes events until `until` holds, at most until `deadline`.
    fn wait(
        &mut self,
        events: &Receiver<ProcessEvent>,
        deadline: Instant,
        until: impl Fn(&Self) -> bool,
    ) -> Option<Cut> {
        while !until(self) {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ProcessEvent::Line(line)) => self.line = Some(line),
                Ok(ProcessEvent::NoLine) => self.has_no_line = true,
                Ok(ProcessEvent::TooLong) => self.is_too_long = true,
                Ok(ProcessEvent::Said) => self.has_said = true,
                Ok(ProcessEvent::Ended) => self.has_ended = true,
                Err(RecvTimeoutError::Timeout) => return Some(Cut::Slow),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    }
}

/// Reads standard output up to the marked line, and no further.
fn line_of(out: impl Read, mark: &str, most: u64) -> ProcessEvent {
    let mut out = BufReader::new(out.take(most));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = out.read_until(b'\n', &mut line).unwrap_or_default();
        let is_whole = line.ends_with(b"\n");
        if read == 0 || !is_whole {
            let is_used_up = out.get_ref().limit() == 0;
            return if is_used_up {
                ProcessEvent::TooLong
            } else {
                found(&line, mark).unwrap_or(ProcessEvent::NoLine)
            };
        }
        if let Some(found) = found(&line, mark) {
            return found;
        }
    }
}

fn found(line: &[u8], mark: &str) -> Option<ProcessEvent> {
    let rest = line.strip_prefix(mark.as_bytes())?;
    Some(ProcessEvent::Line(
        String::from_utf8_lossy(rest).trim_end().to_owned(),
    ))
}

/// Keeps the beginning of a program's output, and reads it to its end so that the program never blocks.
fn keep(mut from: impl Read, kept: &Mutex<Vec<u8>>, tell: &Sender<ProcessEvent>) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
    {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = usize::try_from(MAX_ERROR)
            .unwrap_or_default()
            .saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    let _ = tell.send(ProcessEvent::Said);
}

/// Waits for the end of a process without reaping it.
fn wait_for(process: Option<Pid>, tell: &Sender<ProcessEvent>) {
    if let Some(process) = process {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(process), options) {}
        let _ = tell.send(ProcessEvent::Ended);
    }
}
