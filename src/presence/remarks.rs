//! What `headcount check` says of Redis: whether other sidecars have the same settings, and whether it lets this one in.

use std::sync::Arc;

use super::PresenceConfigError;
use super::open::window;
use super::redis::Redis;
use crate::config;
use crate::ids::SiteIdentity;
use crate::status::Status;
use crate::tasks::Tasks;

/// Settings of other sidecars on the same Redis that differ from this configuration, a sentence each; or a
/// sentence that Redis cannot tell. `site` is the one of this configuration. Asks once, on the current runtime.
///
/// # Errors
/// Redis cannot be asked as configured.
pub async fn remarks(
    redis: &config::Redis,
    record: &config::Record,
    site: SiteIdentity,
) -> Result<Vec<String>, PresenceConfigError> {
    if !redis.is_used() {
        return Ok(Vec::new());
    }
    let tasks = Tasks::on_current_runtime();
    let store = Redis::open(
        redis,
        window(record),
        site,
        &Status::default(),
        Arc::default(),
        &tasks,
    )?;
    let differences = store.differences().await;
    tasks.end();
    let error = match differences {
        Ok(differences) => return Ok(differences),
        Err(error) => error,
    };
    let place = redis.place();
    // A server that is away comes back; what it refuses, only another configuration changes.
    if error.is_refused() {
        let error = crate::telemetry::chain(&error);
        return Err(PresenceConfigError::Refused(format!("{place}: {error}")));
    }
    let error = crate::telemetry::chain(&error);
    Ok(vec![format!(
        "Redis does not tell whether other sidecars have the same settings ({place}: {error}): start it, or correct \
             [redis]"
    )])
}
