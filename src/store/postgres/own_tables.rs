//! Reads from the catalogue which of the sidecar's own tables there are, and what the role may do with them.

use sqlx::PgConnection;

use super::statement::query_as;
use crate::store::schema::OwnTables;
use crate::store::schema::right::{OWN, OwnRight, OwnTable};

/// Asks the catalogue, which every role can read: looking for a table in a schema without USAGE is an error.
pub(super) async fn state(
    connection: &mut PgConnection,
    needed: &[OwnTable],
) -> Result<OwnTables, sqlx::Error> {
    let each = needed
        .iter()
        .flat_map(|(table, privileges)| privileges.iter().map(move |privilege| (*table, *privilege)));
    let (tables, privileges): (Vec<&str>, Vec<&str>) = each.unzip();
    let found: Vec<(String, String, bool, bool)> = query_as(
        "SELECT c.relname::text, needed.privilege, has_table_privilege(c.oid, needed.privilege),
                has_schema_privilege(n.oid, 'USAGE')
         FROM UNNEST($1::text[], $2::text[]) AS needed(name, privilege)
         JOIN pg_catalog.pg_class c ON c.relname = needed.name AND c.relkind = 'r'
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $3",
    )
    .bind(&tables)
    .bind(&privileges)
    .bind(OWN)
    .fetch_all(connection)
    .await?;
    if found.len() < tables.len() {
        return Ok(OwnTables::Missing);
    }
    let usage = found.iter().any(|(.., may_use)| !may_use);
    let is_given = |table: &str, privilege: &str| {
        let mut of_it = found.iter();
        of_it.any(|(name, asked, is_given, _)| name == table && asked == privilege && *is_given)
    };
    let mut rights = OwnRight::of(needed);
    for right in &mut rights {
        right
            .privileges
            .retain(|privilege| !is_given(right.table, privilege));
    }
    rights.retain(|right| !right.privileges.is_empty());
    Ok(if usage || !rights.is_empty() {
        OwnTables::Forbidden { usage, rights }
    } else {
        OwnTables::Usable
    })
}
