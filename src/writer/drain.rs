//! One step from a spool to the database: what becomes of the next rows. When steps are taken is the
//! applier's affair.
//!
//! Every step can be cut off anywhere, by a crash or a dropped future, and taken again. What makes that safe:
//!
//! - a row is deleted only after the database has committed it;
//! - a row keeps its key until the database has it or has refused it, and the ledger knows the key exactly if
//!   it has the row;
//! - only an error that says that nothing of the row is there lets a row be split or become a dead letter. Any other may
//!   have it passed over for a while, under the same key.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chrono::Utc;

use super::Limits;
use super::batch::{Batch, BatchKey, Part, RecordedView, WriterId};
use super::failures::{Failures, Verdict};
use super::late::{Known, Late, Resolved};
use super::spool::encode::Body;
use super::spool::{Buried, Row, Spool, SpoolError, apart};
use crate::geoip::GeoIp;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::NotCounted;
use crate::recorder::recent::RecentPages;
use crate::store::{Applied, Store, StoreError};

/// Most rows of one transaction.
const MAX_ROWS: usize = 1_000;

/// Takes rows out of spools.
pub(super) struct Drain {
    store: Arc<dyn Store>,
    late: Late,
    geoip: Option<GeoIp>,
    recent: RecentPages,
    limits: Limits,
    /// Rows of the next transaction at most: fewer after a refusal or a timeout, then more again.
    max_rows: usize,
    own: Option<WriterId>,
    failures: Failures,
    /// Rows that were passed over have their turn.
    is_their_turn: bool,
    /// Why the last row was passed over.
    said: String,
    /// Why the last dead letter was refused.
    said_of_letters: String,
    metrics: Arc<Metrics>,
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
            failures: Failures::default(),
            is_their_turn: false,
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
                        spool.resolve_row(row.place, resolved.views.clone()).await?;
                        self.resolved(&resolved);
                        resolved.views
                    }
                    // What is around it goes all the same.
                    Err(error) if error.may_be_the_rows() => {
                        let visitors = std::iter::once(row.key.to_string());
                        let verdict = self.failures.failed(row.key, &error.summary(), visitors, false);
                        trouble = Some(self.pass_over(spool, (row.place, row.views), verdict, error));
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
        match self.store.apply(&batch).await {
            Ok(applied) => {
                self.applied(&batch, applied, start);
                spool.remove_rows(&done).await?;
                self.max_rows = (self.max_rows * 2).min(MAX_ROWS);
                Ok(trouble.unwrap_or(Step::Done))
            }
            Err(error) => self.failed(spool, &batch, &places, error).await,
        }
    }

    /// The rows that are next: those that were passed over have their turn, one at a time, after others went well,
    /// and where nothing else waits.
    async fn next(&mut self, spool: &Spool) -> Result<Vec<Row>, SpoolError> {
        if std::mem::take(&mut self.is_their_turn)
            && let Some(row) = spool.next_passed_over().await?
        {
            return Ok(vec![row]);
        }
        let limits = &self.limits;
        let (views, bytes) = (limits.batch_views.get() as u64, limits.batch_bytes as u64);
        let rows = spool.next(self.max_rows, views, bytes).await?;
        if rows.is_empty() {
            return Ok(spool.next_passed_over().await?.into_iter().collect());
        }
        Ok(rows)
    }

    /// A batch that failed, for reasons that may lie in its rows, is tried in smaller and smaller parts, until what
    /// fails is alone; that waits, or becomes a dead letter, and the rest lands (W1).
    async fn failed(
        &mut self,
        spool: &Spool,
        batch: &Batch,
        places: &[i64],
        error: StoreError,
    ) -> Result<Step, SpoolError> {
        // A server that hangs is slow with every row.
        let hangs = error.took_too_long() && self.store.ping().await.is_err();
        if hangs || !error.may_be_the_rows() {
            if error.took_too_long() {
                self.max_rows = (batch.parts.len() / 2).max(1);
            }
            return Ok(Step::Unavailable(error));
        }
        let ([part], [place]) = (&batch.parts[..], places) else {
            self.max_rows = (batch.parts.len() / 2).max(1);
            return Ok(Step::Failed(error));
        };
        if part.views.len() > 1 && error.nothing_written() {
            spool.split_row(*place, &part.views).await?;
            return Ok(Step::Failed(error));
        }
        let visitors = part.views.iter().map(|view| view.user_id.to_string());
        let cause = error.summary();
        let verdict = self
            .failures
            .failed(part.key, &cause, visitors, error.is_lasting());
        if verdict == Verdict::Bury {
            self.bury(spool, *place, &error).await?;
            return Ok(Step::Failed(error));
        }
        let row = (*place, part.views.len() as u64);
        Ok(self.pass_over(spool, row, verdict, error))
    }

    /// Passes over a row, of so many views, that failed alone.
    fn pass_over(
        &mut self,
        spool: &Spool,
        (place, views): (i64, u64),
        verdict: Verdict,
        error: StoreError,
    ) -> Step {
        let (pause, all) = match verdict {
            Verdict::PassOver(pause) => (pause, false),
            Verdict::PassOverAll(pause) => (pause, true),
            Verdict::Bury => return Step::Failed(error),
        };
        spool.pass_over(place, views, tokio::time::Instant::now() + pause);
        if all {
            self.metrics.writes_refused.store(Some(Arc::new(error.summary())));
        }
        if all || spool.passed_over().rows >= apart::MOST {
            return Step::Unavailable(error);
        }
        let reason = error.chain();
        // Once per reason: each is tried many times.
        if self.said != reason {
            tracing::warn!(
                error = reason,
                "a page view cannot be written now and is passed over; trying again, others go on"
            );
            self.said = reason;
        }
        Step::Failed(error)
    }

    async fn bury(&mut self, spool: &Spool, place: i64, error: &StoreError) -> Result<(), SpoolError> {
        let reason = error.chain();
        let share = self.limits.share();
        match spool.bury_row(place, &reason, Utc::now(), share).await? {
            Buried::Kept => {
                self.metrics.dead_letters_made.inc();
                // Once per reason: a constraint may refuse many.
                if self.said_of_letters != reason {
                    tracing::warn!(
                        error = reason,
                        "a page view was refused by the database and is kept; see `headcount dead-letters list`"
                    );
                    self.said_of_letters = reason;
                }
            }
            Buried::NoRoom => self.metrics.dropped(Dropped::Refused),
        }
        Ok(())
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
        self.own = Some(own);
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
    fn applied(&mut self, batch: &Batch, applied: Applied, start: Instant) {
        self.is_their_turn = true;
        if applied.views > 0 {
            self.failures.success(batch.keys());
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
