//! Examines the database for `headcount check`: what a start looks at, then what needs no action.

use std::sync::Arc;

use super::inspection::types_of;
use super::open::misconfigured;
use super::operations::Backend;
use super::sql::SqlStore;
use super::url::{Scheme, database_url};
use super::{
    Inspection, SchemaProblem, Store as _, StoreError, ignored_parameters, postgres, session_remarks, sqlite,
};
use crate::config::Config;
use crate::ids::SiteIdentity;
use crate::key_type::AppKeys;
use crate::routes::RouteTable;

/// What was found.
#[derive(Debug)]
pub struct Examination {
    /// As a start finds it.
    pub inspection: Inspection,
    /// The types of the app's keys, where the tables could be read.
    pub keys: AppKeys,
    /// Remarks about connection, server, sessions and events, which need no action. None where the role lacks a right, or the
    /// tables something without which they are not read.
    pub notes: Vec<String>,
    /// Which site it is.
    pub site: SiteIdentity,
}

/// Looks at the database, for the event types that `routes` write, too.
///
/// # Errors
/// The database did not answer, or not to the end.
pub async fn examine(config: &Config, routes: &RouteTable) -> Result<Examination, StoreError> {
    let url = database_url(&config.database).map_err(misconfigured)?;
    let types = types_of(routes);
    match Scheme::of(&url).map_err(misconfigured)? {
        Scheme::Postgres => {
            let store = postgres::store(&url, config).map_err(misconfigured)?;
            let remarks = async || postgres::remarks(&url, config).await;
            of(store, config, &types, remarks).await
        }
        Scheme::Sqlite => {
            let store = sqlite::store(url.expose(), config).map_err(misconfigured)?;
            of(store, config, &types, async || Ok(Vec::new())).await
        }
    }
}

async fn of<B: Backend>(
    store: SqlStore<B>,
    config: &Config,
    types: &[Arc<str>],
    remarks: impl AsyncFnOnce() -> Result<Vec<String>, StoreError>,
) -> Result<Examination, StoreError> {
    let looked = async {
        let inspection = store.inspect(types, None).await?;
        if inspection.tables.iter().all(SchemaProblem::is_a_warning)
            && let Some(error) = inspection.incomplete()
        {
            return Err(error.again());
        }
        let mut notes = Vec::new();
        if inspection.lacking.is_empty() && store.keys().get().is_some() {
            // What takes too long to look through is no reason for the check to fail.
            let or_why = |what: &str, found: Result<Vec<String>, StoreError>| {
                found
                    .unwrap_or_else(|error| vec![format!("{what} could not be looked at: {}", error.chain())])
            };
            notes.extend(ignored_parameters(config));
            notes.extend(or_why("the server", remarks().await));
            notes.extend(session_remarks::without_columns(config));
            let sessions = store.session_remarks(&config.session).await;
            notes.extend(or_why("live sessions", sessions));
            notes.extend(inspection.indexes.iter().cloned());
            let events = store.event_notes(types).await;
            notes.extend(or_why("the events of the last day", events));
        }
        Ok(Examination {
            inspection,
            keys: store.keys(),
            notes,
            site: store.state().site.clone(),
        })
    };
    let found = looked.await;
    store.close().await;
    found
}
