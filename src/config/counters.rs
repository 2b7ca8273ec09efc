//! `[counters]`: columns of the app's community table that hold its counts, for the app's own pages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use serde::Deserialize;

use super::Config;
use super::rules::{Checked, Section, at_least_a_second, ensure};

/// The keys that name columns.
const COLUMNS: [&str; 4] = ["current_visitors", "total_visitors", "page_views", "updated_at"];
/// Shortest time between two writes of one community.
const SHORTEST: Duration = Duration::from_secs(5);

/// Which counts are written, where to, and how often. Off by default: they are written to a table of the app's, so that
/// the operator has to say so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counters {
    /// Write them.
    pub enabled: bool,
    /// Column of `schema.community.table` for who is there now; `""` for each that is not wanted.
    pub current_visitors: String,
    /// Column for the distinct users who ever viewed a page, by the events that are kept.
    pub total_visitors: String,
    /// Column for all page views ever, by the events that are kept.
    pub page_views: String,
    /// Column for when one of the others was last changed.
    pub updated_at: String,
    /// A community is written at most once in this time, and only when a count has changed.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// When, in UTC, the counters are compared with the events each day, and put right.
    pub reconcile_at: TimeOfDay,
    /// Longest time of one statement, which counts one community from its events.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// Where each key was written, for messages.
    #[serde(skip)]
    pub places: BTreeMap<&'static str, String>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            enabled: false,
            current_visitors: "current_visitors".into(),
            total_visitors: "total_visitors".into(),
            page_views: "page_views".into(),
            updated_at: "visitors_updated_at".into(),
            interval: SHORTEST,
            reconcile_at: TimeOfDay(NaiveTime::from_hms_opt(3, 30, 0).expect("a time")),
            statement_timeout: Duration::from_secs(60),
            places: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Whether the counters write who is there, into `counters.current_visitors`.
    pub(crate) fn writes_presence(&self) -> bool {
        let knows_presence = self.record.presence || self.redis.is_used();
        knows_presence && !self.counters.current_visitors.is_empty()
    }
}

impl Counters {
    /// The keys that name columns, with the names.
    pub fn columns(&self) -> [(&'static str, &str); 4] {
        let names = [
            &self.current_visitors,
            &self.total_visitors,
            &self.page_views,
            &self.updated_at,
        ];
        let mut columns = COLUMNS.map(|key| (key, ""));
        for (column, name) in columns.iter_mut().zip(names) {
            column.1 = name;
        }
        columns
    }

    /// Whether counts of events are wanted, not only who is there now.
    pub fn of_events(&self) -> bool {
        !self.total_visitors.is_empty() || !self.page_views.is_empty()
    }

    /// Keys of which [`Counters::places`] are told.
    pub(super) fn placed() -> impl Iterator<Item = &'static str> {
        COLUMNS.into_iter().chain(["enabled"])
    }

    /// Where a column's key was written, or else the section's switch, with the key.
    pub fn place(&self, key: &str) -> String {
        let place = self.places.get(key).or_else(|| self.places.get("enabled"));
        place.map_or_else(
            || format!("counters.{key}"),
            |place| format!("{place}: counters.{key}"),
        )
    }
}

impl Section for Counters {
    fn check(&self) -> Checked {
        let named = self.columns().map(|(_, name)| name);
        let named = named.into_iter().filter(|name| !name.is_empty());
        let distinct: BTreeSet<&str> = named.clone().collect();
        ensure(
            distinct.len() == named.count(),
            "counters",
            "names one column twice: each count needs a column of its own",
        )?;
        ensure(
            !self.enabled || !self.current_visitors.is_empty() || self.of_events(),
            "counters.enabled",
            "is true, and no count has a column: name one, or set it to false",
        )?;
        ensure(
            self.interval >= SHORTEST,
            "counters.interval",
            "must be at least \"5s\": each write changes a row that the app changes, too",
        )?;
        at_least_a_second(&[("counters.statement_timeout", self.statement_timeout)])
    }
}

/// A time of day, in UTC: `"03:30"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeOfDay(NaiveTime);

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time = NaiveTime::parse_from_str(&text, "%H:%M");
        time.map(Self)
            .map_err(|_| format!("{text:?} is not a time of day, for example \"03:30\""))
    }
}

impl TimeOfDay {
    /// The last such moment at or before `now`.
    pub fn last_before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = now.date_naive().and_time(self.0).and_utc();
        if today <= now {
            today
        } else {
            today - TimeDelta::days(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_was_today_or_yesterday() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let night = TimeOfDay::try_from("03:30".to_owned()).unwrap();
        assert_eq!(
            night.last_before(at("2024-05-02T03:30:00Z")),
            at("2024-05-02T03:30:00Z")
        );
        assert_eq!(
            night.last_before(at("2024-05-02T03:29:59Z")),
            at("2024-05-01T03:30:00Z")
        );
        assert!(TimeOfDay::try_from("25:00".to_owned()).is_err());
    }
}
