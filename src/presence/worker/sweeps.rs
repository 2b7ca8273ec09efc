//! Periodic sweeps, and the state of presence by their outcomes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{note, stopped};
use crate::presence::{Metrics, Presence};
use crate::retry::jittered;
use crate::status::Component;

/// Between sweeps; jittered by up to a quarter, so that sidecars do not sweep in step.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// This many failed sweeps in a row are not a passing failure, such as a connection that is being made.
const SWEEPS_FAILED: u32 = 3;

/// Sweeps until `shutdown` turns true or its sender is gone.
pub(super) async fn sweep_until(
    presence: Arc<dyn Presence>,
    swept: Component,
    metrics: Arc<Metrics>,
    shutdown: watch::Receiver<bool>,
) {
    let sweeps = Component::default();
    let mut failed = 0;
    let mut stop = std::pin::pin!(stopped(shutdown));
    // The first at once: before there is a mark in Redis, everything may have been lost.
    loop {
        // Given up midway at shutdown: the scripts publish what they did, and the next sweeper does the rest.
        let outcome = tokio::select! {
            () = &mut stop => return,
            outcome = presence.sweep_in_turn() => outcome,
        };
        note(&sweeps, "sweeps", outcome.as_ref().err());
        failed = if outcome.is_ok() { 0 } else { failed + 1 };
        match outcome {
            Ok(sweep) => {
                swept.up(|_| {});
                metrics.sweep_lag.set(sweep.lag.as_secs_f64());
            }
            Err(error) if failed >= SWEEPS_FAILED => swept.down(error.to_string(), |_| {}),
            Err(_) => {}
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(jittered(SWEEP_INTERVAL)) => {}
        }
    }
}
