//! Log queue: lines that wait to be written, in order. Adding one never waits for the writing; lines that do not fit or
//! cannot be written are lost: both are counted, and reported in the log itself when it can be written again.
//!
//! Why not the `tracing-appender` crate, whose purpose this is: it does not report lines that could not be written,
//! bounds lines but not their bytes (128,000 of any length), and prints to standard output when its last lines cannot
//! be written, which panics where that is closed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::metrics::Counter;

/// Upper bound of waiting bytes: some twenty thousand lines, enough for a burst while a disk is slow.
const ROOM: usize = 4 * 1024 * 1024;
/// Memory of a line besides its bytes.
const OVERHEAD: usize = 64;

/// Lines that wait for the thread that writes them. One per process, and never dropped: any thread may log until the
/// very end.
pub(super) struct LineQueue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    lost: Counter,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    /// Bytes of the waiting lines and of the one that is being written.
    bytes: usize,
    /// Lines lost since that was last reported.
    untold: u64,
}

/// Standard error, whichever file that is when a line is written. Not the usual handle, which is locked during a write:
/// other code that prints would wait for it.
pub(super) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LineQueue {
    /// Starts the thread that writes to `output`. Lost lines are counted in `lost`.
    pub(super) fn start(output: impl Write + Send + 'static, lost: &Counter) -> io::Result<&'static Self> {
        let queue: &'static Self = Box::leak(Box::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: lost.clone(),
        }));
        let mut output = output;
        thread::Builder::new().name("log".into()).spawn(move || {
            // After a panic, the next line is written.
            while catch_unwind(AssertUnwindSafe(|| queue.write_out(&mut output))).is_err() {}
        })?;
        Ok(queue)
    }

    /// Adds a line, if there is room. Never waits for the writing.
    pub(super) fn push(&self, line: &[u8]) {
        let cost = line.len() + OVERHEAD;
        let mut state = self.lock();
        if state.bytes + cost > ROOM {
            state.untold += 1;
            drop(state);
            self.lost.inc();
            return;
        }
        state.bytes += cost;
        state.lines.push_back(line.into());
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until every line is written or lost; at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let state = self.lock();
        let _ = self
            .emptied
            .wait_timeout_while(state, limit, |state| state.bytes > 0);
    }

    /// Writes lines, for ever.
    fn write_out(&self, output: &mut impl Write) {
        loop {
            let line = self.next();
            let written = output.write_all(&line).and_then(|()| output.flush()).is_ok();
            let untold = self.done(line.len() + OVERHEAD, written);
            if !written {
                self.lost.inc();
            } else if untold > 0 {
                // It is queued like any other line.
                tracing::warn!(
                    lines = untold,
                    "the log can be written again; some lines were lost"
                );
            }
        }
    }

    fn next(&self) -> Box<[u8]> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                return line;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Accounts for a line that was written or lost. Returns how many lost lines to report now: only where writing
    /// works, and no line waits.
    fn done(&self, cost: usize, written: bool) -> u64 {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(cost);
        state.untold += u64::from(!written);
        if state.lines.is_empty() {
            self.emptied.notify_all();
            if written {
                return std::mem::take(&mut state.untold);
            }
        }
        0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event is one line, written in one call.
impl Write for &LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Accepts lines as the test allows, and fails where the test says so.
    struct Reader {
        verdicts: mpsc::Receiver<bool>,
        read: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.verdicts.recv() == Ok(false) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.read.send(line.into());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        queue: &'static LineQueue,
        verdicts: mpsc::Sender<bool>,
        read: mpsc::Receiver<Vec<u8>>,
        lost: Counter,
    }

    fn fixture() -> Fixture {
        let (verdicts, told) = mpsc::channel();
        let (sent, read) = mpsc::channel();
        let lost = Counter::new("lost", "lost").unwrap();
        let reader = Reader {
            verdicts: told,
            read: sent,
        };
        let queue = LineQueue::start(reader, &lost).unwrap();
        Fixture {
            queue,
            verdicts,
            read,
            lost,
        }
    }

    #[test]
    fn t1_what_cannot_be_written_is_lost_and_counted_and_the_next_line_is_written() {
        let fixture = fixture();
        for (line, verdict) in [("one", true), ("two", false), ("three", true)] {
            fixture.queue.push(line.as_bytes());
            fixture.verdicts.send(verdict).unwrap();
        }
        fixture.queue.flush(LONG);
        let read: Vec<_> = fixture.read.try_iter().collect();
        assert_eq!(read, [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(fixture.lost.get(), 1);
    }

    #[test]
    fn t2_whoever_does_not_read_keeps_nobody_waiting_and_costs_bounded_memory() {
        let fixture = fixture();
        let line = vec![b'x'; 1_000];
        let fits = ROOM / (line.len() + OVERHEAD);
        for _ in 0..fits + 7 {
            fixture.queue.push(&line);
        }
        assert_eq!(fixture.lost.get(), 7);
        // A wait for the end does not block either.
        fixture.queue.flush(Duration::ZERO);
        for _ in 0..fits {
            fixture.verdicts.send(true).unwrap();
        }
        fixture.queue.flush(LONG);
        assert_eq!(fixture.read.try_iter().count(), fits);
        fixture.queue.push(b"room again");
        fixture.verdicts.send(true).unwrap();
        fixture.queue.flush(LONG);
        assert_eq!(fixture.lost.get(), 7);
    }
}
