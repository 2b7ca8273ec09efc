//! Presence in Redis, opened as a sidecar opens it, on the test's own runtime.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::ids::SiteIdentity;
use headcount::presence::Metrics;
use headcount::presence::redis::Redis as RedisPresence;
use headcount::presence::{self, Presence, Touch, Window};
use headcount::status::Status;
use headcount::tasks::Tasks;

use super::redis::{PATIENCE, eventually};

/// Presence in Redis, on the test's own runtime.
pub(crate) fn open(config: &config::Redis, window: Duration) -> RedisPresence {
    open_with(config, window, &Status::default(), Arc::default())
}

/// The same, with status and metrics to look at.
pub(crate) fn open_with(
    config: &config::Redis,
    window: Duration,
    status: &Status,
    metrics: Arc<Metrics>,
) -> RedisPresence {
    let tasks = Tasks::on_current_runtime();
    RedisPresence::open(
        config,
        Window::new(window),
        SiteIdentity::default(),
        status,
        metrics,
        &tasks,
    )
    .expect("a valid configuration")
}

/// Of a sidecar that only reads.
pub(crate) fn open_to_read(config: &config::Redis, window: Duration) -> RedisPresence {
    let tasks = Tasks::on_current_runtime();
    let window = Window::of_the_others(window);
    RedisPresence::open(
        config,
        window,
        SiteIdentity::default(),
        &Status::default(),
        Arc::default(),
        &tasks,
    )
    .expect("a valid configuration")
}

/// The same with the memory in front, as a sidecar has it.
pub(crate) fn mirrored(config: &config::Redis, window: Duration) -> Arc<dyn Presence> {
    let record = config::Record {
        window,
        ..config::Record::default()
    };
    let tasks = Tasks::on_current_runtime();
    presence::open(
        config,
        &record,
        &SiteIdentity::default(),
        PATIENCE,
        &Status::default(),
        Arc::default(),
        &tasks,
    )
    .expect("a valid configuration")
}

/// Somebody seen so long ago.
pub(crate) fn seen(user: &str, ago: Duration) -> Touch {
    Touch {
        age: ago,
        finer: None,
        ..Touch::now(user)
    }
}

/// Waits until Redis takes a touch.
pub(crate) async fn until_it_answers(presence: &dyn Presence) {
    eventually(async || {
        presence
            .touch(&"probe".into(), &[Touch::now("probe")])
            .await
            .is_ok()
    })
    .await;
}
