//! What is written and counted: settings, and since when. Pure.

use std::time::Duration;

use crate::browser_session::Visibility;
use crate::config::{self, CommunityIdAs, Config, Events, HiddenMembers, OwnPartitions, PageViews};
use crate::routes::CountedTypes;

/// No sidecar is older, so that a row of it from before has the time of a clock that was wrong, that of a machine
/// without a battery for one. It would hide all that the app has recorded since.
pub(in crate::store) const FIRST_POSSIBLE: &str = "2024-01-01";

/// What is written and counted, from the configuration.
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that do not depend on each other"
)]
pub(in crate::store) struct Rules {
    pub events: bool,
    /// The event table is our own.
    pub own_events: bool,
    /// What is added to counters is noted.
    pub counts: bool,
    /// The counters write who is there.
    pub writes_presence: bool,
    /// Our own event table has partitions.
    pub partitions: bool,
    /// What a member whom the app hides is; `None` where it hides nobody.
    pub hidden: Option<Visibility>,
    /// Accounts may be disabled.
    pub disabled: bool,
    pub community_id_as: CommunityIdAs,
    pub page_views: PageViews,
    /// By how much a view must be later than `last_active` to raise it.
    pub last_active_interval: Duration,
    /// The event types that count as page views.
    pub counted: CountedTypes,
    pub database: config::Database,
}

impl Rules {
    pub(in crate::store) fn new(config: &Config) -> Self {
        Self {
            events: config.record.events != Events::Off,
            own_events: config.record.events == Events::Own,
            counts: config.counters.enabled && config.counters.of_events(),
            writes_presence: config.writes_presence(),
            partitions: config.record.events == Events::Own
                && config.record.own_partitions == OwnPartitions::Month,
            hidden: config
                .schema
                .hides_members()
                .then_some(match config.record.hidden {
                    HiddenMembers::Count => Visibility::Hidden,
                    HiddenMembers::Ignore => Visibility::Ignored,
                }),
            disabled: config.schema.disables_accounts(),
            community_id_as: config.record.community_id_as,
            page_views: config.api.page_views,
            last_active_interval: config.record.last_active_interval,
            counted: CountedTypes::without_routes(&config.record),
            database: config.database.clone(),
        }
    }
}
