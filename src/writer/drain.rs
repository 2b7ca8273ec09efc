//! Drains a spool in single steps: takes the next rows, resolves them, and applies them. The applier decides when.
//!
//! Every step can be cut off anywhere, by a crash or a dropped future, and taken again. What makes that safe:
//!
//! - a row is deleted only after the database has committed it, or none of its views has a visitor; and, unless room
//!   is short, after the ledger has confirmed it a while later (`kept`);
//! - a row keeps its key until the database has it or has refused it, and the ledger knows the key exactly if
//!   it has the row;
//! - a row is split or becomes a dead letter only after an error that says that nothing of the row is in the
//!   database. After any other error it may be passed over for a while, under the same key.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::BatchLimits;
use super::ahead::RowsAhead;
use super::batch_size::BatchSize;
use super::failures::Failures;
use super::late::{Late, ResolvedViews, TokenResults};
use super::spool::encode::StoredViews;
use super::spool::passed_over::{self, Tries};
use super::spool::{Row, Spool, SpoolError};
use crate::batch::{Batch, BatchKey, BatchPart, RecordedView, WriterId};
use crate::geoip::GeoIp;
use crate::page_view::{Dropped, NotCounted};
use crate::recent_pages::RecentPages;
use crate::status::Component;
use crate::store::{Applied, Store, StoreError};
use crate::writer::Metrics;

/// Applies rows of spools.
pub(super) struct Drain {
    pub(super) store: Arc<dyn Store>,
    late: Late,
    geoip: Option<GeoIp>,
    recent: RecentPages,
    pub(super) limits: BatchLimits,
    /// Of the next transaction.
    pub(super) size: BatchSize,
    /// Read while the last batch was written.
    pub(super) ahead: Option<RowsAhead>,
    /// The spool all of whose rows the last step wrote.
    went_well: Option<WriterId>,
    pub(super) own: Option<WriterId>,
    /// Highest own sequence number that was offered to the database.
    tried_to: i64,
    is_copied: bool,
    pub(super) failures: Failures,
    /// It is the turn of the rows that were passed over.
    pub(super) is_their_turn: bool,
    /// A row that failed alone and could not be passed over, because too many rows are.
    pub(super) first: Option<(WriterId, i64, Tries)>,
    /// Down while the database refuses every page view.
    pub(super) accepted: Component,
    /// Down while something beside the events is left out.
    updates: Component,
    /// Rows passed over, with the reason of the last: logged when it changes.
    pub(super) passed_over: Component,
    /// The same for dead letters.
    pub(super) buried: Component,
    pub(super) metrics: Arc<Metrics>,
}

/// Outcome of a step.
#[derive(Debug)]
pub(super) enum DrainOutcome {
    /// There was nothing to do.
    Nothing,
    /// Rows were removed.
    Done,
    /// Rows were prepared (split or resolved): due rows are left.
    Again,
    /// Some rows failed, perhaps by their own fault: they are tried in smaller parts, or passed over; the others
    /// continue.
    Failed(StoreError),
    /// The database must be asked again later.
    Unavailable(StoreError),
}

/// The rows of a step.
#[derive(Default)]
struct PreparedRows {
    /// What is to be applied.
    parts: Vec<BatchPart>,
    /// The places of the parts.
    places: Vec<i64>,
    /// The places of all rows that are done with when the parts are applied.
    done: Vec<i64>,
    /// What became of rows that are not among them.
    trouble: Option<DrainOutcome>,
}

impl Drain {
    pub(super) fn new(
        store: Arc<dyn Store>,
        late: Late,
        geoip: Option<GeoIp>,
        recent: RecentPages,
        limits: BatchLimits,
        (accepted, updates): (Component, Component),
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            late,
            geoip,
            recent,
            limits,
            size: BatchSize::new(limits),
            ahead: None,
            went_well: None,
            own: None,
            tried_to: 0,
            is_copied: false,
            failures: Failures::default(),
            is_their_turn: false,
            first: None,
            accepted,
            updates,
            passed_over: Component::default(),
            buried: Component::default(),
            metrics,
        }
    }

    /// Applies the next rows of a spool, or determines what must be done about them.
    ///
    /// # Errors
    /// The spool cannot be read or written now. Rows that were applied before that are in the ledger.
    pub(super) async fn step(&mut self, spool: &Spool) -> Result<DrainOutcome, SpoolError> {
        let rows = self.next(spool).await?;
        let Some(last) = rows.iter().map(|row| row.place).max() else {
            return Ok(DrainOutcome::Nothing);
        };
        let is_well = self.went_well.take() == Some(spool.id());
        self.ahead = None;
        let prepared = self.prepared(spool, rows).await?;
        if prepared.parts.is_empty() {
            spool.remove_rows(&prepared.done).await?;
            return Ok(prepared.trouble.unwrap_or(DrainOutcome::Again));
        }
        let settled = self.settled(spool).await?;
        let parts = prepared.parts;
        let batch = Batch { parts, settled };
        let tried_before = self.try_numbers_of(spool, &batch);
        let apply = async {
            let start = Instant::now();
            (self.store.apply(&batch).await, start.elapsed())
        };
        let views = batch.views().count();
        let look_ahead = async {
            let is_of_use = is_well && prepared.trouble.is_none();
            if is_of_use {
                let batch_views = self.limits.batch_views.get();
                RowsAhead::read(spool, last, views, batch_views, self.size.most()).await
            } else {
                None
            }
        };
        let ((outcome, took), ahead) = tokio::join!(apply, look_ahead);
        let applied = match outcome {
            Ok(applied) => applied,
            Err(error) => return self.failed(spool, &batch, &prepared.places, error).await,
        };
        self.is_copied |= applied.known_parts > tried_before;
        self.applied(applied, took);
        if prepared.done.len() == prepared.places.len() && !self.limits.keep_applied.is_zero() {
            spool.keep_rows(&prepared.done, self.limits.keep_applied).await?;
        } else {
            // The ledger has no entry for rows without views: where the disk refuses to delete them, they are not kept.
            spool.remove_rows(&prepared.done).await?;
        }
        self.size.written(views, took);
        self.went_well = prepared.trouble.is_none().then(|| spool.id());
        self.ahead = ahead;
        Ok(prepared.trouble.unwrap_or(DrainOutcome::Done))
    }

    /// The parts of the rows, as far as their visitors are found.
    async fn prepared(&mut self, spool: &Spool, rows: Vec<Row>) -> Result<PreparedRows, SpoolError> {
        let (mut prepared, mut known) = (PreparedRows::default(), TokenResults::new());
        for row in rows {
            let views = match row.body {
                None => {
                    self.damaged(spool, &row).await?;
                    continue;
                }
                Some(StoredViews::Recorded(views)) => views,
                Some(StoredViews::Unresolved(views)) => match self.late.resolve(views, &mut known).await {
                    Ok(resolved) => match self.put_back(spool, row.place, resolved).await? {
                        Some(views) => views,
                        None => continue,
                    },
                    Err(error) => {
                        let (trouble, is_the_last) =
                            self.not_resolved(spool, &row.key, row.place, error).await?;
                        prepared.trouble = Some(trouble);
                        if is_the_last {
                            // The rows before it are still applied.
                            break;
                        }
                        // And those behind it.
                        continue;
                    }
                },
            };
            prepared.done.push(row.place);
            if !views.is_empty() {
                prepared.places.push(row.place);
                let views = self.located(views);
                prepared.parts.push(BatchPart { key: row.key, views });
            }
        }
        Ok(prepared)
    }

    /// Puts a row's views into the spool as they were resolved; `None` where the row no longer exists.
    async fn put_back(
        &self,
        spool: &Spool,
        place: i64,
        resolved: ResolvedViews,
    ) -> Result<Option<Vec<RecordedView>>, SpoolError> {
        let is_taken = spool.resolve_row(place, resolved.views.clone()).await?;
        self.resolved(&resolved);
        let is_gone = is_taken && resolved.views.is_empty();
        Ok((!is_gone).then_some(resolved.views))
    }

    /// What to do about a row whose visitors cannot be looked up, and whether no further row is looked at.
    async fn not_resolved(
        &mut self,
        spool: &Spool,
        key: &BatchKey,
        place: i64,
        error: StoreError,
    ) -> Result<(DrainOutcome, bool), SpoolError> {
        if !error.may_be_the_rows() && !self.is_slow_with_some(&error).await {
            return Ok((DrainOutcome::Unavailable(error), true));
        }
        let visitors = std::iter::once(key.to_string());
        let before = spool.tries(place).or(self.tries_of_first(spool, place));
        let verdict = self.failures.failed(before, &error.summary(), visitors, false);
        let never_offered = !spool.has_offered_unresolved();
        let trouble = self
            .pass_over(spool, key, place, verdict, never_offered, error)
            .await?;
        Ok((trouble, self.first.is_some()))
    }

    /// Notes which own sequence numbers are tried; returns how many parts of the batch may have been tried before.
    fn try_numbers_of(&mut self, spool: &Spool, batch: &Batch) -> usize {
        if self.own != Some(spool.id()) {
            return batch.parts.len();
        }
        let own = batch.keys().filter(|key| key.writer == spool.id());
        let new: Vec<i64> = own
            .map(|key| key.seq)
            .filter(|seq| *seq > self.tried_to)
            .collect();
        self.tried_to = new.iter().copied().max().unwrap_or(0).max(self.tried_to);
        batch.parts.len() - new.len()
    }

    /// Whether the ledger knew own numbers that this process had not offered: a copy of the process has used them.
    pub(super) fn is_copied(&mut self) -> bool {
        std::mem::take(&mut self.is_copied)
    }

    /// The next rows: a passed-over row, one at a time, after others were written or where nothing else waits;
    /// where no more rows can be passed over, alternating with the others.
    async fn next(&mut self, spool: &Spool) -> Result<Vec<Row>, SpoolError> {
        let is_full = spool.passed_over().rows >= passed_over::MOST;
        if std::mem::take(&mut self.is_their_turn)
            && let Some(row) = spool.next_passed_over(is_full).await?
        {
            return Ok(vec![row]);
        }
        if let Some(rows) = RowsAhead::take(&mut self.ahead, spool) {
            return Ok(rows);
        }
        let rows = spool.next(self.size.most(), 0).await?;
        if rows.is_empty() {
            return Ok(spool.next_passed_over(false).await?.into_iter().collect());
        }
        Ok(rows)
    }

    /// Parts that the ledger may forget. None for an adopted spool: a crash may have left copies of its dead
    /// letters, and the ledger tells that they are the same.
    async fn settled(&self, spool: &Spool) -> Result<Vec<BatchKey>, SpoolError> {
        if self.own != Some(spool.id()) {
            return Ok(Vec::new());
        }
        Ok(vec![spool.first_unsettled().await?])
    }

    /// Sets which spool is this process' own.
    pub(super) fn owns(&mut self, own: WriterId) {
        if self.own.replace(own) != Some(own) {
            self.tried_to = 0;
            self.is_copied = false;
        }
    }

    fn resolved(&self, resolved: &ResolvedViews) {
        let metrics = &self.metrics.views;
        metrics.counted.inc_by(resolved.views.len() as u64);
        for recorded in &resolved.views {
            if !resolved.hidden.contains_key(&recorded.user_id) {
                self.recent.note(&recorded.view, recorded.community.as_ref());
            }
        }
        metrics.not_counted[NotCounted::NoSession].inc_by(resolved.nobodys);
        metrics.not_counted[NotCounted::SessionEnded].inc_by(resolved.ended);
        metrics.not_counted[NotCounted::Hidden].inc_by(resolved.ignored);
        metrics.not_counted[NotCounted::CommunityKey].inc_by(resolved.no_keys);
        metrics.dropped[Dropped::SessionUnavailable].inc_by(resolved.unreadable);
    }

    /// The store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn damaged(&self, spool: &Spool, row: &Row) -> Result<(), SpoolError> {
        spool.mark_damaged(row.place).await?;
        self.metrics.views.dropped[Dropped::SpoolDamaged].inc_by(row.views);
        tracing::error!(
            spool = %spool.id(),
            row = row.place,
            views = row.views,
            "a row of the spool is damaged and is passed over"
        );
        Ok(())
    }

    fn located(&self, mut views: Vec<RecordedView>) -> Vec<RecordedView> {
        if let Some(geoip) = &self.geoip {
            for recorded in &mut views {
                if let Some(ip) = recorded.view.client_ip {
                    recorded.location = geoip.locate(ip);
                }
            }
        }
        views
    }

    fn applied(&mut self, applied: Applied, took: Duration) {
        self.is_their_turn = true;
        if applied.views > 0 {
            self.failures.success();
            self.accepted.up(|_| {});
            self.updates.set(
                applied.left_out,
                |left_out| tracing::error!("page views are written, but not {left_out}"),
                |_| tracing::info!("no update beside page views fails any more"),
            );
        }
        self.metrics.batch_rows.observe(applied.views);
        self.metrics.apply_duration.observe(took);
        self.metrics.applied_views.inc_by(applied.views as u64);
        self.metrics.known_parts.inc_by(applied.known_parts as u64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_apply.set(now.as_secs_f64());
    }
}
