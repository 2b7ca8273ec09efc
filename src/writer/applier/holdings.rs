//! Which spools the applier holds: it adopts those without an owner, replaces the own one where it can no longer be used,
//! and removes those that are drained.

use std::sync::Arc;

use super::Applier;
use crate::batch::WriterId;
use crate::page_view::Dropped;
use crate::writer::spool::{Spool, SpoolError};

/// Most adopted spools that are applied at a time …
const MOST_ADOPTED: usize = 8;
/// … and those held at a time: each costs a thread and a few open files.
const MOST_HELD: usize = 32;

impl Applier {
    /// Adopts spools without an owner, and counts afresh.
    pub(super) async fn search(&mut self) {
        let own = self.spools.own.load_full();
        self.make_room(&own).await;
        let own = self.spools.own.load_full();
        let adopted = self.spools.adopted();
        let held: Vec<WriterId> = adopted.iter().chain([&own]).map(|spool| spool.id()).collect();
        let busy = adopted.iter().filter(|spool| spool.waiting().views > 0).count();
        let room = MOST_ADOPTED.saturating_sub(busy);
        let room = room.min(MOST_HELD.saturating_sub(adopted.len()));
        match self.directory.adopt(&held, room).await {
            Ok(found) => {
                self.metrics.spools_adopted.inc_by(found.len() as u64);
                self.spools.adopt(found);
            }
            Err(error) => {
                let error = crate::telemetry::chain(&error);
                tracing::debug!(error, "the spool folder cannot be read");
            }
        }
        let housekeeping = async {
            own.refresh().await?;
            own.clear_tokens().await?;
            own.shrink().await?;
            Ok::<_, SpoolError>(())
        };
        if let Err(error) = housekeeping.await {
            let error = crate::telemetry::chain(&error);
            tracing::debug!(error, "upkeep of the spool failed");
        }
    }

    /// Deletes rows of the own spool that were given up, and replaces the spool if that removed its file.
    pub(in crate::writer) async fn make_room(&self, own: &Spool) {
        if made_room(own).await {
            self.replace_own();
        }
    }

    /// The same for adopted spools, where the disk takes no writes: they keep a share of it as well.
    pub(in crate::writer) async fn make_room_of_adopted(&self) {
        for spool in self.spools.adopted() {
            if spool.is_keeping() {
                spool.give_up_kept();
            }
            if made_room(&spool).await {
                self.spools.release(&spool);
            }
        }
    }

    /// A copy of this process, resumed from the same machine snapshot, has used the own spool's sequence numbers:
    /// what was appended since would be taken for applied. A new spool has numbers of its own.
    pub(super) async fn replace_copied_spool(&self, own: &Arc<Spool>) {
        match self.directory.create().await {
            Ok(new) => {
                self.spools.own.store(new);
                self.spools.adopt([Arc::clone(own)]);
                tracing::error!(
                    spool = %own.id(),
                    "the ledger knows parts that this process has not offered: its machine was resumed from a \
                     snapshot, and page views since then may be lost; a new spool is begun"
                );
            }
            Err(error) => {
                let error = crate::telemetry::chain(&error);
                tracing::error!(
                    spool = %own.id(),
                    error,
                    "the ledger knows parts that this process has not offered: its machine was resumed from a \
                     snapshot, and page views are lost until a new spool can be created"
                );
            }
        }
    }

    /// Puts a placeholder in the own spool's place; the appender creates a new spool when it next has something to
    /// append.
    fn replace_own(&self) {
        if let Ok(absent) = self.directory.absent() {
            self.spools.own.store(absent);
        }
    }

    /// Sets a damaged spool aside, and creates a new one if it was the own.
    pub(super) async fn give_up(&mut self, spool: &Spool, error: &SpoolError) {
        let views = spool.waiting().views;
        self.metrics.views.dropped[Dropped::SpoolDamaged].inc_by(views);
        let error = crate::telemetry::chain(error);
        match spool.set_aside().await {
            Ok(name) => tracing::error!(
                error,
                views,
                "a spool is damaged; set aside as {}",
                name.display()
            ),
            Err(cause) => tracing::error!(error, views, %cause, "a spool is damaged and cannot be set aside"),
        }
        self.spools.release(spool);
        if self.spools.own.load().id() == spool.id() {
            self.replace_own();
        }
        self.spools.show();
    }
}

/// Whether a spool's file was removed because the disk takes no writes: nothing in it is needed any more.
pub(super) async fn made_room(spool: &Spool) -> bool {
    match spool.make_room().await {
        Ok(false) | Err(SpoolError::Closed) => false,
        Ok(true) => {
            tracing::warn!(spool = %spool.id(), "the spools' disk is full; removed an applied spool");
            true
        }
        Err(error) => {
            let error = crate::telemetry::chain(&error);
            tracing::debug!(error, "applied rows of a spool cannot be deleted");
            false
        }
    }
}

/// Ends a drained spool.
pub(super) async fn retire(spool: &Spool, heir: &Spool) {
    match spool.retire(heir).await {
        Ok(true) => tracing::info!(spool = %spool.id(), "an adopted spool is drained"),
        // Something was put back into it: the next search finds it again.
        Ok(false) => spool.close().await,
        // It was a placeholder, or has been removed already.
        Err(SpoolError::Closed) => {}
        Err(error) => {
            let error = crate::telemetry::chain(&error);
            tracing::warn!(spool = %spool.id(), error, "a drained spool cannot be removed now");
            // Its lock is released with it; the next search finds it again.
            spool.close().await;
        }
    }
}
