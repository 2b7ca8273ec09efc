//! What the tests stand on: services started on free ports, and stopped with the test process.

pub mod postgres;
pub mod service;
