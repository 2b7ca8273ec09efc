//! Checks whether all sidecars on the same keys use the same settings; logs changes of that.

use std::sync::{Arc, Mutex, PoisonError};

use crate::presence::Metrics;

/// The differences that were logged last.
pub(super) struct Agreement {
    told: Mutex<Vec<String>>,
    metrics: Arc<Metrics>,
}

impl Agreement {
    /// Nothing differs as yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            told: Mutex::default(),
            metrics,
        }
    }

    /// Takes all current differences.
    pub(super) fn note(&self, differences: Vec<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == differences {
            return;
        }
        for difference in differences.iter().filter(|difference| !told.contains(difference)) {
            tracing::warn!("{difference}");
        }
        if differences.is_empty() {
            tracing::info!("all sidecars on the same redis.key_prefix have the same settings again");
        }
        self.metrics
            .presence_settings_differ
            .set((!differences.is_empty()).into());
        let all = (!differences.is_empty()).then(|| Arc::new(differences.clone()));
        self.metrics.presence_differences.store(all);
        *told = differences;
    }
}
