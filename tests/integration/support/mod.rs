//! What the tests stand on: services started on free ports, and stopped with the test process.

pub mod asgi;
pub mod backend;
pub mod browsers;
pub mod chromium;
pub mod database;
pub mod failing_fsync;
pub mod fake_upstream;
mod front;
pub mod haproxy;
pub mod live;
pub mod log;
pub mod member;
pub mod nginx;
pub mod pgbouncer;
pub mod postgres;
pub mod presence;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod sentinels;
pub mod service;
pub mod sidecar;
pub mod tls;
pub mod wire;
pub mod world;
