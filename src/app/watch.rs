//! What is looked at in the background, so that an operator hears of it before a visitor does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;

use super::StartError;
use crate::auth::{Authenticator, revocation};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::store::{self, LedgerProblem, SchemaProblem, Store, StoreError};
use crate::tasks::{Task, Tasks};

/// What is watched.
pub(super) struct Watched<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) authenticator: &'a Arc<Authenticator>,
    pub(super) metrics: &'a Arc<Metrics>,
}

impl Watched<'_> {
    /// Starts to watch, and `reloader` with it.
    ///
    /// # Errors
    /// The database's URL is of no use.
    pub(super) fn start(self, reloader: Reloader, tasks: &Tasks) -> anyhow::Result<()> {
        tasks.keep_worker(Task::Reloader, reloader, |reloader| reloader.run().boxed());
        self.hear_sessions(tasks)?;
        tasks.keep(Task::DatabaseWatch, {
            let (store, metrics) = (self.store.clone(), self.metrics.clone());
            move || watch_database(store.clone(), metrics.clone())
        });
        tasks.keep(Task::SchemaWatch, {
            let (config, metrics) = (self.config.clone(), self.metrics.clone());
            move || check_schema(config.clone(), metrics.clone())
        });
        Ok(())
    }

    /// Hears of sessions that end, where the configuration has the database tell.
    fn hear_sessions(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let listener = store::session_listener(self.config).context("the database")?;
        let Some(listener) = listener else {
            return Ok(());
        };
        let (config, authenticator, metrics) = (
            self.config.clone(),
            self.authenticator.clone(),
            self.metrics.clone(),
        );
        let mut first = Some(listener);
        tasks.keep(Task::SessionListener, move || {
            let first = first.take().map(|listener| Ok(Some(listener)));
            let listener = first.unwrap_or_else(|| store::session_listener(&config));
            let (authenticator, metrics) = (authenticator.clone(), metrics.clone());
            async move {
                if let Ok(Some(listener)) = listener {
                    revocation::listen(listener, authenticator, metrics).await;
                }
            }
        });
        Ok(())
    }
}

/// Time between two looks whether the database answers.
const DATABASE_PING: Duration = Duration::from_secs(5);
/// Time between two looks at the tables: the app, or somebody, may change them while the sidecar runs.
const SCHEMA_LOOK: Duration = Duration::from_secs(60);

/// Shows whether the database answers, even while nothing is recorded. No answer until the next look is due is
/// none, however patient the statements are.
async fn watch_database(store: Arc<dyn Store>, metrics: Arc<Metrics>) {
    let mut answered = true;
    loop {
        let error = match tokio::time::timeout(DATABASE_PING, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer to a ping within {DATABASE_PING:?}")),
        };
        metrics.database_up.set(i64::from(error.is_none()));
        if error.is_none() && store.keys().get().is_none() {
            // What is wrong with the tables is told elsewhere.
            let _ = store.key_types().await;
        }
        match &error {
            Some(error) if answered => tracing::warn!(error, "the database does not answer"),
            None if !answered => tracing::info!("the database answers again"),
            _ => {}
        }
        answered = error.is_none();
        tokio::time::sleep(DATABASE_PING).await;
    }
}

/// Longest time that a start waits for the database to say whether it has the ledger. A site whose database
/// is away is served all the same.
const START_LOOK: Duration = Duration::from_secs(2);

/// Refuses to start where the database says that page views cannot be written to it.
///
/// # Errors
/// What the operator must mend.
pub(super) async fn ledger_at_start(store: &Arc<dyn Store>) -> Result<(), StartError> {
    match tokio::time::timeout(START_LOOK, store.ledger()).await {
        Ok(Ok(Some(problem))) => Err(StartError::Configuration(format!("database: {problem}"))),
        Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
    }
}

/// Finds out the types of the app's keys, where the database answers: the first pages name communities by them.
pub(super) async fn keys_at_start(store: &Arc<dyn Store>) {
    let look = async {
        // It is asked over a connection of its own, which fails at once where there is no server.
        if store.ledger().await.is_ok() {
            let _ = store.key_types().await;
        }
    };
    let _ = tokio::time::timeout(START_LOOK, look).await;
}

/// Compares the configuration with the live schema as soon as the database answers, and from time to time, and says
/// what does not fit: the same sentences as `headcount check`.
async fn check_schema(config: Config, metrics: Arc<Metrics>) {
    let mut said: Vec<Finding> = Vec::new();
    loop {
        let Ok(found) = problems(&config).await else {
            tokio::time::sleep(DATABASE_PING).await;
            continue;
        };
        let (schema, ledger) = found;
        // The listener looks for its trigger itself, and goes on looking.
        let is_ours = |problem: &&SchemaProblem| !matches!(problem, SchemaProblem::NoTrigger { .. });
        metrics.ledger_ok.set(i64::from(ledger.is_none()));
        let schema = schema.iter().filter(is_ours).map(Finding::of_schema);
        let ledger = ledger.map(|problem| Finding::Fault(format!("page views cannot be written: {problem}")));
        let now: Vec<Finding> = schema.chain(ledger).collect();
        for finding in now.iter().filter(|finding| !said.contains(finding)) {
            match finding {
                Finding::Fault(sentence) => tracing::error!("{sentence}"),
                Finding::Question(sentence) => tracing::warn!("{sentence}"),
            }
        }
        let pause = pause_after(&now);
        said = now;
        tokio::time::sleep(pause).await;
    }
}

/// What does not fit, in a sentence.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// Something fails until it is put right, and may be any moment.
    Fault(String),
    /// Nothing fails, and only the next configuration answers it.
    Question(String),
}

impl Finding {
    fn of_schema(problem: &SchemaProblem) -> Self {
        if problem.is_a_question() {
            Self::Question(problem.to_string())
        } else {
            Self::Fault(format!("the app's tables are not as configured: {problem}"))
        }
    }
}

/// How long until the tables are looked at again.
fn pause_after(found: &[Finding]) -> Duration {
    let is_fault = |finding: &Finding| matches!(finding, Finding::Fault(_));
    if found.iter().any(is_fault) {
        DATABASE_PING
    } else {
        SCHEMA_LOOK
    }
}

async fn problems(config: &Config) -> Result<(Vec<SchemaProblem>, Option<LedgerProblem>), StoreError> {
    let schema = store::check(config).await?;
    let ledger = if config.record.writes() {
        store::check_ledger(config).await?
    } else {
        None
    };
    Ok((schema, ledger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_no_outage() {
        let question = SchemaProblem::NoTimeZone {
            columns: vec!["event.timestamp".into()],
        };
        let question = Finding::of_schema(&question);
        assert!(matches!(question, Finding::Question(_)), "{question:?}");
        assert_eq!(pause_after(&[]), SCHEMA_LOOK);
        assert_eq!(pause_after(std::slice::from_ref(&question)), SCHEMA_LOOK);

        let fault = Finding::of_schema(&SchemaProblem::ReadOnly);
        assert!(matches!(fault, Finding::Fault(_)), "{fault:?}");
        assert_eq!(pause_after(&[question, fault]), DATABASE_PING);
    }
}
