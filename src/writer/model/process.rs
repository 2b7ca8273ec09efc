//! A process of the model: what ends with it, and the work that it does.

use std::sync::Arc;
use std::time::Duration;

use super::database::Database;
use crate::communities::Communities;
use crate::config;
use crate::config::RecentPrecision;
use crate::recent_pages::RecentPages;
use crate::store::Store;
use crate::writer::BatchLimits;
use crate::writer::drain::{Drain, DrainOutcome};
use crate::writer::late::Late;
use crate::writer::spool::{Directory, Spool};

/// How long the database may lose what it has acknowledged: until time passes.
const KEPT: Duration = Duration::from_secs(3_600);

/// What ends with the process.
pub(super) struct Process {
    directory: Directory,
    pub(super) drain: Drain,
    pub(super) own: Arc<Spool>,
    pub(super) adopted: Vec<Arc<Spool>>,
    /// A spool that is gone had given up what it kept.
    pub(super) gave_up: bool,
}

/// What a step at every spool came to: the greatest over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// Nothing was due.
    Nothing,
    /// What is due waits for the database, or for the disk.
    Waits,
    /// Rows were written, split, passed over, or became dead letters.
    Made,
}

impl Process {
    pub(super) async fn start(directory: &Directory, database: &Arc<Database>) -> Self {
        let store: Arc<dyn Store> = database.clone();
        let record = config::Record {
            batch_views: 4.try_into().expect("not zero"),
            keep_applied: KEPT,
            ..config::Record::default()
        };
        let limits = BatchLimits::new(&record, &config::Spool::default(), &config::Database::default());
        let communities = Arc::new(Communities::new(store.clone()));
        let late = Late::new(store.clone(), communities);
        let own = directory.create().await.expect("a spool");
        let adopted = directory.adopt(&[own.id()], usize::MAX).await.expect("a folder");
        let mut drain = Drain::new(
            store,
            late,
            None,
            RecentPages::new(RecentPrecision::None),
            limits,
            Default::default(),
            Arc::default(),
        );
        drain.owns(own.id());
        Self {
            directory: directory.clone(),
            drain,
            own,
            adopted,
            gave_up: false,
        }
    }

    pub(super) fn spools(&self) -> Vec<Arc<Spool>> {
        self.adopted.iter().chain([&self.own]).cloned().collect()
    }

    /// So long that everything that is passed over, or kept, is due.
    pub(super) fn wait(&self) {
        for spool in self.spools() {
            spool.end_all_pauses();
            spool.end_all_keeping();
        }
    }

    /// Asks whether what is kept is there.
    pub(super) async fn confirm(&self) {
        for spool in self.spools() {
            let _ = self.drain.confirm_due(&spool).await;
        }
    }

    /// What the applier does from time to time.
    pub(super) async fn housekeeping(&self) {
        self.own.refresh().await.expect("it can be read");
        for spool in self.spools() {
            let is_gone = spool.make_room().await.expect("it takes writes");
            assert!(!is_gone, "the disk takes writes");
        }
        self.own.clear_tokens().await.expect("it takes writes");
    }

    /// One step at every spool, as the applier takes them.
    pub(super) async fn step(&mut self) -> Progress {
        let mut progress = Progress::Nothing;
        for spool in [std::slice::from_ref(&self.own), &self.adopted[..]].concat() {
            let step = self.drain.step(&spool).await;
            if matches!(step, Ok(DrainOutcome::Nothing)) && spool.waiting().views > spool.passed_over().views
            {
                let _ = spool.count_all().await;
            }
            progress = progress.max(match step {
                Ok(DrainOutcome::Nothing) => Progress::Nothing,
                Ok(DrainOutcome::Unavailable(_)) | Err(_) => Progress::Waits,
                Ok(DrainOutcome::Done | DrainOutcome::Again | DrainOutcome::Failed(_)) => Progress::Made,
            });
            if matches!(spool.make_room().await, Ok(true)) {
                // Its file is gone; the appender makes another for it.
                self.gave_up |= spool.was_given_up();
                if spool.id() == self.own.id() {
                    self.own = self.directory.create().await.expect("a spool");
                    self.drain.owns(self.own.id());
                }
                self.adopted.retain(|adopted| adopted.id() != spool.id());
                continue;
            }
            let is_own = spool.id() == self.own.id();
            if !is_own
                && matches!(step, Ok(DrainOutcome::Nothing))
                && spool.waiting().views == 0
                && !spool.is_keeping()
            {
                spool.retire(&self.own).await.expect("it is removed");
                self.adopted.retain(|adopted| adopted.id() != spool.id());
            }
        }
        progress
    }
}
