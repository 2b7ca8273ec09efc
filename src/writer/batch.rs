//! Views on their way into one transaction: collecting them, and adding up what they change. Pure: no clock
//! but the one passed in, no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::auth::BrowserSession;
use crate::geoip::Location;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::page_view::PageView;

/// A page view whose visitor and community are known.
#[derive(Debug, Clone)]
pub struct RecordedView {
    /// What was seen.
    pub view: PageView,
    /// Whose session it was.
    pub session: Arc<BrowserSession>,
    /// Where, when a community was named and exists.
    pub community: Option<CommunityId>,
    /// From where; empty until the writer has asked, and where nobody knows.
    pub location: Location,
}

impl RecordedView {
    /// Bytes this view holds, near enough to bound a queue by: its texts and a constant.
    pub fn weight(&self) -> usize {
        self.view.weight()
    }
}

/// The views of one transaction, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The views.
    pub views: Vec<RecordedView>,
}

impl Batch {
    /// Page views per session, sorted by key, so that concurrent writers lock rows in one order (W7).
    pub fn pages_by_session(&self) -> BTreeMap<BrowserSessionId, i64> {
        let mut pages = BTreeMap::new();
        for recorded in &self.views {
            *pages.entry(recorded.session.id.clone()).or_insert(0) += 1;
        }
        pages
    }

    /// Latest view per user, sorted by key (W7).
    pub fn last_active_by_user(&self) -> BTreeMap<UserId, DateTime<Utc>> {
        let mut latest: BTreeMap<UserId, DateTime<Utc>> = BTreeMap::new();
        for recorded in &self.views {
            let at = recorded.view.at;
            latest
                .entry(recorded.session.user_id.clone())
                .and_modify(|seen| *seen = (*seen).max(at))
                .or_insert(at);
        }
        latest
    }
}

/// When a batch is full: by views, by bytes, or by the age of its oldest view.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Most views of a batch.
    pub views: usize,
    /// Most bytes of a batch; a single larger view is a batch of its own.
    pub bytes: usize,
    /// Longest time that a view waits for company.
    pub age: Duration,
}
