//! What all pools of one database share: the live schema as last read, and wake-ups of the checks that otherwise look at the
//! database periodically.
//!
//! The check of the tables renews the schema where it finds another, so that a right that is given later, or a table that is
//! made later, is used without anything having to fail first.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, Notify};

use super::schema::ResolvedSchema;
use crate::ids::SiteIdentity;
use crate::key_type::AppKeys;

/// Each wake-up has one waiter; one that nobody waits for is kept for the next wait.
#[derive(Debug, Default)]
pub struct DatabaseState {
    /// A statement failed in a way that the app's tables, or the role's rights on them, may be the reason of.
    pub check_tables: Notify,
    /// The database did not answer, or answered after a wait.
    pub check_database: Notify,
    /// How often a ping failed, or took longer than an operation waits before it has the database pinged.
    pub(super) unanswered: AtomicU64,
    /// Which site this is; known once the tables were read.
    pub site: SiteIdentity,
    /// Empty until first read, and again after a statement found that the tables had changed.
    pub(super) schema: ArcSwapOption<ResolvedSchema>,
    /// Held by who reads the schema.
    pub(super) loading: Mutex<()>,
    /// Key types of the last schema that was read; kept while the schema is read again.
    pub(super) keys: AppKeys,
}

impl DatabaseState {
    /// Uses a schema for the operations that follow.
    pub(super) fn keep(&self, resolved: &Arc<ResolvedSchema>) {
        self.learn_site(resolved);
        if let Some(app) = &resolved.app {
            self.keys.learn(app.keys());
        }
        self.schema.store(Some(Arc::clone(resolved)));
    }

    /// The same, where it differs from the one that was read before: else what could not be updated stays known.
    pub(super) fn renew(&self, resolved: &Arc<ResolvedSchema>) {
        self.learn_site(resolved);
        let known = self.schema.load();
        if known.as_ref().is_none_or(|known| !known.is_like(resolved)) {
            self.keep(resolved);
        }
    }

    fn learn_site(&self, resolved: &ResolvedSchema) {
        if let Some((way, what)) = &resolved.site {
            self.site.learn(way, what);
        }
    }

    /// The schema is read again before it is used again.
    pub(super) fn forget_schema(&self) {
        self.schema.store(None);
    }
}
