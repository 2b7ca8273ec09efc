//! Nothing lost, nothing twice, shown on processes: members browse at a steady rate while things are killed,
//! cut off, filled up and locked. Then everything is drained, and each view that was answered is looked for
//! in the app's tables.
//!
//! Every test draws its moments from a seed, which it prints; `HEADCOUNT_TEST_SEED` repeats one.
//! `HEADCOUNT_TEST_SECONDS` makes the load as long as one likes: by default it is as short as it may be to
//! show something. What was counted is printed (`cargo test -- proof:: --nocapture`).

mod commits;
mod crowd;
mod disk;
mod kills;
mod latency;
mod outages;
mod together;
mod verdict;

use std::path::Path;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::support::service::wait_until;
use crate::support::sidecar::Sidecar;

/// Randomness that can be repeated.
fn dice() -> StdRng {
    let seed = number("HEADCOUNT_TEST_SEED").unwrap_or_else(rand::random);
    println!("HEADCOUNT_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How long the load lasts.
fn length(usual_seconds: u64) -> Duration {
    Duration::from_secs(number("HEADCOUNT_TEST_SECONDS").unwrap_or(usual_seconds))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} must be a whole number, not {text:?}")))
}

/// Waits until everything that the sidecar, or one before it, put on disk has been applied.
async fn drained(sidecar: &Sidecar) {
    drained_in(sidecar, &sidecar.directory().join("spool")).await;
}

/// The same, where its spools are elsewhere.
async fn drained_in(sidecar: &Sidecar, folder: &Path) {
    // A spool whose process is gone is removed when it is drained.
    wait_until("the spools of ended processes to be drained", || {
        spools(folder) == 1
    });
    sidecar.wait_until_idle().await;
}

fn spools(folder: &Path) -> usize {
    let folder = std::fs::read_dir(folder).expect("a folder");
    let names = folder.map(|entry| entry.expect("an entry").path());
    names
        .filter(|name| name.extension().is_some_and(|extension| extension == "spool"))
        .count()
}

/// The counters of a family that are not zero, by their labels.
async fn family(sidecar: &Sidecar, name: &str) -> Vec<(String, f64)> {
    let metrics = sidecar.metrics().await;
    let mut found: Vec<_> = metrics
        .into_iter()
        .filter(|(key, value)| key.starts_with(name) && *value != 0.0)
        .map(|(key, value)| (key[name.len()..].to_owned(), value))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

const RETRIES: &str = "headcount_apply_retries_total";
const DROPS: &str = "headcount_recorder_dropped_total";
const KNOWN_PARTS: &str = "headcount_known_parts_total";

async fn total(sidecar: &Sidecar, name: &str) -> f64 {
    family(sidecar, name).await.iter().map(|(_, value)| value).sum()
}
