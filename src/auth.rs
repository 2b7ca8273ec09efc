//! Session lookup (step 3, identify): which browser session a request's token belongs to.
//!
//! From the request: `cookie` finds the session token, `jwt` finds and verifies a JWT, `api_keys` finds a server's API key.
//! From the token to its session: [`Authenticator`] (`cache`) asks its bounded cache, else the app's session table in batches
//! (`lookups`, rate-limited by `limiter`); `absence` is negative caching, `fallback` answers while the table cannot be
//! queried. `revocation` listens to the database's notifications, and `changes` keeps what has changed.
//!
//! The recording path never waits for the table before the response (promise 1): [`EarlyLookups`] start with the request.

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
mod outcome;
pub mod revocation;

pub use api_keys::{ApiKeys, KeyFound, Quota, ServerKey};
pub use cache::Authenticator;
pub use early_lookup::{EarlyLookup, EarlyLookups};
pub use jwt::{JwtFound, Jwts};
pub use metrics::Metrics;
pub use outcome::{Absent, CachedSession, Identified};
