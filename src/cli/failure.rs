//! Why a command failed, by exit code.

use std::path::Path;

use crate::app::StartError;
use crate::config::{Config, ConfigError};
use crate::handover::UpgradeError;
use crate::reload;
use crate::store::{self, StoreError};

/// Why a command failed, by exit code.
#[derive(Debug)]
pub(super) enum Failure {
    /// 64
    Usage(String),
    /// 1
    Other(anyhow::Error),
}

impl Failure {
    /// An error of the database, which is configured in `file`.
    pub(super) fn of_database(
        file: &Path,
        config: &Config,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let place = store::place(&config.database);
        Self::Other(anyhow::Error::new(error).context(format!("{}: database: {place}", file.display())))
    }

    /// The same, with the remedy.
    pub(super) fn of_store(file: &Path, config: &Config, error: &StoreError) -> Self {
        let place = store::place(&config.database);
        let remedy = error
            .remedy()
            .map_or_else(String::new, |remedy| format!("; {remedy}"));
        let file = file.display();
        Self::Other(anyhow::anyhow!(
            "{file}: database: {place}: {}{remedy}",
            error.chain()
        ))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<reload::ReloadError> for Failure {
    fn from(error: reload::ReloadError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<UpgradeError> for Failure {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Ended { code: Some(64) } => Self::Usage(error.to_string()),
            error => Self::Other(error.into()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(message) => Self::Usage(message),
            StartError::Other(error) => Self::Other(error),
        }
    }
}
