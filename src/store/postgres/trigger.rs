//! The trigger that notifies of ended sessions: its channels, and whether it is installed. `migrate` installs it.

use sqlx::PgConnection;

use super::statement::query_scalar;

/// Where the trigger notifies.
pub(in crate::store) const CHANNEL: &str = "headcount_session";
/// Channel for sessions that may be valid now and were not before; the payload is the token's fingerprint.
pub(in crate::store) const APPEARED: &str = "headcount_session_appeared";
/// Payload that stands for all rows.
pub(super) const ALL: &str = "*";

/// Whether the trigger is on the table of this schema, or on the search path, and fires. Every role can read the catalogue, so no
/// rights on the schema `headcount` are needed.
pub(in crate::store) async fn is_installed(
    connection: &mut PgConnection,
    (schema, name): (Option<&str>, &str),
) -> Result<bool, sqlx::Error> {
    query_scalar(
        "SELECT count(*) = 2
         FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
         JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
         WHERE c.relname = $2
           AND CASE WHEN $1::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
           AND t.tgname IN ('headcount_session_changed', 'headcount_session_truncated')
           AND t.tgenabled IN ('O', 'A')
           AND f.proname = 'session_changed' AND fn.nspname = 'headcount'",
    )
    .bind(schema)
    .bind(name)
    .fetch_one(connection)
    .await
}
