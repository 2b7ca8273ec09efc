//! Periodic sweeps, and the state of presence by their outcomes.

use std::sync::Arc;

use tokio::sync::watch;

use super::{note, stopped};
use crate::presence::{Metrics, Presence, SWEEP_INTERVAL, Sweep};
use crate::retry::jittered;
use crate::status::Component;

/// This many failed sweeps in a row are not a passing failure, such as a connection that is being made.
const SWEEPS_FAILED: u32 = 3;

/// Sweeps until `shutdown` turns true or its sender is gone; then leaves the sweeps to others.
pub(super) async fn sweep_until(
    presence: Arc<dyn Presence>,
    swept: Component,
    metrics: Arc<Metrics>,
    shutdown: watch::Receiver<bool>,
) {
    tokio::select! {
        // Given up midway: the scripts publish what they did, and the next sweeper does the rest.
        () = stopped(shutdown) => {}
        () = sweep_always(&*presence, &swept, &metrics) => {}
    }
    presence.leave_sweeps().await;
}

async fn sweep_always(presence: &dyn Presence, swept: &Component, metrics: &Metrics) {
    let sweeps = Component::default();
    let mut failed = 0;
    // The first at once: before there is a mark in Redis, everything may have been lost.
    loop {
        match presence.sweep_in_turn().await {
            Ok(Sweep { lag, .. }) => {
                note(&sweeps, "sweeps", None);
                failed = 0;
                swept.up(|_| {});
                metrics.sweep_lag.set(lag.as_secs_f64());
            }
            Err(error) => {
                note(&sweeps, "sweeps", Some(&error));
                failed += 1;
                if failed >= SWEEPS_FAILED {
                    swept.down(error.to_string(), |_| {});
                }
            }
        }
        tokio::time::sleep(jittered(SWEEP_INTERVAL)).await;
    }
}
