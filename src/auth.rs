//! Session lookup (step 3, identify): which browser session a request's token belongs to.
//!
//! `cookie` finds the token in the request, [`Authenticator`] finds its session: in a bounded cache, else in the app's
//! session table; `jwt` finds and verifies a JWT, which may come in place of the cookie; `api_keys` finds the key with which
//! a server asks. The recording path never waits for the table before the response (promise 1): [`EarlyLookups`] start its
//! lookups with the request. `fallback` answers while the table cannot be queried.

mod absence;
pub mod api_keys;
mod cache;
mod changes;
pub mod cookie;
mod early_lookup;
mod fallback;
pub mod jwt;
mod limiter;
mod lookups;
mod metrics;
pub mod revocation;

pub use api_keys::{ApiKeys, KeyFound, Quota, ServerKey};
pub use cache::{Absent, Authenticator, CachedSession, Identified};
pub use early_lookup::{EarlyLookup, EarlyLookups};
pub use jwt::{JwtFound, Jwts};
pub use metrics::Metrics;
