//! `[record]`: what is recorded, and how it is queued and batched.

mod event_types;
mod events;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

use super::files::ConfigFolder;
use super::rules::{Checked, Section, at_least_a_second, at_most, ensure, positive};

pub use event_types::{EventTypes, event_type_fault};
pub use events::Events;

/// Upper bound of `keep_applied`.
const MOST_KEPT: Duration = Duration::from_secs(3_600);
/// Upper bound of `last_active_interval`.
const MOST_BEHIND: Duration = Duration::from_secs(86_400);

/// Switches and sizes of recording. Every write to the app's tables can be switched off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an operator's switch")]
pub struct Record {
    /// Keep presence: who is here now.
    pub presence: bool,
    /// Where page views are inserted: into the app's event table, into a table of our own, or nowhere.
    pub events: Events,
    /// Whether `headcount migrate` makes a partition of our own table for each month. Postgres only.
    pub own_partitions: OwnPartitions,
    /// Whether `headcount migrate` makes indexes for past visitors by visits that hold `metadata`, too. Postgres only.
    pub visits_index: bool,
    /// The event types that statistics, past visitors and counters count; by default `page_view` and those that routes
    /// write.
    pub counted_event_types: Option<EventTypes>,
    /// Add to the session's `pages_visited`. Switch off while the app does it itself.
    pub pages_visited: bool,
    /// Raise the profile's `last_active`.
    pub last_active: bool,
    /// By how much a view must be later than `last_active` to raise it: each change of a profile costs the database a
    /// row. Zero: always.
    #[serde(with = "humantime_serde")]
    pub last_active_interval: Duration,
    /// Whether members whom the app hides are counted. Lists never show them.
    pub hidden: HiddenMembers,
    /// Count page views that no route matches (they have no community).
    pub unmatched: bool,
    /// Which user agents are robots, besides those that are known.
    pub bots: BotPatterns,
    /// A `MaxMind` city or country database (`.mmdb`) that fills `location_data`; without it that stays empty.
    /// Read at start. Relative to the configuration file.
    pub geoip_database: Option<PathBuf>,
    /// Whether `metadata.community_id` is written as JSON text (as the app's own queries compare it) or as
    /// a number where it is one.
    pub community_id_as: CommunityIdAs,
    /// A user counts as present for this long after the last page view.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Touches of one user in one community within this time are sent as one.
    #[serde(with = "humantime_serde")]
    pub coalesce: Duration,
    /// Upper bound of views waiting in each queue; beyond it they are dropped and counted.
    pub queue_views: NonZeroUsize,
    /// Upper bound of the bytes of the views waiting for the database.
    pub queue_bytes: ByteSize,
    /// A batch is applied when it has this many views …
    pub batch_views: NonZeroUsize,
    /// … or this many bytes …
    pub batch_bytes: ByteSize,
    /// … or when its oldest view is this old.
    #[serde(with = "humantime_serde")]
    pub batch_age: Duration,
    /// How long page views stay on disk after the database has acknowledged them; then the database is queried whether
    /// it still has them. Zero: they are deleted at once.
    #[serde(with = "humantime_serde")]
    pub keep_applied: Duration,
    /// Longest time that shutdown waits for the last batches.
    #[serde(with = "humantime_serde")]
    pub flush_timeout: Duration,
}

impl Record {
    /// Whether anything is written to the app's tables.
    pub fn writes(&self) -> bool {
        self.events != Events::Off || self.pages_visited || self.last_active
    }

    /// Whether anything is recorded at all.
    pub fn is_on(&self) -> bool {
        self.presence || self.writes()
    }
}

/// Partitions of our own event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnPartitions {
    /// One table.
    None,
    /// One partition a month.
    Month,
}

/// What hidden members count for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenMembers {
    /// Their visits count and are recorded as others' are.
    Count,
    /// Their visits are not counted and not recorded.
    Ignore,
}

/// Corrections to the list of robots, by user agent. What matches both is no robot.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BotPatterns {
    /// These are robots.
    pub add: Patterns,
    /// These are not.
    pub remove: Patterns,
}

/// Regular expressions that are found anywhere in a text, in capitals or not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Patterns(RegexSet);

impl TryFrom<Vec<String>> for Patterns {
    type Error = regex::Error;

    fn try_from(patterns: Vec<String>) -> Result<Self, regex::Error> {
        RegexSetBuilder::new(patterns)
            .case_insensitive(true)
            .build()
            .map(Self)
    }
}

impl Patterns {
    /// Whether one of them is found in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// JSON type of `metadata.community_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommunityIdAs {
    /// `"42"`
    String,
    /// `42`; keys that are no numbers stay text.
    Number,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            presence: true,
            events: Events::App,
            own_partitions: OwnPartitions::None,
            visits_index: false,
            counted_event_types: None,
            pages_visited: true,
            last_active: true,
            last_active_interval: Duration::from_secs(60),
            hidden: HiddenMembers::Count,
            unmatched: true,
            bots: BotPatterns::default(),
            geoip_database: None,
            community_id_as: CommunityIdAs::String,
            window: Duration::from_secs(300),
            coalesce: Duration::from_secs(5),
            queue_views: NonZeroUsize::new(50_000).expect("not zero"),
            queue_bytes: ByteSize::mib(64),
            batch_views: NonZeroUsize::new(2_000).expect("not zero"),
            batch_bytes: ByteSize::mib(1),
            batch_age: Duration::from_secs(1),
            keep_applied: Duration::from_secs(30),
            flush_timeout: Duration::from_secs(10),
        }
    }
}

impl Section for Record {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        self.geoip_database.iter_mut().for_each(|path| files.locate(path));
        Ok(())
    }

    fn check(&self) -> Checked {
        at_least_a_second(&[("record.window", self.window)])?;
        ensure(
            self.coalesce < self.window,
            "record.coalesce",
            "must be shorter than record.window, or visitors disappear between two touches",
        )?;
        ensure(
            self.batch_bytes <= self.queue_bytes,
            "record.batch_bytes",
            "must be at most record.queue_bytes, or a batch is never full",
        )?;
        at_most("record.batch_views", self.batch_views.get(), 5000)?;
        ensure(
            self.keep_applied <= MOST_KEPT,
            "record.keep_applied",
            "must be at most \"1h\": for so long the ledger would hold the key of every batch",
        )?;
        ensure(
            self.last_active_interval <= MOST_BEHIND,
            "record.last_active_interval",
            "must be at most \"1d\": by so much profiles.last_active may be behind",
        )?;
        positive(&[
            ("record.batch_age", self.batch_age),
            ("record.flush_timeout", self.flush_timeout),
        ])
    }
}
