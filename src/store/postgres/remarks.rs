//! Remarks for operators about poolers and the server's encoding.

use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::timeout;

use super::{connect_options, pooler};
use crate::config::{Config, Revocation, Secret};
use crate::store::StoreError;
use crate::store::error::timed_out;

/// Asks over a connection of its own, within `database.acquire_timeout` and `database.statement_timeout` together.
pub(in crate::store) async fn remarks(url: &Secret, config: &Config) -> Result<Vec<String>, StoreError> {
    let database = &config.database;
    let options = connect_options(url, "database.url")
        .map_err(|error| StoreError::Unavailable(sqlx::Error::Configuration(Box::new(error))))?;
    let asking = async {
        let mut connection = options.connect().await?;
        let is_lent = pooler::is_lent_by_the_transaction(&mut connection, &options).await?;
        let row = sqlx::raw_sql("SHOW server_encoding")
            .fetch_one(&mut connection)
            .await?;
        let encoding: String = row.try_get(0)?;
        let _ = connection.close().await;
        Ok::<_, sqlx::Error>((is_lent, encoding))
    };
    let (is_lent, encoding) = timeout(database.acquire_timeout + database.statement_timeout, asking)
        .await
        .map_err(|_| timed_out("the database did not answer in time"))??;

    let mut remarks = Vec::new();
    if is_lent && database.direct_url.is_none() {
        let needed = match config.session.revocation {
            Revocation::Trigger => "`headcount migrate` and session.revocation = \"trigger\" need",
            Revocation::Off => "`headcount migrate` needs",
        };
        remarks.push(format!(
            "database.url leads to a pooler that lends its connections by the transaction: {needed} \
             database.direct_url, everything else works"
        ));
    }
    if encoding != "UTF8" {
        remarks.push(format!(
            "the database's encoding is {encoding}: a page view with a character that it lacks is written with ? for \
             each that is not ASCII"
        ));
    }
    Ok(remarks)
}
