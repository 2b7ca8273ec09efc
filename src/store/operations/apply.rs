//! Writing a batch, in one transaction: the steps, their order, and what is left out where the database refuses it for good.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{AddDeltas, Backend, NoteOmission, NoteParts, Rules, Runs, StoreOperation};
use crate::batch::Batch;
use crate::ids::{BrowserSessionId, UserId};
use crate::store::Applied;
use crate::store::error::{in_words, is_impossible, is_untranslatable, lacks_counters};
use crate::store::rows::EventRows;
use crate::store::schema::{AppSchema, Column, EventInsert, EventTable, PageCounter, ProfileTable};

/// Writes a batch, in one transaction.
///
/// Two sidecars, and a sidecar and the app, must never deadlock (W7): tables in fixed order (ledger, events,
/// what is added to counters, sessions, profiles), and the rows of each in the order of their keys. On Postgres the rows to which
/// events refer are locked with the events (`KEY SHARE`), for which no update of columns other than the key waits. An app that has a
/// session's row and wants to delete such a row, or to lock it `FOR UPDATE`, waits until the batch gives up waiting for the
/// session: `database.lock_timeout`.
pub(in crate::store) struct Apply<'a> {
    pub batch: &'a Batch,
    pub rules: &'a Rules,
    /// Set when the ledger has noted the parts: nothing of them is in the tables, and no earlier try is still
    /// under way.
    pub noted: &'a AtomicBool,
    /// Set before a COMMIT is sent: before that, nothing of this try is in the database.
    pub committing: &'a AtomicBool,
    /// Set when an update beside the events is left out for the first time since the schema was read.
    pub left_out: &'a AtomicBool,
}

impl StoreOperation for Apply<'_> {
    type Output = Applied;
    const WRITES: bool = true;
    const WHAT: &'static str = "the writing of page views";
}

impl<B: Backend> Runs<Apply<'_>> for B {
    async fn run(
        operation: &Apply<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Applied, sqlx::Error> {
        let mut in_ascii = false;
        // Each round leaves out one more thing, so this ends.
        loop {
            match operation.attempt::<B>(app, connection, in_ascii).await {
                // A batch is tried in smaller parts first, so that only the row at fault loses characters.
                Err(FailedAttempt { error, .. })
                    if is_untranslatable(&error) && operation.batch.views().count() == 1 && !in_ascii =>
                {
                    in_ascii = true;
                }
                // The events must not wait for what will never be.
                Err(FailedAttempt {
                    update: Some(update),
                    error,
                }) if (is_impossible(&error) || (update == COUNTERS && lacks_counters(&error)))
                    && !app.left_out.contains(update) =>
                {
                    app.left_out.insert(update, in_words(&error));
                    operation.left_out.store(true, Ordering::Relaxed);
                }
                Err(FailedAttempt { error, .. }) => return Err(error),
                Ok(applied) => {
                    return Ok(Applied {
                        left_out: app.left_out.sentences(),
                        ..applied
                    });
                }
            }
        }
    }
}

/// Why one try failed.
struct FailedAttempt {
    /// The update beside the events that failed, if it was one.
    update: Option<&'static str>,
    error: sqlx::Error,
}

impl From<sqlx::Error> for FailedAttempt {
    fn from(error: sqlx::Error) -> Self {
        Self { update: None, error }
    }
}

impl FailedAttempt {
    /// That of an update beside the events.
    fn of(update: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self {
            update: Some(update),
            error,
        }
    }
}

impl Apply<'_> {
    /// One transaction. Events are written with ASCII characters alone where `in_ascii`; updates that are left out are not tried.
    async fn attempt<B: Backend>(
        &self,
        app: &AppSchema,
        connection: &mut B::Connection,
        in_ascii: bool,
    ) -> Result<Applied, FailedAttempt> {
        let mut transaction = B::begin(connection, &self.rules.database).await?;
        self.noted.store(false, Ordering::Relaxed);
        let note = NoteParts { batch: self.batch };
        let new = B::run(&note, app, &mut transaction).await?;
        self.noted.store(true, Ordering::Relaxed);
        let known_parts = self.batch.parts.len() - new.len();
        let batch: Cow<'_, Batch> = if known_parts == 0 {
            Cow::Borrowed(self.batch)
        } else {
            Cow::Owned(self.batch.only(&new))
        };
        let views = batch.views().count();
        if views > 0 {
            self.insert_events::<B>(&batch, app, &mut transaction, in_ascii)
                .await?;
            self.add_deltas::<B>(&batch, app, &mut transaction).await?;
            add_pages::<B>(&batch, app, &mut transaction).await?;
            self.raise_last_active::<B>(&batch, app, &mut transaction).await?;
        }
        self.committing.store(true, Ordering::Relaxed);
        transaction.commit().await?;
        Ok(Applied {
            views,
            known_parts,
            left_out: Vec::new(),
        })
    }

    async fn insert_events<B: Backend>(
        &self,
        batch: &Batch,
        app: &AppSchema,
        connection: &mut B::Connection,
        in_ascii: bool,
    ) -> Result<(), sqlx::Error> {
        if let Some(event) = &app.event
            && let Some(columns) = &event.insert
        {
            let rows = EventRows {
                batch,
                columns,
                key: app.keys().community,
                community_id_as: self.rules.community_id_as,
                in_ascii,
            };
            let insert = InsertEvents { event, columns, rows };
            B::run(&insert, app, connection).await?;
        }
        Ok(())
    }

    async fn add_deltas<B: Backend>(
        &self,
        batch: &Batch,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), FailedAttempt> {
        if !self.rules.counts || app.event.is_none() {
            return Ok(());
        }
        let types = &self.rules.counted.get();
        if app.adds_deltas && !app.left_out.contains(COUNTERS) {
            let add = AddDeltas { batch, types };
            let added = B::run(&add, app, connection).await;
            added.map_err(FailedAttempt::of(COUNTERS))?;
        } else {
            B::run(&NoteOmission { batch, types }, app, connection).await?;
        }
        Ok(())
    }

    async fn raise_last_active<B: Backend>(
        &self,
        batch: &Batch,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), FailedAttempt> {
        if let Some(profile) = &app.profile
            && let Some(column) = &profile.last_active
            && !app.left_out.contains(LAST_ACTIVE)
        {
            let raise = RaiseLastActive {
                profile,
                column,
                moments: batch.last_active_by_user(),
                interval: self.rules.last_active_interval,
            };
            let raised = B::run(&raise, app, connection).await;
            raised.map_err(FailedAttempt::of(LAST_ACTIVE))?;
        }
        Ok(())
    }
}

async fn add_pages<B: Backend>(
    batch: &Batch,
    app: &AppSchema,
    connection: &mut B::Connection,
) -> Result<(), FailedAttempt> {
    if app.adds_pages
        && !app.left_out.contains(PAGES_VISITED)
        && let Some(counter) = app.session.page_counter()
    {
        let pages = batch.pages_by_session();
        let added = B::run(&AddPages { counter, pages }, app, connection).await;
        added.map_err(FailedAttempt::of(PAGES_VISITED))?;
    }
    Ok(())
}

/// The updates that a batch makes beside its events.
const PAGES_VISITED: &str = "pages_visited";
const LAST_ACTIVE: &str = "last_active";
const COUNTERS: &str = "counters";

/// Whether a batch tries the update of a sentence of [`Applied::left_out`] by this schema.
pub(in crate::store) fn is_tried(app: &AppSchema, left_out: &str) -> bool {
    match left_out.split(':').next() {
        Some(COUNTERS) => app.adds_deltas,
        Some(PAGES_VISITED) => app.adds_pages,
        _ => app
            .profile
            .as_ref()
            .is_some_and(|profile| profile.last_active.is_some()),
    }
}

/// Inserts page views; a step of [`Apply`].
pub(in crate::store) struct InsertEvents<'a> {
    pub event: &'a EventTable,
    pub columns: &'a EventInsert,
    pub rows: EventRows<'a>,
}

impl StoreOperation for InsertEvents<'_> {
    type Output = ();
    const WRITES: bool = true;
}

/// Adds to the sessions' page counters; a step of [`Apply`].
pub(in crate::store) struct AddPages<'a> {
    pub counter: PageCounter<'a>,
    pub pages: BTreeMap<BrowserSessionId, i64>,
}

impl StoreOperation for AddPages<'_> {
    type Output = ();
    const WRITES: bool = true;
}

/// S7: raises when the users were last active, never back in time, where that is by more than the interval; a step of
/// [`Apply`].
pub(in crate::store) struct RaiseLastActive<'a> {
    pub profile: &'a ProfileTable,
    pub column: &'a Column,
    pub moments: BTreeMap<UserId, DateTime<Utc>>,
    pub interval: Duration,
}

impl StoreOperation for RaiseLastActive<'_> {
    type Output = ();
    const WRITES: bool = true;
}
