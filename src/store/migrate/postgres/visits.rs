//! The indexes of visits, which are made where `record.visits_index` says so, and dropped where it no longer does.

use sqlx::PgConnection;

use super::index;
use crate::store::event_indexes::VISITS;
use crate::store::migrate::{Addition, MigrateError, Step};
use crate::store::postgres::event_index::VISITS_STATEMENTS;
use crate::store::schema::AppSchema;

/// Adds both, or drops both; the errors of those that failed.
pub(super) async fn settle(
    connection: &mut PgConnection,
    app: &AppSchema,
    are_wanted: bool,
    dry_run: bool,
    done: &mut Vec<Step>,
) -> Vec<MigrateError> {
    // A view has no indexes: those of the table under it are the app's.
    let Some(event) = app.event.as_ref().filter(|event| !event.is_view) else {
        return Vec::new();
    };
    let mut failed = Vec::new();
    for (name, template) in VISITS.into_iter().zip(VISITS_STATEMENTS) {
        let addition = Addition::new(name, &event.table, template, app, &[]);
        let outcome = if are_wanted {
            index::add(connection, &addition, dry_run, done).await
        } else {
            index::remove(connection, &addition, dry_run, done).await
        };
        failed.extend(outcome.err());
    }
    failed
}
