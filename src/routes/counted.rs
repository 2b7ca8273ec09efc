//! Which event types count as page views: for statistics, past visitors and counters alike.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{PAGE_VIEW, RouteTable};
use crate::config;

/// The event types that count: those of `record.counted_event_types`, or else [`PAGE_VIEW`] and what the routes in use
/// write. A handle: it follows the route table.
#[derive(Debug, Clone)]
pub struct CountedTypes {
    configured: Option<Arc<[Arc<str>]>>,
    routes: Option<Arc<ArcSwap<RouteTable>>>,
}

impl CountedTypes {
    /// Those of a configuration and its routes.
    pub fn new(record: &config::Record, routes: Arc<ArcSwap<RouteTable>>) -> Self {
        Self {
            routes: Some(routes),
            ..Self::without_routes(record)
        }
    }

    /// Those of a configuration where no route has an event type of its own.
    pub fn without_routes(record: &config::Record) -> Self {
        let configured = record.counted_event_types.as_ref();
        Self {
            configured: configured.map(|types| types.names().collect()),
            routes: None,
        }
    }

    /// The types: at least one, each once, in alphabetical order.
    pub fn get(&self) -> Vec<Arc<str>> {
        let mut types: Vec<Arc<str>> = match (&self.configured, &self.routes) {
            (Some(configured), _) => configured.to_vec(),
            (None, None) => vec![PAGE_VIEW.into()],
            (None, Some(routes)) => {
                let table = routes.load();
                let own = table.event_types().map(|written| Arc::clone(written.event_type));
                own.chain([PAGE_VIEW.into()]).collect()
            }
        };
        types.sort();
        types.dedup();
        types
    }
}
