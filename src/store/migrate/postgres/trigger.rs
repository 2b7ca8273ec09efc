//! Installs or removes the trigger that notifies of ended sessions, as configured.

use chrono_tz::Tz;
use sqlx::PgConnection;

use super::{begin_briefly, execute, forget, record, recorded};
use crate::config::{Config, Revocation, TokenHash};
use crate::store::migrate::{Addition, MigrateError, Step};
use crate::store::postgres::introspect::split;
use crate::store::postgres::trigger::{APPEARED, CHANNEL, is_installed};
use crate::store::schema::{AppSchema, Column, SessionTable, SessionUser, all};

const NAME: &str = "headcount_session_changed";

/// Installs the trigger, replaces one made from another statement, or removes it.
pub(super) async fn settle(
    connection: &mut PgConnection,
    config: &Config,
    app: &AppSchema,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let template = include_str!("../../../../migrations/app/postgres/session_changed.sql");
    let template = template
        .replace("{channel}", CHANNEL)
        .replace("{appeared}", APPEARED);
    let names = names(&app.session);
    let addition = Addition::new(NAME, &app.session.table, &template, app, &names);
    let wanted = config.session.revocation == Revocation::Trigger;
    let words = recorded(connection, NAME).await?;
    let whole = is_installed(
        connection,
        split(config.schema.sessions_table(config.session.kind)),
    )
    .await?;
    let fits = whole
        && if let Some(words) = &words {
            *words == addition.create
        } else {
            // Made by hand from the output of a dry run, perhaps of an earlier version.
            tells_of_all(connection).await? && has_settings(connection, zone(&app.session).name()).await?
        };

    let mut steps = Vec::new();
    if has_function(connection).await? && !(wanted && fits) {
        let title = format!("trigger {NAME}: the former one");
        // Together with its triggers, on whichever table they are.
        steps.push(Step::new(
            title,
            "DROP FUNCTION headcount.session_changed() CASCADE",
        ));
    }
    if wanted && !fits {
        steps.push(addition.step("trigger"));
    }
    if dry_run || (steps.is_empty() && words.is_some() == wanted) {
        return Ok(steps);
    }
    let mut transaction = begin_briefly(connection).await?;
    for step in &steps {
        execute(&mut transaction, step).await?;
    }
    if wanted {
        record(&mut transaction, &addition).await?;
    } else {
        forget(&mut transaction, NAME).await?;
    }
    transaction.commit().await?;
    Ok(steps)
}

/// The placeholders of the template: conditions and values of the columns that the app has.
fn names(session: &SessionTable) -> Vec<(&'static str, String)> {
    let is_ahead = |row: &str, column: &Column| format!("{row}.{column} > now()");
    let lets_in = |row: &str| {
        let valid = session.valid(row, |column| is_ahead(row, column));
        format!("{valid} AND {row}.{} IS NOT NULL", session.user.column())
    };
    // Django signs the same data anew each time that it saves it, with the time.
    let user = |row: &str| match &session.user {
        SessionUser::Column(column) => format!("{row}.{column}"),
        SessionUser::Encoded(column) => format!("split_part({row}.{column}, ':', 1)"),
    };
    let watched = |row: &str| {
        let own = [
            &session.id,
            &session.is_active,
            &session.is_ended,
            &session.ended_at,
        ];
        let own = own.into_iter().flatten().chain([&session.session_id]);
        let own = own.map(|column| format!("{row}.{column}"));
        own.chain([user(row)]).collect::<Vec<_>>().join(", ")
    };
    // A session that let nobody in takes nobody along.
    let goes_on = match (&*session.flags("OLD"), &session.expires_at) {
        ([], Some(expires_at)) => is_ahead("OLD", expires_at),
        (flags, _) => all(flags),
    };
    // An expiry that is put off ends nothing, and some sites do that at each request; but a session that had expired
    // goes on.
    let expiry_changes = session.expires_at.as_ref().map(|column| {
        format!(
            "
                OR OLD.{column} <= now() AND NEW.{column} > now()
                OR OLD.{column} IS DISTINCT FROM NEW.{column} AND (OLD.{column} < NEW.{column}) IS NOT TRUE"
        )
    });
    // Whether somebody is signed in cannot be seen in Django's data.
    let user_appears = match &session.user {
        SessionUser::Column(_) => String::new(),
        SessionUser::Encoded(_) => format!(" OR {} IS DISTINCT FROM {}", user("NEW"), user("OLD")),
    };
    let stored = |row: &str| format!("{row}.{}::text", session.session_id);
    let sha256 = |value: &str| format!("encode(sha256(convert_to({value}, 'UTF8')), 'hex')");
    // Of a hash no more than the beginning is told.
    let token_hash = match session.token_hash {
        TokenHash::None => sha256(&stored("NEW")),
        TokenHash::Sha256 => format!("lower({})", stored("NEW")),
        TokenHash::Sha256Base64 => format!(
            "encode(decode(translate(left({}, 4), '-_', '+/'), 'base64'), 'hex')",
            stored("NEW")
        ),
    };
    let key = match &session.id {
        Some(id) => format!("OLD.{id}::text"),
        None => sha256(&stored("OLD")),
    };
    vec![
        ("{session.lets_in.new}", lets_in("NEW")),
        ("{session.lets_in.old}", lets_in("OLD")),
        ("{session.user_appears}", user_appears),
        ("{session.session_id}", session.session_id.to_string()),
        ("{session.token_hash.new}", token_hash),
        ("{session.goes_on.old}", goes_on),
        ("{session.watched.old}", watched("OLD")),
        ("{session.watched.new}", watched("NEW")),
        ("{session.expiry_changes}", expiry_changes.unwrap_or_default()),
        ("{session.key.old}", key),
        ("{time_zone}", zone(session).name().to_owned()),
    ]
}

/// The zone in which the table's moments without zone are compared.
fn zone(session: &SessionTable) -> Tz {
    let moment = session.expires_at.as_ref().or(session.ended_at.as_ref());
    moment.map_or(Tz::UTC, |column| column.zone)
}

/// Whether the function notifies of everything that this version's does.
async fn tells_of_all(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let tells: Option<bool> = sqlx::query_scalar(
        "SELECT bool_and(strpos(prosrc, quote_literal(told)) > 0)
         FROM pg_catalog.pg_proc, UNNEST($1::text[]) AS told
         WHERE oid = to_regprocedure('headcount.session_changed()')",
    )
    .bind(vec![CHANNEL, APPEARED])
    .fetch_one(connection)
    .await?;
    Ok(tells.unwrap_or(false))
}

/// Whether the function runs with the settings of this version's: above all the zone, without which it would compare
/// times without zone in that of the client that changes a row.
async fn has_settings(connection: &mut PgConnection, zone: &str) -> Result<bool, sqlx::Error> {
    let has: Option<bool> = sqlx::query_scalar(
        "SELECT (SELECT array_agg(lower(setting) ORDER BY lower(setting)) FROM unnest(proconfig) AS setting)
                = ARRAY['search_path=pg_catalog, pg_temp', lower('timezone=' || $1)]
         FROM pg_catalog.pg_proc
         WHERE oid = to_regprocedure('headcount.session_changed()')",
    )
    .bind(zone)
    .fetch_one(connection)
    .await?;
    Ok(has.unwrap_or(false))
}

/// Whether the trigger's function exists.
async fn has_function(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regprocedure('headcount.session_changed()') IS NOT NULL")
        .fetch_one(connection)
        .await
}
