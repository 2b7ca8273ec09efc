//! Opens the configured store: in memory or in Redis, with the memory in front of Redis.

use std::sync::Arc;
use std::time::Duration;

use super::memory::InMemory;
use super::mirrored::Mirrored;
use super::moment::SteadyClock;
use super::redis::Redis;
use super::window::Window;
use super::{Metrics, Presence, PresenceConfigError};
use crate::config;
use crate::ids::SiteIdentity;
use crate::status::Status;
use crate::tasks::Tasks;

/// Opens the configured store: Redis if its address is configured, else this process' memory.
///
/// Nothing is awaited: the sidecar starts with Redis down, and calls fail until it is there. From then on the
/// sidecar's own touches are remembered in front of Redis, unless it records no presence and so makes none; a read
/// waits for Redis at most for `patience` before it is answered from that memory.
///
/// The connection lives on the runtime of `tasks`, which must outlive everything that uses presence: pass the
/// process' own runtime, never that of a Pingora service. Sidecars of another `site` on the same keys are told of. The status
/// of Redis and the memory's metrics are updated here.
pub fn open(
    redis: &config::Redis,
    record: &config::Record,
    site: &SiteIdentity,
    patience: Duration,
    status: &Status,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Arc<dyn Presence>, PresenceConfigError> {
    if !redis.is_used() {
        status.redis.off();
        status.redis_changes.off();
        let clock = SteadyClock::of_the_machine();
        return Ok(Arc::new(InMemory::new(record.window, clock)));
    }
    let store = Redis::open(
        redis,
        window(record),
        site.clone(),
        status,
        metrics.clone(),
        tasks,
    )?;
    if !record.presence {
        return Ok(Arc::new(store));
    }
    let (domains, window) = (store.failure_domains(), store.in_force());
    let store = Arc::new(store);
    Ok(Arc::new(Mirrored::start(
        store, window, patience, domains, metrics, tasks,
    )))
}

/// The window with which presence is recorded, or only read.
pub(super) fn window(record: &config::Record) -> Window {
    if record.presence {
        Window::new(record.window)
    } else {
        Window::of_the_others(record.window)
    }
}

/// Presence in Redis for a command that only reads: it counts with the window of the sidecars. `None` where presence is in
/// the memory of each sidecar. The connection lives on the runtime of `tasks`.
///
/// # Errors
/// Redis cannot be asked as configured.
pub fn open_to_read(
    redis: &config::Redis,
    record: &config::Record,
    tasks: &Tasks,
) -> Result<Option<Arc<dyn Presence>>, PresenceConfigError> {
    if !redis.is_used() {
        return Ok(None);
    }
    let window = Window::of_the_others(record.window);
    let unknown = SiteIdentity::default();
    let store = Redis::open(redis, window, unknown, &Status::default(), Arc::default(), tasks)?;
    Ok(Some(Arc::new(store)))
}
