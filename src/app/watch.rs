//! What is looked at in the background, so that an operator hears of it before a visitor does.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::{self, SchemaProblem, Store};

/// Time between two looks whether the database answers.
const DATABASE_PING: Duration = Duration::from_secs(5);

/// Shows whether the database answers, even while nothing is recorded. No answer until the next look is due is
/// none, however patient the statements are.
pub(super) async fn watch_database(store: Arc<dyn Store>, metrics: Arc<Metrics>) {
    let mut answered = true;
    loop {
        let error = match tokio::time::timeout(DATABASE_PING, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer to a ping within {DATABASE_PING:?}")),
        };
        metrics.database_up.set(i64::from(error.is_none()));
        match &error {
            Some(error) if answered => tracing::warn!(error, "the database does not answer"),
            None if !answered => tracing::info!("the database answers again"),
            _ => {}
        }
        answered = error.is_none();
        tokio::time::sleep(DATABASE_PING).await;
    }
}

/// Compares the configuration with the live schema as soon as the database answers, and says what does not
/// fit: the same sentences as `headcount check`.
pub(super) async fn check_schema(config: Config) {
    loop {
        match store::check(&config).await {
            Ok(problems) => {
                // The listener looks for its trigger itself, and goes on looking.
                let is_ours = |problem: &SchemaProblem| !matches!(problem, SchemaProblem::NoTrigger { .. });
                for problem in problems.into_iter().filter(is_ours) {
                    tracing::error!("the app's tables are not as configured: {problem}");
                }
                return;
            }
            Err(_) => tokio::time::sleep(DATABASE_PING).await,
        }
    }
}
