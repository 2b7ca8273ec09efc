//! Batched lookups in the session table: many tokens per round trip, known ones first. So a flood of random tokens
//! costs few statements, and does not delay known ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ids::SessionToken;
use crate::store::{SessionFound, Store, StoreError};

/// Tokens of one statement.
const BATCH: usize = 500;
/// A statement that waits longer than this for its answer is slow.
const PROMPT: Duration = Duration::from_millis(500);

/// In which order tokens are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// A session was found for it before.
    Known,
    /// Never seen.
    New,
    /// Never seen, from an address that sends many new tokens.
    Suspect,
}

/// The table's answer for one token; `None`: it has no row.
pub(super) type LookupResult = Result<Option<SessionFound>, Arc<StoreError>>;

/// The queue, and the statements under way.
///
/// Concurrency: a caller starts a task if fewer than `at_a_time` run; each task takes batches until the queue is empty.
pub(super) struct Lookups {
    store: Arc<dyn Store>,
    at_a_time: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By rank.
    queues: [VecDeque<QueuedLookup>; 3],
    running: usize,
    /// Statements under way, with their beginning.
    since: HashMap<u64, Instant>,
    statements: u64,
}

struct QueuedLookup {
    token: SessionToken,
    answer: oneshot::Sender<LookupResult>,
}

impl Lookups {
    pub(super) fn new(store: Arc<dyn Store>, at_a_time: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            at_a_time: at_a_time.max(1),
            state: Mutex::default(),
        })
    }

    /// Looks a token up, on the current runtime.
    pub(super) async fn ask(self: &Arc<Self>, token: &SessionToken, rank: Priority) -> LookupResult {
        let (answer, waiting) = oneshot::channel();
        let token = token.clone();
        let starts = {
            let mut state = self.state();
            state.queues[rank as usize].push_back(QueuedLookup { token, answer });
            let starts = state.running < self.at_a_time;
            state.running += usize::from(starts);
            starts
        };
        if starts {
            let worker = LookupTask(Some(Arc::clone(self)));
            tokio::spawn(worker.run());
        }
        waiting.await.unwrap_or_else(|_| {
            let error = std::io::Error::other("the lookup's task ended before its answer");
            Err(Arc::new(StoreError::Unavailable(sqlx::Error::Io(error))))
        })
    }

    /// Whether no statement waits longer than [`PROMPT`].
    pub(super) fn are_prompt(&self) -> bool {
        let now = Instant::now();
        self.state().since.values().all(|since| now - *since < PROMPT)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that sends statements. It counts as running until it finds the queue empty, or is dropped.
struct LookupTask(Option<Arc<Lookups>>);

impl LookupTask {
    async fn run(mut self) {
        while let Some((lookups, number, batch)) = self.next() {
            let tokens: Vec<SessionToken> = batch.iter().map(|wanted| wanted.token.clone()).collect();
            let statement = Statement(&lookups, number);
            let found = lookups.store.browser_sessions_apart(&tokens).await;
            drop(statement);
            match found {
                Ok(mut found) => {
                    for QueuedLookup { token, answer } in batch {
                        let session = found.remove(&token).transpose().map_err(Arc::new);
                        // The caller may have gone.
                        let _ = answer.send(session);
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    for QueuedLookup { answer, .. } in batch {
                        let _ = answer.send(Err(Arc::clone(&error)));
                    }
                }
            }
        }
    }

    /// The next batch: rank by rank, each in order of arrival.
    fn next(&mut self) -> Option<(Arc<Lookups>, u64, Vec<QueuedLookup>)> {
        let lookups = Arc::clone(self.0.as_ref()?);
        let mut state = lookups.state();
        let mut batch = Vec::new();
        for queue in &mut state.queues {
            while batch.len() < BATCH
                && let Some(wanted) = queue.pop_front()
            {
                if !wanted.answer.is_closed() {
                    batch.push(wanted);
                }
            }
        }
        if batch.is_empty() {
            // Under the same lock as the look at the queue: the next caller starts another task.
            state.running -= 1;
            self.0 = None;
            return None;
        }
        state.statements += 1;
        let number = state.statements;
        state.since.insert(number, Instant::now());
        drop(state);
        Some((lookups, number, batch))
    }
}

/// A statement under way; dropped when it has ended.
struct Statement<'a>(&'a Lookups, u64);

impl Drop for Statement<'_> {
    fn drop(&mut self) {
        self.0.state().since.remove(&self.1);
    }
}

impl Drop for LookupTask {
    fn drop(&mut self) {
        if let Some(lookups) = &self.0 {
            lookups.state().running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::browser_session::BrowserSession;
    use crate::store::fake::Fake;

    /// Finds no session; answers when the test says so.
    struct Table {
        asked: Mutex<Vec<String>>,
        answers: Semaphore,
    }

    #[async_trait]
    impl Fake for Table {
        async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
            let token = token.expose_secret().to_owned();
            self.asked.lock().unwrap().push(token.clone());
            if token == "gate" {
                self.answers.acquire().await.expect("never closed").forget();
            }
            Ok(None)
        }
    }

    fn lookups() -> (Arc<Lookups>, Arc<Table>) {
        let table = Arc::new(Table {
            asked: Mutex::default(),
            answers: Semaphore::new(0),
        });
        (Lookups::new(table.clone(), 1), table)
    }

    #[tokio::test(start_paused = true)]
    async fn i14_what_waits_is_looked_up_together_and_whoever_was_known_first() {
        let (lookups, table) = lookups();
        let ask = |token: String, rank| {
            let lookups = Arc::clone(&lookups);
            tokio::spawn(async move { lookups.ask(&SessionToken::new(token), rank).await })
        };
        let mut all = vec![ask("gate".into(), Priority::New)];
        tokio::task::yield_now().await;
        for number in 0..2_000 {
            all.push(ask(format!("junk {number}"), Priority::Suspect));
        }
        all.push(ask("new".into(), Priority::New));
        all.push(ask("known".into(), Priority::Known));
        let gone = ask("gone".into(), Priority::Known);
        tokio::task::yield_now().await;
        assert!(lookups.are_prompt());
        gone.abort();
        tokio::time::advance(PROMPT).await;
        assert!(!lookups.are_prompt());
        table.answers.add_permits(1);
        for answer in join_all(all).await {
            assert!(matches!(answer, Ok(Ok(None))));
        }
        let asked = table.asked.lock().unwrap();
        assert_eq!(asked[..4], ["gate", "known", "new", "junk 0"]);
        assert_eq!(asked.len(), 2_003);
        // One token, then all that waited, 500 at a time.
        let state = lookups.state();
        assert_eq!((state.statements, state.running), (6, 0));
    }
}
