//! Background checks: database ping, schema and ledger, session changes. They tell an operator of a problem before a
//! visitor does.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::shared_parts::SharedParts;
use crate::auth::{Authenticator, revocation};
use crate::reload::{ApiKeyFile, Reloader};
use crate::status::Component;
use crate::store::{self, Inspection, LedgerProblem, SchemaProblem, Store};
use crate::tasks::Task;

/// What is watched.
pub(super) struct Watched<'a> {
    pub(super) shared: &'a SharedParts,
    pub(super) authenticator: &'a Arc<Authenticator>,
    pub(super) api_keys: Option<Arc<ApiKeyFile>>,
    /// What the start has found.
    pub(super) inspection: Option<Inspection>,
}

impl Watched<'_> {
    /// Starts the checks, and `reloader` with them.
    ///
    /// # Errors
    /// The database's URL is invalid.
    pub(super) fn start(self, reloader: Reloader) -> anyhow::Result<()> {
        let SharedParts {
            config,
            store,
            status,
            tasks,
            ..
        } = self.shared;
        tasks.keep_worker(Task::Reloader, reloader, |reloader| reloader.run().boxed());
        self.listen_to_sessions()?;
        tasks.keep(Task::DatabaseWatch, {
            let (store, database) = (store.clone(), status.database.clone());
            let place = store::place(&config.database);
            let (api_keys, of_keys) = (self.api_keys.clone(), status.api_keys.clone());
            let looked = self.inspection.as_ref();
            let mut has_answered = looked.is_some_and(|found| found.incomplete().is_none());
            move || {
                let (api_keys, of_keys) = (api_keys.clone(), of_keys.clone());
                let answers = move || {
                    if let Some(api_keys) = &api_keys {
                        check_at_last(api_keys, &of_keys);
                    }
                };
                watch_database(
                    store.clone(),
                    place.clone(),
                    database.clone(),
                    take(&mut has_answered),
                    answers,
                )
            }
        });
        tasks.keep(Task::SchemaWatch, {
            let (store, status) = (store.clone(), status.clone());
            let mut found = self.inspection;
            move || {
                let (ledger, tables) = (status.ledger.clone(), status.tables.clone());
                check_schema(store.clone(), found.take(), ledger, tables)
            }
        });
        Ok(())
    }

    /// Listens for sessions that end, where the configuration has the database notify.
    fn listen_to_sessions(&self) -> anyhow::Result<()> {
        let shared = self.shared;
        let listener = store::session_listener(&shared.config).context("the database")?;
        let Some(listener) = listener else {
            return Ok(());
        };
        let (config, authenticator) = (shared.config.clone(), self.authenticator.clone());
        let (status, metrics) = (shared.status.clone(), shared.metrics.auth.clone());
        let mut first = Some(listener);
        shared.tasks.keep(Task::SessionListener, move || {
            let first = first.take().map(|listener| Ok(Some(listener)));
            let listener = first.unwrap_or_else(|| store::session_listener(&config));
            let (authenticator, status, metrics) = (authenticator.clone(), status.clone(), metrics.clone());
            async move {
                if let Ok(Some(listener)) = listener {
                    revocation::listen(listener, authenticator, status, metrics).await;
                }
            }
        });
        Ok(())
    }
}

/// Time between two pings of the database.
const DATABASE_PING: Duration = Duration::from_secs(5);
/// The same while it does not answer, and the least time between two: a failed use makes the next come sooner.
const DATABASE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(250));
/// Time between two checks of the tables: they may be changed while the sidecar runs.
const SCHEMA_LOOK: Duration = Duration::from_secs(60);
/// The least time between two: a failed statement makes the next come sooner.
const SCHEMA_RETRY: Duration = Duration::from_secs(1);

/// Waits for `pause`, or, but for at least `least`, until it is woken.
async fn wait(pause: Duration, least: Duration, wake_up: &Notify) {
    let sooner = async {
        sleep(least).await;
        wake_up.notified().await;
    };
    tokio::select! {
        () = sleep(pause) => {}
        () = sooner => {}
    }
}

/// Reports whether the database answers, even while nothing is recorded, and as soon as a use of it fails. An answer that
/// takes until the next ping is due counts as none, whatever the timeout of statements. `answers` is called after each answer;
/// `has_answered` says that there was one at the start, which counts as the first.
async fn watch_database(
    store: Arc<dyn Store>,
    place: String,
    database: Component,
    mut has_answered: bool,
    answers: impl Fn(),
) {
    let state = store.state();
    loop {
        let error = if take(&mut has_answered) {
            None
        } else {
            match tokio::time::timeout(DATABASE_PING, store.ping()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.chain()),
                Err(_) => Some(format!("no answer to a ping within {DATABASE_PING:?}")),
            }
        };
        if let Some(error) = error {
            database.down(format!("{place}: {error}"), |error| {
                tracing::warn!(error, "the database does not answer");
            });
        } else {
            database.up(|_| tracing::info!("the database answers again"));
            if store.keys().get().is_none() {
                // Problems with the tables are reported elsewhere.
                let _ = store.key_types().await;
            }
            answers();
        }
        let (while_down, least) = DATABASE_RETRY;
        let pause = if database.is_down() {
            while_down
        } else {
            DATABASE_PING
        };
        wait(pause, least, &state.check_database).await;
    }
}

/// Checks the communities that API keys name, where the database was away when that was to be done.
fn check_at_last(api_keys: &ApiKeyFile, status: &Component) {
    match api_keys.check_at_last() {
        Some(Ok(())) => tracing::info!("the communities that API keys name fit the database"),
        Some(Err(error)) => {
            api_keys.file.down_for(error.to_string(), |error| {
                tracing::error!(
                    error,
                    "an API key names what can be no community: it is refused there"
                );
            });
            status.show(api_keys.file.condition().reasons);
        }
        None => {}
    }
}

/// Compares the configuration with the live schema as soon as the database answers, then periodically, and when a
/// statement has failed in a way that the tables may be the reason of. Logs each mismatch in the sentences of
/// `headcount check`. `first` is what the start has found, if anything.
async fn check_schema(
    store: Arc<dyn Store>,
    mut first: Option<Inspection>,
    ledger: Component,
    tables: Component,
) {
    let state = store.state();
    let questions = Component::default();
    loop {
        let found = match first.take() {
            Some(found) => Ok(found),
            None => store.inspect(&[], None).await,
        };
        let Ok(Inspection {
            tables: schema,
            ledger: Ok(problem),
            ..
        }) = found
        else {
            sleep(DATABASE_PING).await;
            continue;
        };
        // The session listener checks for its trigger itself, again and again.
        let is_ours = |problem: &&SchemaProblem| !matches!(problem, SchemaProblem::NoTrigger { .. });
        let (faults, asked) = findings(schema.iter().filter(is_ours));
        let pause = pause_after(&faults, problem.as_ref());
        tables.set(
            faults,
            |sentence| tracing::error!("{sentence}"),
            |_| tracing::info!("the app's tables, and the role's rights on them, are as configured again"),
        );
        let reasons: Vec<_> = problem.iter().map(ToString::to_string).collect();
        ledger.set(
            reasons,
            |problem| tracing::error!("page views cannot be written: {problem}"),
            |_| tracing::info!("the ledger of applied batches is in order again"),
        );
        questions.set(
            asked,
            |sentence| tracing::warn!("{sentence}"),
            |_| tracing::info!("no question about the app's tables is open any more"),
        );
        wait(pause, SCHEMA_RETRY, &state.check_tables).await;
    }
}

/// What does not fit, a sentence each: what fails until it is put right, and may be any moment; and questions, from which
/// nothing fails, and which only the next configuration answers.
fn findings<'a>(schema: impl Iterator<Item = &'a SchemaProblem>) -> (Vec<String>, Vec<String>) {
    let (questions, faults): (Vec<_>, Vec<_>) = schema.partition(|problem| problem.is_a_question());
    let faults = faults
        .iter()
        .map(|problem| format!("the app's tables are not as configured: {problem}"));
    let questions = questions.iter().map(ToString::to_string);
    (faults.collect(), questions.collect())
}

/// How long until the tables are looked at again.
fn pause_after(faults: &[String], ledger: Option<&LedgerProblem>) -> Duration {
    if faults.is_empty() && ledger.is_none() {
        SCHEMA_LOOK
    } else {
        DATABASE_PING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Secret};

    #[tokio::test(start_paused = true)]
    async fn d12_a_failed_use_is_looked_into_at_once() {
        let wake_up = Notify::new();
        let took = async || {
            let start = tokio::time::Instant::now();
            wait(DATABASE_PING, DATABASE_RETRY.1, &wake_up).await;
            start.elapsed()
        };
        assert_eq!(took().await, DATABASE_PING, "nothing happens");
        wake_up.notify_one();
        assert_eq!(took().await, DATABASE_RETRY.1);
        assert_eq!(took().await, DATABASE_PING, "it is woken once");
    }

    #[tokio::test]
    async fn a_database_that_has_answered_counts_as_up_before_it_is_asked_again() {
        let mut config = Config::default();
        config.database.url = Some(Secret::new("postgres://nobody@127.0.0.1:1/none"));
        for has_answered in [true, false] {
            let store = store::open(&config).unwrap();
            let database = Component::default();
            database.down("nothing is known yet", |_| {});
            let watch = watch_database(store, String::new(), database.clone(), has_answered, || {});
            assert!(watch.now_or_never().is_none());
            assert_eq!(database.is_down(), !has_answered);
        }
    }

    #[test]
    fn a_question_is_no_outage() {
        let question = SchemaProblem::NoTimeZone {
            columns: vec!["event.timestamp".into()],
        };
        let (faults, _) = findings([].into_iter());
        assert_eq!(pause_after(&faults, None), SCHEMA_LOOK);
        assert_eq!(pause_after(&faults, Some(&LedgerProblem::Missing)), DATABASE_PING);
        let (faults, questions) = findings([&question].into_iter());
        assert_eq!((questions.len(), pause_after(&faults, None)), (1, SCHEMA_LOOK));

        let (faults, questions) = findings([&question, &SchemaProblem::ReadOnly].into_iter());
        assert_eq!((questions.len(), faults.len()), (1, 1));
        assert_eq!(pause_after(&faults, None), DATABASE_PING);
    }
}
