//! When a visitor was last seen: at the page view, however long the sidecar takes to find out whose it is.

use chrono::{DateTime, Utc};

use super::{Fragile, endlessly_patient, queued, shows_visitors};

#[tokio::test]
async fn p22_whoever_is_identified_late_was_seen_when_the_page_was_viewed() {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let (rust, visitors) = (world.community("rust"), world.visitors("rust", ""));
    let alice = world.member("alice").await;

    fragile.database.hang();
    alice.sees(&rust).await;
    // Well before the database answers.
    alice.sees("/about/").await;
    let lookups = queued("lookups");
    world
        .sidecar
        .wait_for_metric(&lookups, |lookups| lookups > 0.0)
        .await;
    let resumed = Utc::now();
    fragile.database.resume().await;
    shows_visitors(&alice, &visitors, 1).await;
    let list = alice.json(&visitors).await;
    let last_seen = list["visitors"][0]["last_seen_at"].as_str().expect("a time");
    let last_seen: DateTime<Utc> = last_seen.parse().expect("a time");
    assert!(last_seen < resumed, "seen at {last_seen}, resumed at {resumed}");
}
