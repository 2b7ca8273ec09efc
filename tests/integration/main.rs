//! Tests against the real things: Postgres, Redis, the Django backend. One binary, so that all tests share
//! one Postgres and one Redis server; each test has a database and a key prefix of its own.

#![expect(unreachable_pub, reason = "one binary: nothing in it is an interface")]
#![expect(clippy::float_cmp, reason = "metrics that are compared are whole numbers")]

mod access;
mod admin;
mod api_contract;
mod app_health;
mod architecture;
mod browsers;
mod certificates;
mod command_line;
mod dashboard;
mod demo;
mod django_sessions;
mod documents;
mod faults;
mod fidelity;
mod geoip;
mod grants;
mod handover;
mod hidden;
mod hostile;
mod journey;
mod jwt;
mod keys;
mod live;
mod pooler;
mod presence_clock;
mod presence_cluster;
mod presence_contract;
mod presence_grants;
mod presence_heals;
mod presence_open;
mod presence_outages;
mod presence_redis;
mod presence_sentinel;
mod presence_settings;
mod presence_tls;
mod proof;
mod proxies;
mod recognition;
mod redis_cluster;
mod reloading;
mod revocation;
mod route_folder;
mod rules;
mod sites;
mod slugs;
mod store_contract;
mod store_copy;
mod store_failures;
mod store_migrate;
mod store_partitions;
mod store_schema;
mod store_site;
mod streams;
mod support;
mod tables;
mod visited;
mod widget;
