//! Tests of the HTTP layer over fakes of store, presence and backend. The real ones have tests of their own.

mod access;
mod access_by_backend;
mod backend_check;
mod contract;
mod cors;
mod counts;
mod failures;
mod fakes;
mod finer;
mod history;
mod lists;
mod live;
mod parameters;
mod paths;
mod servers;
mod site;
mod spelling;
mod stats;
mod support;
mod targets;
mod widget;
