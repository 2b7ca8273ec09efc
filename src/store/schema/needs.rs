//! Uses of the app's tables by the configuration: only what these need is demanded of the tables. Pure.

use crate::config::{Config, Events, Schema};

/// Which parts of the tables are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent uses")]
pub(in crate::store) struct Needs {
    /// Page views are written, into the app's table or our own.
    pub events: bool,
    /// That table is our own.
    pub own_events: bool,
    /// `pages_visited` is counted.
    pub pages_visited: bool,
    /// `last_active` is raised.
    pub last_active: bool,
    /// Names and pictures are shown.
    pub identities: bool,
    /// Members may be hidden.
    pub hidden: bool,
    /// Accounts may be disabled.
    pub disabled: bool,
}

impl Needs {
    pub(in crate::store) fn of(config: &Config) -> Self {
        let (record, schema) = (&config.record, &config.schema);
        Self {
            events: record.events != Events::Off,
            own_events: record.events == Events::Own,
            pages_visited: record.pages_visited,
            last_active: record.last_active && raises_last_active(schema),
            identities: config.api.enabled && config.api.identities,
            hidden: schema.hides_members(),
            disabled: schema.disables_accounts(),
        }
    }

    /// Whether anything is asked of the profiles. What sessions refer to must exist where they are told apart by it.
    pub(super) fn profiles(self, schema: &Schema) -> bool {
        schema.has_profiles()
            && (self.identities
                || self.last_active
                || self.hidden
                || self.disabled
                || schema.finds_accounts())
    }
}

fn raises_last_active(schema: &Schema) -> bool {
    schema.has_profiles() && !schema.profile.columns.last_active.is_empty()
}
