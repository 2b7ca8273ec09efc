//! The model's database.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::batch::{Batch, BatchKey, WriterId};
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;
use crate::store::fake::Fake;
use crate::store::{Applied, StoreError};

/// What the next call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing happens, and an error says so.
    Away,
    /// It is committed, and the error does not say so.
    AnswerLost,
    /// Nothing happens, and no answer ever comes.
    HangsBefore,
    /// It is committed, and no answer ever comes.
    HangsAfter,
}

/// A mistake planted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Batches are written without asking whether they are there.
    LedgerNotAsked,
    /// A database that is away is taken for one that has committed.
    SaysDoneTooEarly,
    /// Ledger and rows are not one transaction.
    LedgerNotesRefusals,
    /// An append that failed is not looked for before it is tried again.
    AppendsAnew,
    /// A group is handed over before it is committed to the spool.
    HandsOverUncommitted,
    /// Parts are settled that are still in a spool.
    LedgerForgetsTooMuch,
    /// What was acknowledged is taken for there, without asking.
    KeptNotAskedFor,
    /// Parts are settled that are only kept.
    LedgerForgetsKept,
}

/// Tables in memory.
#[derive(Default)]
pub(super) struct Database {
    pub(super) state: Mutex<State>,
    pub(super) flaw: Option<Flaw>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) faults: VecDeque<Option<Fault>>,
    /// The tables before each of the last transactions, which the database may lose.
    history: Vec<Tables>,
    pub(super) tables: Tables,
    /// Pages whose views are refused, as if their user had been deleted.
    pub(super) refused: HashSet<String>,
    /// Pages whose rows another transaction has locked.
    pub(super) locked: HashSet<String>,
}

/// What a transaction changes.
#[derive(Clone, Default)]
pub(super) struct Tables {
    ledger: HashSet<BatchKey>,
    /// Below which number a writer's parts are settled.
    settled: HashMap<WriterId, i64>,
    /// How often each page was written.
    pub(super) events: BTreeMap<String, usize>,
    /// `pages_visited` by session.
    pub(super) pages: BTreeMap<String, i64>,
}

impl State {
    /// The last transactions are lost, of those that may be.
    pub(super) fn lose(&mut self, transactions: usize) {
        let left = self.history.len().saturating_sub(transactions);
        if let Some(tables) = self.history.drain(left..).next() {
            self.tables = tables;
        }
    }

    /// What was committed is there for good.
    pub(super) fn keep_all(&mut self) {
        self.history.clear();
    }
}

impl Tables {
    fn knows(&self, key: &BatchKey) -> bool {
        let is_settled = |mark: &i64| key.seq < *mark;
        self.ledger.contains(key) || self.settled.get(&key.writer).is_some_and(is_settled)
    }
}

impl Database {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    /// One transaction.
    fn commit(&self, batch: &Batch) -> Result<Applied, StoreError> {
        let mut state = self.state();
        let before = state.tables.clone();
        let asks = self.flaw != Some(Flaw::LedgerNotAsked);
        let is_new = |key: &BatchKey| !(asks && before.knows(key));
        let new: HashSet<BatchKey> = batch.keys().filter(is_new).collect();
        let known_parts = batch.parts.len() - new.len();
        let written = batch.only(&new);
        let is_refused = written
            .views()
            .any(|recorded| state.refused.contains(&recorded.view.url));
        if is_refused {
            if self.flaw == Some(Flaw::LedgerNotesRefusals) {
                state.tables.ledger.extend(new);
            }
            return Err(StoreError::Refused(sqlx::Error::RowNotFound));
        }
        let is_locked = written
            .views()
            .any(|recorded| state.locked.contains(&recorded.view.url));
        if is_locked {
            let timed_out = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(StoreError::Undone(sqlx::Error::Io(timed_out)));
        }
        state.history.push(before);
        let tables = &mut state.tables;
        for settled in &batch.settled {
            let too_much = i64::from(self.flaw == Some(Flaw::LedgerForgetsTooMuch)) * 1_000;
            tables
                .ledger
                .retain(|key| key.writer != settled.writer || key.seq >= settled.seq + too_much);
            let mark = tables.settled.entry(settled.writer).or_default();
            *mark = mark_of(settled, batch, self.flaw).max(*mark);
        }
        tables.ledger.extend(new);
        for recorded in written.views() {
            *tables.events.entry(recorded.view.url.clone()).or_default() += 1;
        }
        for (session, pages) in written.pages_by_session() {
            *tables.pages.entry(session.to_string()).or_default() += pages;
        }
        Ok(Applied {
            left_out: Vec::new(),
            views: written.views().count(),
            known_parts,
        })
    }
}

/// Below which number the parts of a writer are settled by a batch.
fn mark_of(settled: &BatchKey, batch: &Batch, flaw: Option<Flaw>) -> i64 {
    let own = batch.keys().filter(|key| key.writer == settled.writer);
    match own.map(|key| key.seq).min() {
        Some(first) if flaw == Some(Flaw::LedgerForgetsKept) => first,
        _ => settled.seq,
    }
}

/// Awaits for ever, so that it can be cut off at some await.
async fn hang() -> ! {
    loop {
        tokio::task::yield_now().await;
    }
}

fn away() -> StoreError {
    StoreError::Unavailable(sqlx::Error::PoolTimedOut)
}

/// The session of a token of the model: tokens that begin with `nobody` have none.
pub(super) fn session_of(token: &str) -> Option<BrowserSession> {
    (!token.starts_with("nobody")).then(|| BrowserSession::valid_until("31", "7", DateTime::<Utc>::MAX_UTC))
}

#[async_trait]
impl Fake for Database {
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        tokio::task::yield_now().await;
        let fault = self.state().faults.pop_front().flatten();
        match fault {
            None if token.expose_secret().starts_with("unreadable") => {
                Err(StoreError::Unexpected("the session's row".into()))
            }
            None => Ok(session_of(token.expose_secret())),
            Some(Fault::Away | Fault::AnswerLost) => Err(away()),
            Some(Fault::HangsBefore | Fault::HangsAfter) => hang().await,
        }
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        tokio::task::yield_now().await;
        let fault = self.state().faults.pop_front().flatten();
        let outcome = match fault {
            None => self.commit(batch),
            Some(Fault::Away) if self.flaw == Some(Flaw::SaysDoneTooEarly) => Ok(Applied::default()),
            Some(Fault::Away) => Err(away()),
            Some(Fault::AnswerLost) => match self.commit(batch) {
                Ok(_) => Err(away()),
                refused => refused,
            },
            Some(Fault::HangsBefore) => hang().await,
            Some(Fault::HangsAfter) => {
                let _ = self.commit(batch);
                hang().await
            }
        };
        tokio::task::yield_now().await;
        outcome
    }

    async fn missing_parts(&self, parts: &[BatchKey]) -> Result<HashSet<BatchKey>, StoreError> {
        tokio::task::yield_now().await;
        let fault = self.state().faults.pop_front().flatten();
        match fault {
            None if self.flaw == Some(Flaw::KeptNotAskedFor) => Ok(HashSet::new()),
            None => {
                let state = self.state();
                let missing = parts.iter().filter(|key| !state.tables.knows(key));
                Ok(missing.copied().collect())
            }
            Some(Fault::Away | Fault::AnswerLost) => Err(away()),
            Some(Fault::HangsBefore | Fault::HangsAfter) => hang().await,
        }
    }

    async fn forget_old_parts(&self, _: DateTime<Utc>) -> Result<u64, StoreError> {
        Ok(0)
    }
}
