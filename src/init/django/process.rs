//! A program that is asked for one line, within a time and a number of bytes. Nothing that it starts outlasts the question,
//! unless it leaves the program's process group; and whoever keeps its output open is not waited for.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Most bytes that are kept of what the program says on standard error.
const MAX_ERROR: u64 = 64 << 10;
/// How long a process that was killed may take to end, and the rest of its output to arrive.
const GRACE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    /// The rest of the line that begins with the mark, if there was one.
    pub line: Option<String>,
    /// The beginning of what it said on standard error.
    pub said: String,
    /// Whether it ended by itself, and well.
    pub ended_well: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Slow,
    Long,
}

enum Event {
    /// The line was read.
    Line(String),
    /// Standard output ended without it.
    NoLine,
    /// Too many bytes were read.
    TooLong,
    /// Standard error ended.
    Said,
    /// The process ended, and is not reaped yet: nobody else can have its id.
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
) -> Result<Answer, Cut> {
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

    let mut state = State::default();
    let is_done = |state: &State| state.line.is_some() || state.is_too_long || state.has_ended;
    let mut cut = state.wait(&events, Instant::now() + limit, is_done);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // What was printed before the end arrives yet, unless somebody keeps the output open.
    let has_all = |state: &State| state.line.is_some() || state.is_answered() && state.has_said;
    let is_over = |state: &State| state.has_ended && (cut.is_some() || has_all(state));
    let _ = state.wait(&events, Instant::now() + GRACE, is_over);
    // A process that cannot be killed (it waits for a disk) is left to the system.
    let status = state.has_ended.then(|| child.wait().ok()).flatten();
    if state.is_too_long {
        cut = Some(Cut::Long);
    }
    match cut {
        Some(cut) => Err(cut),
        None => Ok(Answer {
            line: state.line,
            said: String::from_utf8_lossy(&said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned(),
            ended_well: status.is_some_and(|status: ExitStatus| status.success()),
        }),
    }
}

/// What has happened until now.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent events")]
struct State {
    line: Option<String>,
    has_no_line: bool,
    is_too_long: bool,
    has_said: bool,
    has_ended: bool,
}

impl State {
    fn is_answered(&self) -> bool {
        self.line.is_some() || self.has_no_line || self.is_too_long
    }

    /// Takes events until something has happened, at most to `deadline`.
    fn wait(
        &mut self,
        events: &Receiver<Event>,
        deadline: Instant,
        until: impl Fn(&Self) -> bool,
    ) -> Option<Cut> {
        while !until(self) {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Line(line)) => self.line = Some(line),
                Ok(Event::NoLine) => self.has_no_line = true,
                Ok(Event::TooLong) => self.is_too_long = true,
                Ok(Event::Said) => self.has_said = true,
                Ok(Event::Ended) => self.has_ended = true,
                Err(RecvTimeoutError::Timeout) => return Some(Cut::Slow),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        None
    }
}

/// Reads standard output up to the line. What comes after it is not read.
fn line_of(out: impl Read, mark: &str, most: u64) -> Event {
    let mut out = BufReader::new(out.take(most));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = out.read_until(b'\n', &mut line).unwrap_or_default();
        let is_whole = line.ends_with(b"\n");
        if read == 0 || !is_whole {
            let is_used_up = out.get_ref().limit() == 0;
            return if is_used_up {
                Event::TooLong
            } else {
                found(&line, mark).unwrap_or(Event::NoLine)
            };
        }
        if let Some(found) = found(&line, mark) {
            return found;
        }
    }
}

fn found(line: &[u8], mark: &str) -> Option<Event> {
    let rest = line.strip_prefix(mark.as_bytes())?;
    Some(Event::Line(String::from_utf8_lossy(rest).trim_end().to_owned()))
}

/// Keeps the beginning of what a program says, and reads it to its end, so that the program never waits.
fn keep(mut from: impl Read, kept: &Mutex<Vec<u8>>, tell: &Sender<Event>) {
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
    let _ = tell.send(Event::Said);
}

/// Waits for the end of a process without reaping it.
fn wait_for(process: Option<Pid>, tell: &Sender<Event>) {
    if let Some(process) = process {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(process), options) {}
        let _ = tell.send(Event::Ended);
    }
}
