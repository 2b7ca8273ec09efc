//! Background checks: database ping, schema and ledger, session changes. They tell an operator of a problem before a
//! visitor does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;

use super::StartError;
use crate::admin::Metrics;
use crate::auth::{Authenticator, revocation};
use crate::config::Config;
use crate::reload::Reloader;
use crate::store::{self, LedgerProblem, SchemaProblem, Store, StoreError};
use crate::tasks::{Task, Tasks};

/// What is watched.
pub(super) struct Watched<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) authenticator: &'a Arc<Authenticator>,
    pub(super) metrics: &'a Metrics,
}

impl Watched<'_> {
    /// Starts the checks, and `reloader` with them.
    ///
    /// # Errors
    /// The database's URL is invalid.
    pub(super) fn start(self, reloader: Reloader, tasks: &Tasks) -> anyhow::Result<()> {
        tasks.keep_worker(Task::Reloader, reloader, |reloader| reloader.run().boxed());
        self.hear_sessions(tasks)?;
        tasks.keep(Task::DatabaseWatch, {
            let (store, metrics) = (self.store.clone(), self.metrics.store.clone());
            move || watch_database(store.clone(), metrics.clone())
        });
        tasks.keep(Task::SchemaWatch, {
            let (config, metrics) = (self.config.clone(), self.metrics.store.clone());
            move || check_schema(config.clone(), metrics.clone())
        });
        Ok(())
    }

    /// Listens for sessions that end, where the configuration has the database notify.
    fn hear_sessions(&self, tasks: &Tasks) -> anyhow::Result<()> {
        let listener = store::session_listener(self.config).context("the database")?;
        let Some(listener) = listener else {
            return Ok(());
        };
        let (config, authenticator, metrics) = (
            self.config.clone(),
            self.authenticator.clone(),
            self.metrics.auth.clone(),
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

/// Time between two pings of the database.
const DATABASE_PING: Duration = Duration::from_secs(5);
/// Time between two checks of the tables: they may be changed while the sidecar runs.
const SCHEMA_LOOK: Duration = Duration::from_secs(60);

/// Reports whether the database answers, even while nothing is recorded. An answer that takes until the next ping is
/// due counts as none, whatever the timeout of statements.
async fn watch_database(store: Arc<dyn Store>, metrics: Arc<store::Metrics>) {
    let mut answered = true;
    loop {
        let error = match tokio::time::timeout(DATABASE_PING, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer to a ping within {DATABASE_PING:?}")),
        };
        metrics.database_up.set(i64::from(error.is_none()));
        if error.is_none() && store.keys().get().is_none() {
            // Problems with the tables are reported elsewhere.
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

/// Longest time that a start waits for the database to say whether it has the ledger. The site is served even if the
/// database is down.
const START_LOOK: Duration = Duration::from_secs(2);

/// Refuses to start where the database says that page views cannot be written to it.
///
/// # Errors
/// The operator must fix the configuration or the environment.
pub(super) async fn ledger_at_start(store: &Arc<dyn Store>) -> Result<(), StartError> {
    match tokio::time::timeout(START_LOOK, store.ledger()).await {
        Ok(Ok(Some(problem))) => Err(StartError::Configuration(format!("database: {problem}"))),
        Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
    }
}

/// Reads the types of the app's keys, where the database answers: the first pages name communities by them.
pub(super) async fn keys_at_start(store: &Arc<dyn Store>) {
    let look = async {
        // This uses a connection of its own, which fails at once where there is no server.
        if store.ledger().await.is_ok() {
            let _ = store.key_types().await;
        }
    };
    let _ = tokio::time::timeout(START_LOOK, look).await;
}

/// Compares the configuration with the live schema as soon as the database answers, and then periodically. Logs each
/// mismatch in the sentences of `headcount check`.
async fn check_schema(config: Config, metrics: Arc<store::Metrics>) {
    let mut said: Vec<Finding> = Vec::new();
    loop {
        let Ok(found) = problems(&config).await else {
            tokio::time::sleep(DATABASE_PING).await;
            continue;
        };
        let (schema, ledger) = found;
        // The session listener checks for its trigger itself, again and again.
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
