//! Reads the configured tables from Postgres' catalogue, and what else of the server decides whether they can be used.

mod table;

use std::collections::BTreeMap;

use chrono::Utc;
use chrono_tz::Tz;
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::partitions::{Month, is_partitioned, missing};
use super::statement::{query, query_as};
use super::trigger;
use crate::config::Revocation;
use crate::store::StoreError;
use crate::store::schema::{Dialect, LiveLookup, LiveSchema, LiveTable, OwnTables, Requirements};
pub(in crate::store) use table::{TAKES_COPY, in_schema, kind, split};
use table::{has_index, tables};

/// What identifies the database, whatever host, pool or replica it is reached by: server and database, or the latter alone for a
/// role that may not ask for the server.
async fn site(
    connection: &mut PgConnection,
    database: String,
    may_ask: bool,
) -> Result<(&'static str, String), sqlx::Error> {
    if may_ask {
        let server = "SELECT system_identifier::text, '' FROM pg_catalog.pg_control_system()";
        // In a savepoint, so that a refusal does not fail the rest.
        let mut attempt = connection.begin().await?;
        let server: Result<(String, String), _> = query_as(server).fetch_one(&mut *attempt).await;
        drop(attempt);
        match server {
            Ok((server, _)) => return Ok(("server", format!("{server} {database}"))),
            // Some services have the function, and refuse to answer.
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(("database", database))
}

pub(super) async fn live_schema(
    connection: &mut PgConnection,
    wanted: &Requirements,
) -> Result<LiveSchema, sqlx::Error> {
    let (user, database, oid, read_only, may_ask): (String, String, String, bool, bool) = query_as(
        "SELECT current_user::text, datname::text, oid::text,
                pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on',
                has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
         FROM pg_catalog.pg_database WHERE datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await?;
    let names = &wanted.names;
    let own = [
        &*names.session.table,
        &names.event.table,
        &names.profile.table,
        &names.community.table,
    ];
    let of_lookups = names.lookup.values().map(|lookup| &*lookup.table);
    let mut configured: Vec<&str> = own
        .into_iter()
        .chain(names.profile.joined_tables())
        .chain(of_lookups)
        .collect();
    configured.retain(|name| !name.is_empty());
    let found = tables(connection, &configured).await?;
    let table = |name: &str| found.get(name).cloned();
    let [session, event, profile, community] = own.map(table);
    let joined = names
        .profile
        .joined_tables()
        .filter_map(|name| Some((name.to_owned(), table(name)?)));
    let joined = joined.collect();
    let mut lookups = BTreeMap::new();
    for (name, lookup) in &names.lookup {
        let found = LiveLookup {
            table: table(&lookup.table),
            has_index: has_index(connection, &lookup.table, &lookup.key).await?,
        };
        lookups.insert(name.clone(), found);
    }
    let bad_constants = match &event {
        Some(event) => bad_constants(connection, event, &names.event.constants).await?,
        None => Vec::new(),
    };
    let has_own_partitions = match &event {
        Some(event) if event.is_own() => is_partitioned(connection).await? == Some(true),
        _ => false,
    };
    let lacks_partition = if has_own_partitions {
        lacks_partition(connection).await?
    } else {
        None
    };
    let lacks_zone = match wanted.time_zone {
        Some(zone) => lacks_zone(connection, zone).await?,
        None => false,
    };
    let session_trigger = wanted.revocation == Revocation::Trigger
        && trigger::is_installed(connection, split(&names.session.table)).await?;
    let site = site(connection, format!("{oid} {database}"), may_ask).await?;
    Ok(LiveSchema {
        dialect: Dialect::Postgres,
        user,
        database,
        session,
        session_trigger,
        site: Some(site),
        read_only,
        lacks_zone,
        event,
        profile,
        joined,
        lacks_partition,
        has_own_partitions,
        community,
        lookups,
        ledger_tables: OwnTables::default(),
        counter_tables: OwnTables::default(),
        bad_constants,
    })
}

/// Asks the server which constants it would refuse.
async fn bad_constants(
    connection: &mut PgConnection,
    event: &LiveTable,
    constants: &BTreeMap<String, String>,
) -> Result<Vec<String>, sqlx::Error> {
    let mut bad = Vec::new();
    for live in &event.columns {
        let Some(value) = constants.get(&live.column.name) else {
            continue;
        };
        // The type's name comes from the catalogue.
        let cast = format!("SELECT ($1::text::{}) IS NULL", live.column.type_name);
        match attempt(connection, cast, value).await {
            Ok(()) => {}
            Err(error) => match StoreError::from(error) {
                StoreError::Unavailable(error) if error.as_database_error().is_none() => return Err(error),
                _ => bad.push(live.column.name.clone()),
            },
        }
    }
    Ok(bad)
}

/// The partition of the next month, if our own table has none.
async fn lacks_partition(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let missing = missing(connection, Month::from_now(Utc::now()).nth(1)).await?;
    Ok(missing.into_iter().next().map(|partition| partition.name))
}

/// Whether the server does not know a zone. Its time zone data is its own, often older than ours, or without the names
/// that are kept for compatibility.
async fn lacks_zone(connection: &mut PgConnection, zone: Tz) -> Result<bool, sqlx::Error> {
    const INVALID_PARAMETER: &str = "22023";
    let asked = "SELECT now() AT TIME ZONE $1::text".to_owned();
    match attempt(connection, asked, zone.name()).await {
        Ok(()) => Ok(false),
        Err(error) => match error.as_database_error().and_then(DatabaseError::code) {
            Some(code) if code == INVALID_PARAMETER => Ok(true),
            _ => Err(error),
        },
    }
}

/// Runs a statement with one parameter, in a savepoint, to which dropping it goes back: what failed does not fail the
/// rest.
async fn attempt(connection: &mut PgConnection, sql: String, value: &str) -> Result<(), sqlx::Error> {
    let mut attempt = connection.begin().await?;
    let outcome = query(AssertSqlSafe(sql)).bind(value).execute(&mut *attempt).await;
    drop(attempt);
    outcome.map(drop)
}
