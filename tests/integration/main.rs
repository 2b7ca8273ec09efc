//! Tests against the real things: Postgres, Redis, the Django backend. One binary, so that all tests share
//! one Postgres and one Redis server; each test has a database and a key prefix of its own.

mod store_contract;
mod store_failures;
mod store_migrate;
mod store_schema;
mod store_site;
mod support;
