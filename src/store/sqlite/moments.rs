//! Compares moments in SQLite's SQL. SQLite has no type for them: they are text in whatever form they were
//! written, `2024-01-01 12:00:00` by Django, `2024-01-01T12:00:00.5Z` or `…+05:00` by others, and text compares
//! character by character.
//!
//! So the comparison uses a number made from the text of each row. An index on the text still finds the rows of a
//! window: [`Days`] are its days, and one or two on either side, since zones may shift a text by that much.

use std::fmt::Write as _;

use chrono::{DateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

/// More than any zone differs from UTC.
const MARGIN: TimeDelta = TimeDelta::days(2);

/// Bounds of the text of all moments in a window: `first` is at or before the first, `last` after the last.
pub(super) struct Days {
    pub(super) first: String,
    pub(super) last: String,
}

impl Days {
    pub(super) fn around(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let (first, last) = with_margin(from, to);
        let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
        Self {
            first: day(first),
            last: day(last),
        }
    }
}

fn with_margin(from: DateTime<Utc>, to: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    (
        from.checked_sub_signed(MARGIN)
            .unwrap_or(DateTime::<Utc>::MIN_UTC),
        to.checked_add_signed(MARGIN).unwrap_or(DateTime::<Utc>::MAX_UTC),
    )
}

/// SQL for the microseconds since the epoch of a column's text; null where that is no moment. Between `from` and
/// `to`, times without offset are exactly those of `zone`; elsewhere they may be an hour off.
///
/// SQLite's own functions have millisecond precision, and round: they get the seconds, and the fraction is added.
pub(super) fn micros(column: &str, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let offset = format!("ltrim(substr({column}, 20), '.0123456789')");
    let seconds = format!("unixepoch(substr({column}, 1, 19) || {offset})");
    let fraction = format!("CAST(round(CAST('0' || substr({column}, 20) AS REAL) * 1000000) AS INTEGER)");
    let (first, last) = with_margin(from, to);
    let local = match &*offsets(zone, first, last) {
        [(_, 0)] => String::new(),
        offsets => format!(" - {}", local_offset(&offset, &seconds, offsets)),
    };
    format!("(({seconds}{local}) * 1000000 + {fraction})")
}

/// SQL for the seconds that a time without offset is ahead of UTC.
fn local_offset(offset: &str, seconds: &str, offsets: &[(i64, i32)]) -> String {
    let mut sql = format!("CASE WHEN {offset} <> '' THEN 0");
    for pair in offsets.windows(2) {
        if let [(_, before), (change, _)] = pair {
            // As shown by a clock that was not yet changed.
            let shown = change + i64::from(*before);
            let _ = write!(sql, " WHEN {seconds} < {shown} THEN {before}");
        }
    }
    let last = offsets.last().map_or(0, |(_, offset)| *offset);
    let _ = write!(sql, " ELSE {last} END");
    sql
}

/// The zone's offsets from UTC in seconds, each with the time from which it holds; the first from the beginning.
fn offsets(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<(i64, i32)> {
    const DAY: i64 = 86_400;
    let (from, to) = (from.timestamp(), to.timestamp());
    let mut offsets = vec![(i64::MIN, offset_at(zone, from))];
    let mut known = from;
    while known < to {
        let next = (known + DAY).min(to);
        let (mut before, mut behind) = (known, next);
        let old = offset_at(zone, before);
        if offset_at(zone, behind) != old {
            while behind - before > 1 {
                let middle = before + (behind - before) / 2;
                if offset_at(zone, middle) == old {
                    before = middle;
                } else {
                    behind = middle;
                }
            }
            offsets.push((behind, offset_at(zone, behind)));
        }
        known = next;
    }
    offsets
}

fn offset_at(zone: Tz, seconds: i64) -> i32 {
    let at = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    zone.offset_from_utc_datetime(&at.naive_utc())
        .fix()
        .local_minus_utc()
}

/// The time around now in which sessions are compared.
pub(super) fn lately(now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    (now - TimeDelta::days(366), now + TimeDelta::days(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_zones_changes_are_found_to_the_second() {
        let (from, to) = (at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"));
        let spring = at("2024-03-31T01:00:00Z").timestamp();
        let autumn = at("2024-10-27T01:00:00Z").timestamp();
        assert_eq!(
            offsets(Tz::Europe__Berlin, from, to),
            [(i64::MIN, 3600), (spring, 7200), (autumn, 3600)]
        );
        assert_eq!(offsets(Tz::UTC, from, to), [(i64::MIN, 0)]);
        assert_eq!(offsets(Tz::Asia__Kolkata, from, to), [(i64::MIN, 19_800)]);
    }

    #[test]
    fn all_forms_of_a_windows_moments_are_between_its_days() {
        let days = Days::around(at("2024-03-01T00:00:00Z"), at("2024-03-01T00:00:01Z"));
        for text in [
            "2024-03-01 14:00:00+14:00",
            "2024-02-29T12:00:00-12:00",
            "2024-03-01T00:00:00.5Z",
        ] {
            assert!(*days.first <= *text && *text < *days.last, "{text}");
        }
    }
}
