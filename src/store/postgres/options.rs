//! Connection options for Postgres.

use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Secret, for_driver};
use crate::store::url::OpenError;

/// Where a URL leads to, without user and password; `None` if it is not valid.
pub(in crate::store) fn place(url: &Secret, key: &'static str) -> Option<String> {
    let options = connect_options(url, key).ok()?;
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    Some(match options.get_database() {
        Some(database) => format!("{server}/{database}"),
        None => server,
    })
}

/// Options from the URL that `key` holds. They send no startup parameter that a pooler refuses.
pub(in crate::store) fn connect_options(
    url: &Secret,
    key: &'static str,
) -> Result<PgConnectOptions, OpenError> {
    let invalid = |source| OpenError::Url { key, source };
    let url =
        for_driver(url.expose()).map_err(|problem| invalid(sqlx::Error::Configuration(problem.into())))?;
    let options = PgConnectOptions::from_str(&url.url).map_err(invalid)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("headcount"),
    };
    Ok(options.extra_float_digits(None).disable_statement_logging())
}
