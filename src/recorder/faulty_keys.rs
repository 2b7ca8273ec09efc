//! Routes with pages that the app serves though what their paths name is no key of a community: most often a slug in the group
//! `community`. Such views are not counted, which is told now and then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::page_view::PageView;

/// Between two lines about one route: it may have been changed, and be wrong still.
const AGAIN: Duration = Duration::from_secs(3_600);

/// When each such route was told of.
#[derive(Debug, Default)]
pub struct FaultyKeys {
    told: Mutex<BTreeMap<Option<Arc<str>>, Instant>>,
}

impl FaultyKeys {
    /// A member was shown a page, and what its path names is no key.
    pub(super) fn note(&self, view: &PageView) {
        if !self.is_due(view.route.as_ref(), Instant::now()) {
            return;
        }
        let route = view.route.as_deref().unwrap_or_default();
        tracing::warn!(
            route,
            "a page view is not counted, as what its path names is no key of a community: where that is a slug, call the group \
             community_slug, and where the page is of no community, let the route's pattern match keys alone (told once an hour \
             for a route; headcount_page_views_not_counted_total has all, as community_key)"
        );
    }

    fn is_due(&self, route: Option<&Arc<str>>, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let route = route.cloned();
        let is_due = told
            .get(&route)
            .is_none_or(|last| now.duration_since(*last) >= AGAIN);
        if is_due {
            told.insert(route, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v21_a_route_whose_paths_name_no_key_is_told_once_an_hour() {
        let keys = FaultyKeys::default();
        let (club, group): (Arc<str>, Arc<str>) = ("club".into(), "group".into());
        let start = Instant::now();
        assert!(keys.is_due(Some(&club), start));
        assert!(!keys.is_due(Some(&club), start + AGAIN / 2));
        assert!(keys.is_due(Some(&group), start));
        assert!(keys.is_due(None, start));
        assert!(keys.is_due(Some(&club), start + AGAIN));
        assert!(!keys.is_due(Some(&club), start + AGAIN * 3 / 2));
    }
}
