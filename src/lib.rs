//! Headcount: a reverse-proxy sidecar that knows who is in which community right now.
//!
//! It stands in front of an existing web app and, with no change to that app, keeps who is here now, writes
//! every page view into the app's own tables, and answers the visitors API itself.
//!
//! The modules stand in the order in which a page view passes them: receive → match → identify → decide →
//! record → serve. What they promise:
//!
//! 1. **The site comes first.** A proxied request never waits for Redis, for a database or for a queue.
//! 2. **What is accepted is written once**, and what is dropped is counted by reason.
//! 3. **The numbers are right**: one function defines each.
//! 4. **The app is not surprised**, by its requests or by its rows.
//! 5. **Nobody gets in**: session tokens cannot be printed, and no proxy is trusted unless configured.
//! 6. **Everything is bounded.**
//!
//! `src/README.md` has the rest: which modules are pure, where SQL, session tokens and Pingora's types may be, and the
//! order in which the modules import each other.

// the command line and the wiring
pub mod app;
pub mod cli;
pub mod config;
pub mod init;
// 1 receive
pub mod proxy;
// 2 match
pub mod communities;
pub mod explain;
pub mod routes;
// 3 identify
pub mod auth;
// 4 decide
pub mod page_view;
// 5 record
pub mod counters;
pub mod geoip;
pub mod presence;
pub mod recorder;
pub mod store;
pub mod writer;
// 6 serve
pub mod api;
pub mod live;
pub mod widget;
// across
pub mod admin;
pub mod demo;
mod expiring_cache;
pub mod handover;
pub mod metrics;
pub mod reload;
mod retry;
mod shared_results;
pub mod shutdown;
pub mod status;
pub mod systemd;
pub mod tasks;
pub mod telemetry;
// shared types
pub mod batch;
pub mod browser_session;
mod from_row;
mod header_edits;
mod header_list;
pub mod ids;
mod json;
pub mod key_type;
mod printable;
pub mod rate_limit;
pub mod recent_pages;
