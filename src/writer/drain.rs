//! One step from a spool to the database: what becomes of the next rows. When steps are taken is the
//! applier's affair.
//!
//! Every step can be cut off anywhere, by a crash or a dropped future, and taken again. What makes that safe:
//!
//! - a row is deleted only after the database has committed it, and was asked for it a while later (`kept`);
//! - a row keeps its key until the database has it or has refused it, and the ledger knows the key exactly if
//!   it has the row;
//! - only an error that says that nothing of the row is there lets a row be split or become a dead letter. Any other may
//!   have it passed over for a while, under the same key.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Limits;
use super::batch::{Batch, BatchKey, Part, RecordedView, WriterId};
use super::failures::Failures;
use super::late::{Known, Late, Resolved};
use super::spool::apart::{self, Tries};
use super::spool::encode::Body;
use super::spool::{Row, Spool, SpoolError};
use crate::geoip::GeoIp;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::NotCounted;
use crate::recorder::recent::RecentPages;
use crate::store::{Applied, Store, StoreError};

/// Most rows of one transaction.
const MAX_ROWS: usize = 1_000;

/// Takes rows out of spools.
pub(super) struct Drain {
    pub(super) store: Arc<dyn Store>,
    late: Late,
    geoip: Option<GeoIp>,
    recent: RecentPages,
    pub(super) limits: Limits,
    /// Rows of the next transaction at most: fewer after a refusal or a timeout, then more again.
    pub(super) max_rows: usize,
    pub(super) own: Option<WriterId>,
    /// Highest of its numbers that was tried.
    tried_to: i64,
    is_copied: bool,
    pub(super) failures: Failures,
    /// Rows that were passed over have their turn.
    pub(super) is_their_turn: bool,
    /// A row that failed alone, and was not passed over for want of room.
    pub(super) first: Option<(WriterId, i64, Tries)>,
    /// Why the last row was passed over.
    pub(super) said: String,
    /// Why the last dead letter was refused.
    pub(super) said_of_letters: String,
    pub(super) metrics: Arc<Metrics>,
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// There was nothing to do.
    Nothing,
    /// Rows went.
    Done,
    /// Rows were made ready to go: what is due is not done yet.
    Again,
    /// Some rows failed, perhaps by their own fault: they are tried in smaller parts, or passed over; others go on.
    Failed(StoreError),
    /// The database must be asked again later.
    Unavailable(StoreError),
}

impl Drain {
    pub(super) fn new(
        store: Arc<dyn Store>,
        late: Late,
        geoip: Option<GeoIp>,
        recent: RecentPages,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            late,
            geoip,
            recent,
            limits,
            max_rows: MAX_ROWS,
            own: None,
            tried_to: 0,
            is_copied: false,
            failures: Failures::default(),
            is_their_turn: false,
            first: None,
            said: String::new(),
            said_of_letters: String::new(),
            metrics,
        }
    }

    /// Applies the next rows of a spool, or finds out what must be done about them.
    ///
    /// # Errors
    /// The spool cannot be read or written just now. If rows were applied before that, the ledger knows.
    pub(super) async fn step(&mut self, spool: &Spool) -> Result<Step, SpoolError> {
        let rows = self.next(spool).await?;
        if rows.is_empty() {
            return Ok(Step::Nothing);
        }
        let (mut parts, mut places, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let (mut known, mut trouble) = (Known::new(), None);
        for row in rows {
            let views = match row.body {
                None => {
                    self.damaged(spool, &row).await?;
                    continue;
                }
                Some(Body::Recorded(views)) => views,
                Some(Body::Unresolved(views)) => match self.late.resolve(views, &mut known).await {
                    Ok(resolved) => {
                        let is_taken = spool.resolve_row(row.place, resolved.views.clone()).await?;
                        self.resolved(&resolved);
                        if is_taken && resolved.views.is_empty() {
                            // The row is gone.
                            continue;
                        }
                        resolved.views
                    }
                    // What is around it goes all the same.
                    Err(error) if error.may_be_the_rows() || self.is_slow_with_some(&error).await => {
                        let visitors = std::iter::once(row.key.to_string());
                        let before = spool.tries(row.place).or(self.tries_of_first(spool, row.place));
                        let verdict = self.failures.failed(before, &error.summary(), visitors, false);
                        let never_offered = !spool.has_offered_unresolved();
                        trouble = Some(
                            self.pass_over(spool, &row.key, row.place, verdict, never_offered, error)
                                .await?,
                        );
                        if self.first.is_some() {
                            break;
                        }
                        continue;
                    }
                    Err(error) => {
                        // What is before it goes all the same.
                        trouble = Some(Step::Unavailable(error));
                        break;
                    }
                },
            };
            done.push(row.place);
            if !views.is_empty() {
                places.push(row.place);
                let views = self.located(views);
                parts.push(Part { key: row.key, views });
            }
        }
        if parts.is_empty() {
            spool.remove_rows(&done).await?;
            return Ok(trouble.unwrap_or(Step::Again));
        }
        let settled = self.settled(spool).await?;
        let batch = Batch { parts, settled };
        let start = Instant::now();
        let tried_before = self.try_numbers_of(spool, &batch);
        match self.store.apply(&batch).await {
            Ok(applied) => {
                self.is_copied |= applied.known_parts > tried_before;
                self.applied(applied, start);
                if done.len() == places.len() && !self.limits.keep_applied.is_zero() {
                    spool.keep_rows(&done, self.limits.keep_applied).await?;
                } else {
                    // Of rows without views the ledger knows nothing: where the disk did not let them go, nothing is
                    // kept.
                    spool.remove_rows(&done).await?;
                }
                self.max_rows = (self.max_rows * 2).min(MAX_ROWS);
                Ok(trouble.unwrap_or(Step::Done))
            }
            Err(error) => self.failed(spool, &batch, &places, error).await,
        }
    }

    /// Notes which of the own numbers are tried; answers how many parts of the batch may have been tried before.
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

    /// Whether the ledger knew own numbers that this process had not tried: another copy of it has used them.
    pub(super) fn is_copied(&mut self) -> bool {
        std::mem::take(&mut self.is_copied)
    }

    /// The rows that are next: those that were passed over have their turn, one at a time, after others went well,
    /// and where nothing else waits; where there is no room for another, in turns with the others.
    async fn next(&mut self, spool: &Spool) -> Result<Vec<Row>, SpoolError> {
        let is_full = spool.passed_over().rows >= apart::MOST;
        if std::mem::take(&mut self.is_their_turn)
            && let Some(row) = spool.next_passed_over(is_full).await?
        {
            return Ok(vec![row]);
        }
        let limits = &self.limits;
        let (views, bytes) = (limits.batch_views.get() as u64, limits.batch_bytes as u64);
        let rows = spool.next(self.max_rows, views, bytes).await?;
        if rows.is_empty() {
            return Ok(spool.next_passed_over(false).await?.into_iter().collect());
        }
        Ok(rows)
    }

    /// Parts that the ledger may forget. Of a spool that was taken over none: a crash may have left copies of its
    /// dead letters, and the ledger is what tells that they are the same.
    async fn settled(&self, spool: &Spool) -> Result<Vec<BatchKey>, SpoolError> {
        if self.own != Some(spool.id()) {
            return Ok(Vec::new());
        }
        Ok(vec![spool.first_unsettled().await?])
    }

    /// Says which spool is this process' own.
    pub(super) fn owns(&mut self, own: WriterId) {
        if self.own.replace(own) != Some(own) {
            self.tried_to = 0;
        }
    }

    fn resolved(&self, resolved: &Resolved) {
        let metrics = &self.metrics;
        metrics.page_views_counted.inc_by(resolved.views.len() as u64);
        for recorded in &resolved.views {
            self.recent.note(&recorded.view, recorded.community.as_ref());
        }
        for (reason, views) in [
            (NotCounted::Anonymous, resolved.nobodys),
            (NotCounted::CommunityKey, resolved.no_keys),
        ] {
            let not_counted = &metrics.page_views_not_counted;
            not_counted.with_label_values(&[reason.label()]).inc_by(views);
        }
        let unreadable = Dropped::SessionUnavailable.label();
        metrics
            .recorder_dropped
            .with_label_values(&[unreadable])
            .inc_by(resolved.unreadable);
    }

    /// What the database is asked through.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn damaged(&self, spool: &Spool, row: &Row) -> Result<(), SpoolError> {
        spool.mark_damaged(row.place).await?;
        let reason = Dropped::SpoolDamaged.label();
        self.metrics
            .recorder_dropped
            .with_label_values(&[reason])
            .inc_by(row.views);
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

    #[expect(clippy::cast_precision_loss, reason = "counts and seconds")]
    fn applied(&mut self, applied: Applied, start: Instant) {
        self.is_their_turn = true;
        if applied.views > 0 {
            self.failures.success();
            self.metrics.writes_refused.store(None);
        }
        self.metrics.batch_rows.observe(applied.views as f64);
        self.metrics.apply_duration.observe(start.elapsed().as_secs_f64());
        self.metrics.applied_views.inc_by(applied.views as u64);
        self.metrics.known_parts.inc_by(applied.known_parts as u64);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_apply.set(now.as_secs_f64());
    }
}
