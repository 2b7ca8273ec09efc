//! Who is there now, as far as Redis knows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Config;
use crate::ids::CommunityId;
use crate::presence::{self, Presence, Scope};
use crate::tasks::Tasks;
use crate::telemetry::chain;

/// How long an answer of Redis is waited for.
const REDIS: Duration = Duration::from_secs(5);

/// How the command knows who is there now.
pub(super) enum Here {
    /// It is not written.
    Unwritten,
    /// There is no Redis: only the sidecar that runs knows.
    InMemory,
    Redis(Arc<dyn Presence>),
    /// Why Redis did not say.
    Away(String),
}

impl Here {
    pub(super) fn of(config: &Config, tasks: &Tasks) -> Result<Self, presence::PresenceConfigError> {
        if !config.writes_presence() {
            return Ok(Self::Unwritten);
        }
        let redis = presence::open_to_read(&config.redis, &config.record, tasks)?;
        Ok(redis.map_or(Self::InMemory, Self::Redis))
    }

    /// Why who is there is not known, where it is to be known.
    pub(super) fn why_unknown(&self) -> Option<&str> {
        match self {
            Self::Unwritten | Self::Redis(_) => None,
            Self::InMemory => Some("without Redis only the sidecar that runs knows who is there"),
            Self::Away(reason) => Some(reason),
        }
    }

    /// How many are in each of these communities now, where that is known. Redis is not asked again once it has not answered.
    pub(super) async fn counts(&mut self, communities: &[&CommunityId]) -> Vec<Option<i64>> {
        let Self::Redis(redis) = self else {
            return vec![None; communities.len()];
        };
        let asked: Vec<Scope> = communities.iter().copied().map(Scope::from).collect();
        let reason = match timeout(REDIS, redis.all_counts(&asked)).await {
            Ok(Ok(answer)) => {
                let counts = answer.value.iter();
                let counts = counts.map(|count| Some(i64::try_from(count.current).unwrap_or(i64::MAX)));
                return counts.collect();
            }
            Ok(Err(error)) => format!("Redis does not say who is there ({})", chain(&error)),
            Err(_) => "Redis does not answer".to_owned(),
        };
        *self = Self::Away(reason);
        vec![None; communities.len()]
    }
}
