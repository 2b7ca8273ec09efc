//! placeholder
use super::open::OpenError;
use crate::config::Config;
/// x
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// x
    #[error("{0}")]
    Open(OpenError),
}
/// x
#[derive(Debug)]
pub struct Step;
/// x
pub async fn migrate(_config: &Config, _dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    Ok(vec![])
}
