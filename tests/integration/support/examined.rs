//! What `headcount check` finds in a database, by its parts, of a configuration without routes.

use headcount::config::Config;
use headcount::routes::RouteTable;
use headcount::store::{self, Examination, LedgerProblem, SchemaProblem, StoreError};

async fn examined(config: &Config) -> Result<Examination, StoreError> {
    store::examine(config, &RouteTable::default()).await
}

/// Where the app's tables are not as configured.
pub async fn tables(config: &Config) -> Result<Vec<SchemaProblem>, StoreError> {
    Ok(examined(config).await?.inspection.tables)
}

/// What is wrong with the ledger.
pub async fn ledger(config: &Config) -> Result<Option<LedgerProblem>, StoreError> {
    examined(config).await?.inspection.ledger
}

/// Remarks, which need no action.
pub async fn notes(config: &Config) -> Result<Vec<String>, StoreError> {
    Ok(examined(config).await?.notes)
}
