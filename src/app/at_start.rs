//! Checks before anything is served, and before other routes are: one look at the database says whether that makes sense.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::StartError;
use crate::config::Config;
use crate::printable::joined;
use crate::reload::DatabaseCheck;
use crate::routes::RouteTable;
use crate::store::{self, Inspection, SchemaProblem, Store, StoreError};

/// Longest time that a start waits for the database to say whether it fits. The site is served even if the database is
/// down.
const START_LOOK: Duration = Duration::from_secs(2);

/// Looks at the database, and refuses to start where it says that it cannot do what is configured: write page views, their
/// event types, or counters (a right that is missing for these alone refuses nothing). The answer is what was found; `None` where
/// the database does not answer. The store knows the types of the app's keys then: the first pages name communities by them.
///
/// # Errors
/// The operator must fix the configuration, the route files or the environment.
pub(super) async fn look(
    store: &Arc<dyn Store>,
    config: &Config,
    routes: &RouteTable,
    is_taking_over: bool,
) -> Result<Option<Inspection>, StartError> {
    let types = store::types_of(routes);
    let found = if is_taking_over {
        may_take_over(store.inspect(&types, None).await, config)?
    } else {
        store.inspect(&types, Some(START_LOOK)).await.map_or_else(
            |error| {
                not_completed(&error);
                None
            },
            Some,
        )
    };
    let Some(found) = found else {
        return Ok(None);
    };
    if let Some(error) = found.incomplete() {
        not_completed(error);
    }
    let refused = found.refused_types(routes);
    if !refused.is_empty() {
        return Err(StartError::Configuration(refused.join("\n")));
    }
    if let Some(problem) = found.ledger_problem() {
        let problem: &dyn Display = if problem.is_of_the_role() {
            &found.lacking
        } else {
            problem
        };
        return Err(StartError::Configuration(format!("database: {problem}")));
    }
    // A right that is missing is no fault of the configuration: views are recorded, and the watch over the tables says that
    // counters are not kept.
    let of_counters = found.tables.iter().filter(|problem| problem.refuses_counters());
    let of_counters: Vec<_> = of_counters.map(ToString::to_string).collect();
    if config.counters.enabled && !of_counters.is_empty() {
        return Err(StartError::Configuration(joined(&of_counters)));
    }
    for sentence in &found.indexes {
        tracing::warn!("{sentence}");
    }
    Ok(Some(found))
}

/// Once at each start: what was not looked at is not checked before it is used.
fn not_completed(error: &StoreError) {
    let error = error.chain();
    tracing::warn!(
        error,
        "the start has not looked at all of the database: what is not as configured is found when it is used"
    );
}

/// What the reloader asks before it uses other routes: whether the database takes their event types. One that does not
/// answer refuses nothing.
pub(super) fn at_reload(store: &Arc<dyn Store>) -> DatabaseCheck {
    let store = Arc::clone(store);
    Box::new(move |routes| {
        let store = Arc::clone(&store);
        async move {
            let types = store::types_of(&routes);
            let found = store.inspect(&types, Some(START_LOOK)).await.ok()?;
            let refused = found.refused_types(&routes);
            (!refused.is_empty()).then(|| refused.join("\n"))
        }
        .boxed()
    })
}

/// Refuses to replace a running sidecar by one for which `headcount check` fails on the tables, but for a right that only
/// counters lack. A database that does not answer, or takes no writes now, says nothing of the configuration.
fn may_take_over(
    looked: Result<Inspection, StoreError>,
    config: &Config,
) -> Result<Option<Inspection>, StartError> {
    let (found, faults) = match looked {
        Ok(found) => {
            let mut faults = found.faults(SchemaProblem::prevents_a_take_over);
            faults.extend(found.ledger_fault().map(ToString::to_string));
            (Some(found), faults)
        }
        Err(error) if error.is_of_the_configuration() => (None, vec![error.chain()]),
        Err(error) => {
            let error = error.chain();
            tracing::warn!(
                error,
                "the database does not answer: the tables are taken over unchecked"
            );
            (None, Vec::new())
        }
    };
    if faults.is_empty() {
        return Ok(found);
    }
    let place = store::place(&config.database);
    let faults: Vec<String> = faults.iter().map(|sentence| format!("\n  {sentence}")).collect();
    Err(StartError::Configuration(format!(
        "the running sidecar is not replaced: {place}: the database's tables are not as configured:{}",
        faults.concat()
    )))
}
