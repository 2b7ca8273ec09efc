//! Handles of a route's metrics: looked up by the proxy when they are first needed, and kept with the route, so that a request
//! counts without a search by the texts of labels.

use std::sync::OnceLock;

use crate::metrics::{Counter, Histogram, StatusClass};

/// What the proxy counts of a route's requests. A route of a table that is loaded later finds the same metrics by its name.
#[derive(Debug, Clone, Default)]
pub struct RouteHandles {
    /// Requests by class of status; the last are those without an answer.
    pub requests: [OnceLock<Counter>; StatusClass::COUNT + 1],
    /// How long they took.
    pub duration: OnceLock<Histogram>,
}

/// They are no part of what a route says.
impl PartialEq for RouteHandles {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RouteHandles {}
