//! Session lookup (step 3, identify): which browser session a request's token belongs to.
//!
//! `cookie` finds the token in the request, [`Authenticator`] finds its session: in a bounded cache, else in the app's
//! session table. The recording path never waits for the table before the response (promise 1): [`Glances`] start its
//! lookups with the request. `memory` is the fallback while the table cannot be queried.

mod absence;
mod cache;
mod changes;
pub mod cookie;
mod glance;
mod limiter;
mod lookups;
mod memory;
mod metrics;
pub mod revocation;

pub use cache::{Authenticator, Identified, Known};
pub use glance::{Glance, Glances};
pub use metrics::Metrics;
