//! Connection options for Postgres.

use std::str::FromStr as _;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use crate::config::{Secret, for_driver};
use crate::store::url::OpenError;

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
