//! Batches: the page views of one transaction, and their totals per session and user. Pure: no clock, no I/O.
//!
//! A batch consists of *parts*. A part is one row of a spool and the unit of the ledger: it is applied as a whole,
//! once. Which parts share a transaction may differ from try to try.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::geoip::Location;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::page_view::PageView;

/// Identifies a spool file, and so the process that writes into it. Never reused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(Uuid);

impl WriterId {
    /// A new one. Later ones sort behind earlier ones, to the millisecond.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// From its printed form; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    /// As the ledger holds it.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A part's key in the ledger. No two parts ever have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// The spool that the part was first written to.
    pub writer: WriterId,
    /// Its sequence number there, from 1; rises.
    pub seq: i64,
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.writer, self.seq)
    }
}

impl BatchKey {
    /// From its printed form; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (writer, seq) = text.split_once('/')?;
        Some(Self {
            writer: WriterId::parse(writer)?,
            seq: seq.parse().ok()?,
        })
    }
}

/// A page view whose visitor and community are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedView {
    /// The view.
    pub view: PageView,
    /// The session that it was made in; `None` where a JWT names none.
    pub session_id: Option<BrowserSessionId>,
    /// The visitor.
    pub user_id: UserId,
    /// The community, when one was named and exists.
    pub community: Option<CommunityId>,
    /// Country and the like, from the client IP; filled in when the view is applied, empty where unknown.
    #[serde(skip)]
    pub location: Location,
}

/// Views that are applied together or not at all, under one key.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPart {
    /// Its key in the ledger.
    pub key: BatchKey,
    /// The views, oldest first.
    pub views: Vec<RecordedView>,
}

/// The parts of one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The parts, in the order of their spool.
    pub parts: Vec<BatchPart>,
    /// Per writer, the number below which all parts are gone from their spool for good: the ledger may forget
    /// them.
    pub settled: Vec<BatchKey>,
}

impl Batch {
    /// All views, part by part.
    pub fn views(&self) -> impl Iterator<Item = &RecordedView> {
        self.parts.iter().flat_map(|part| &part.views)
    }

    /// The keys of its parts.
    pub fn keys(&self) -> impl Iterator<Item = BatchKey> {
        self.parts.iter().map(|part| part.key)
    }

    /// The batch without the parts that are not among `keys`.
    #[must_use]
    pub fn only(&self, keys: &HashSet<BatchKey>) -> Self {
        let parts = self.parts.iter().filter(|part| keys.contains(&part.key));
        Self {
            parts: parts.cloned().collect(),
            settled: self.settled.clone(),
        }
    }

    /// Page views per session, without those that have none, sorted by key, so that concurrent writers lock rows in one order (W7).
    pub fn pages_by_session(&self) -> BTreeMap<BrowserSessionId, i64> {
        // Sorted at the end: there are many views of each.
        let mut pages: HashMap<&BrowserSessionId, i64> = HashMap::new();
        for session in self.views().filter_map(|recorded| recorded.session_id.as_ref()) {
            *pages.entry(session).or_insert(0) += 1;
        }
        let pages = pages.into_iter();
        pages.map(|(session, pages)| (session.clone(), pages)).collect()
    }

    /// Latest view per user, sorted by key (W7).
    pub fn last_active_by_user(&self) -> BTreeMap<UserId, DateTime<Utc>> {
        let mut latest: HashMap<&UserId, DateTime<Utc>> = HashMap::new();
        for recorded in self.views() {
            let at = recorded.view.at;
            let seen = latest.entry(&recorded.user_id).or_insert(at);
            *seen = at.max(*seen);
        }
        let latest = latest.into_iter();
        latest.map(|(user, at)| (user.clone(), at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_prints() {
        let key = BatchKey {
            writer: WriterId::random(),
            seq: 7,
        };
        assert_eq!(BatchKey::parse(&key.to_string()), Some(key));
        for text in ["", "7", "x/7", "0190163d-8694-739b-aea5-966c26f8ad91/x"] {
            assert_eq!(BatchKey::parse(text), None, "{text}");
        }
    }
}
