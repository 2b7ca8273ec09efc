//! Touches that are not yet sent, by the call that they will be in. Pure; the time is a parameter.
//!
//! Those of the whole site go every [`SITE_INTERVAL`], all together: every view is one of them, and a call for each view
//! would double the load of the store. They go sooner where somebody asks who is on the site.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Taken;
use super::progress::{OpenCall, TouchProgress};
use crate::ids::{Finer, UserId};
use crate::presence::moment::Moment;
use crate::presence::{Scope, TOUCHED_TOGETHER};

/// Between two calls for the whole site that nobody asks for.
pub(super) const SITE_INTERVAL: Duration = Duration::from_millis(250);

/// Touches of the site, or of a community and what is finer in it.
pub(super) struct TouchBatch {
    /// When each was last seen, and in what.
    pub(super) seen: BTreeMap<(UserId, Option<Finer>), Moment>,
    pub(super) taken: Taken,
    pub(super) call: OpenCall,
}

/// What waits.
pub(super) struct PendingTouches {
    /// By the part of the store that keeps them, as far as it tells.
    communities: BTreeMap<(Option<u16>, Scope), TouchBatch>,
    /// The last of them that was sent: the others come before it is sent again.
    last: Option<(Option<u16>, Scope)>,
    site: Option<TouchBatch>,
    /// When the site's may go.
    sites_turn: Moment,
    touches: usize,
    progress: Arc<TouchProgress>,
}

impl PendingTouches {
    /// Nothing waits; the site's touches may go at once.
    pub(super) fn new(now: Moment, progress: Arc<TouchProgress>) -> Self {
        Self {
            communities: BTreeMap::new(),
            last: None,
            site: None,
            sites_turn: now,
            touches: 0,
            progress,
        }
    }

    /// The number of touches of communities, or of the site if that has more: each view makes one of those at least.
    pub(super) fn len(&self) -> usize {
        let of_site = self.site.as_ref().map_or(0, |site| site.seen.len());
        self.touches.max(of_site)
    }

    /// When the site's may go, if there are any.
    pub(super) fn sites_turn(&self) -> Option<Moment> {
        self.site.as_ref().map(|_| self.sites_turn)
    }

    /// The next call: the site's first, at its turn, where it is asked for, or where there is no later (`is_last`); then
    /// communities in turn, together where they share a part of the store.
    pub(super) fn next(&mut self, now: Moment, is_last: bool) -> Option<Vec<(Scope, TouchBatch)>> {
        let is_asked = |site: &TouchBatch| site.call.is_asked_of_site();
        if (is_last || now >= self.sites_turn || self.site.as_ref().is_some_and(is_asked))
            && let Some(site) = self.site.take()
        {
            self.sites_turn = now + SITE_INTERVAL;
            return Some(vec![(Scope::Site, site)]);
        }
        let mut batches = Vec::new();
        while batches.len() < TOUCHED_TOGETHER
            && let Some(next) = self.next_community()
            // One call has communities of one part.
            && (batches.is_empty() || (next.0.is_some() && self.last.as_ref().is_some_and(|last| last.0 == next.0)))
            && let Some(batch) = self.communities.remove(&next)
        {
            self.touches -= batch.seen.len();
            batches.push((next.1.clone(), batch));
            self.last = Some(next);
        }
        (!batches.is_empty()).then_some(batches)
    }

    /// The one behind the last.
    fn next_community(&self) -> Option<(Option<u16>, Scope)> {
        let behind = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.communities.range((behind, Bound::Unbounded));
        let next = behind.next().or_else(|| self.communities.first_key_value());
        next.map(|(place, _)| place.clone())
    }

    /// Notes that a user was seen in a scope, which a part of the store keeps; of several moments the latest is sent.
    pub(super) fn put_down(
        &mut self,
        part: Option<u16>,
        scope: &Scope,
        user: UserId,
        at: Moment,
        taken: Taken,
    ) {
        let progress = Arc::clone(&self.progress);
        let empty = || TouchBatch {
            seen: BTreeMap::new(),
            taken: Taken {
                waiting: taken.waiting.clone(),
                touches: 0,
            },
            call: progress.open(scope.group()),
        };
        let is_site = *scope == Scope::Site;
        let finer = scope.finer().cloned();
        let batch = if is_site {
            self.site.get_or_insert_with(empty)
        } else {
            self.communities
                .entry((part, scope.group()))
                .or_insert_with(empty)
        };
        match batch.seen.entry((user, finer)) {
            Entry::Vacant(vacant) => {
                vacant.insert(at);
                self.touches += usize::from(!is_site);
                batch.taken.and(taken);
            }
            Entry::Occupied(mut before) => {
                let last = at.max(*before.get());
                before.insert(last);
            }
        }
    }
}
