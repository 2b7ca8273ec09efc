//! Routes with pages that the app serves though what their paths name is no key of a community: most often a slug in the group
//! `community`. Such views are not counted, which is told once for each route.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::page_view::PageView;

/// The routes that were told of.
#[derive(Debug, Default)]
pub struct FaultyKeys {
    told: Mutex<BTreeSet<Option<Arc<str>>>>,
}

impl FaultyKeys {
    /// A page was shown to a member, and what it names is no key. Whether this is the first of its route, and logged.
    pub(super) fn note(&self, view: &PageView) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&view.route) {
            return false;
        }
        told.insert(view.route.clone());
        let route = view.route.as_deref().unwrap_or_default();
        tracing::warn!(
            route,
            "a page view is not counted, as what its path names is no key of a community: where that is a slug, call the group \
             community_slug, and where the page is of no community, let the route's pattern match keys alone (told once for each \
             route; headcount_page_views_not_counted_total has all, as community_key)"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::testing;

    #[test]
    fn v21_a_route_whose_paths_name_no_key_is_told_once() {
        let keys = FaultyKeys::default();
        let mut view = testing::recorded("/c/rust/").view;
        assert!(keys.note(&view));
        assert!(!keys.note(&view));
        view.route = Some("another".into());
        assert!(keys.note(&view));
    }
}
