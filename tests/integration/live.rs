//! Counts pushed as they change, over real connections, with Redis, Postgres and the site behind.

mod access;
mod beacon;
mod caps;
mod faults;
mod load;
mod protocol;
mod pushes;
mod storm;

use crate::support::world::{Wanted, World};

/// The usual parts with a window that passes while a test waits.
async fn short_lived(window: &str, config: &str) -> World {
    let wanted = Wanted {
        record: format!("window = \"{window}\""),
        config: config.into(),
        ..Wanted::usual()
    };
    wanted.start().await
}

/// Path of a community's live stream.
fn live(world: &World, slug: &str) -> String {
    world.visitors(slug, "/live")
}

/// The name of a counter of connections that ended.
fn closed(reason: &str) -> String {
    format!("headcount_live_closed_total{{reason=\"{reason}\"}}")
}

/// The name of a counter of connections that were refused.
fn refused(reason: &str) -> String {
    format!("headcount_live_refused_total{{reason=\"{reason}\"}}")
}
