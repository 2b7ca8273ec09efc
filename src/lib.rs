//! Headcount: a reverse-proxy sidecar that knows who is in which community right now.
//!
//! The modules stand in the order in which a page view passes them: receive → match → identify → decide →
//! record → serve.

pub mod config;
pub mod ids;

// 1 receive
pub mod proxy;
// 2 match
pub mod routes;
// 3 identify
pub mod auth;
// 4 decide
pub mod page_view;
// 5 record
pub mod presence;
pub mod store;
pub mod writer;
// 6 serve
pub mod api;
// across
pub mod demo;
pub mod metrics;
