//! Converts values to and from Django's forms in SQLite. Pure.
//! Moments are text without offset, in UTC or in the column's zone, the fraction left out when it is zero; a
//! `uuid` is 32 hexadecimal digits; numbers are numbers.

use chrono::{DateTime, NaiveDateTime, SubsecRound as _, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::store::schema::{Column, Kind};

/// A moment for a `datetime` column, in microseconds.
pub(super) fn moment(at: DateTime<Utc>, column: &Column) -> String {
    let at = at.trunc_subsecs(6).with_timezone(&column.zone);
    let format = if at.nanosecond() == 0 {
        "%Y-%m-%d %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S%.6f"
    };
    at.format(format).to_string()
}

/// Reads a moment of a `datetime` column; also in the forms that other writers than Django use.
pub(super) fn read_moment(text: &str, column: &Column) -> Result<DateTime<Utc>, sqlx::Error> {
    if let Ok(at) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        return Ok(at.to_utc());
    }
    NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f")
        .map(|at| from_local(at, column.zone))
        .map_err(|_| unexpected(column, "is no moment"))
}

/// For a local time that occurs twice, the first; for one that is skipped, as if the clock had not been put
/// forward.
fn from_local(at: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let hour = TimeDelta::hours(1);
    let left_out = || Some(zone.from_local_datetime(&(at + hour)).earliest()? - hour);
    let found = zone.from_local_datetime(&at).earliest().or_else(left_out);
    found.map_or_else(|| at.and_utc(), |at| at.to_utc())
}

/// A key as the column holds it. A number is sent as text: the column's affinity makes it a number again.
pub(super) fn key(text: &str, column: &Column) -> Result<String, sqlx::Error> {
    if column.kind == Kind::Uuid {
        Uuid::try_parse(text)
            .map(|id| id.simple().to_string())
            .map_err(|error| sqlx::Error::Encode(error.into()))
    } else {
        Ok(text.to_owned())
    }
}

/// A key as the app prints it.
pub(super) fn read_key(text: String, column: &Column) -> Result<String, sqlx::Error> {
    if column.kind == Kind::Uuid {
        Uuid::try_parse(&text)
            .map(|id| id.hyphenated().to_string())
            .map_err(|_| unexpected(column, "is no uuid"))
    } else {
        Ok(text)
    }
}

fn unexpected(column: &Column, what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column}: a value {what}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::Dialect;

    fn column(kind: Kind) -> Column {
        Column::sample(Dialect::Sqlite, kind)
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn in_zone(zone: Tz) -> Column {
        Column {
            zone,
            ..column(Kind::Timestamp)
        }
    }

    #[test]
    fn moments_are_written_as_django_writes_them() {
        for (zone, given, written) in [
            (Tz::UTC, "2024-01-01T12:00:00Z", "2024-01-01 12:00:00"),
            (Tz::UTC, "2024-01-01T12:00:00.5Z", "2024-01-01 12:00:00.500000"),
            (
                Tz::UTC,
                "2024-01-01T12:00:00.123456789Z",
                "2024-01-01 12:00:00.123456",
            ),
            (Tz::UTC, "2024-01-01T12:00:00.000000789Z", "2024-01-01 12:00:00"),
            (
                Tz::Europe__Berlin,
                "2024-01-01T12:00:00.5Z",
                "2024-01-01 13:00:00.500000",
            ),
            (Tz::Europe__Berlin, "2024-07-01T12:00:00Z", "2024-07-01 14:00:00"),
        ] {
            assert_eq!(moment(at(given), &in_zone(zone)), written);
        }
    }

    #[test]
    fn s9_local_times_are_read_in_their_zone() {
        for (text, expected) in [
            ("2024-01-01 12:00:00", "2024-01-01T11:00:00Z"),
            ("2024-07-01 12:00:00.5", "2024-07-01T10:00:00.5Z"),
            ("2024-07-01T12:00:00Z", "2024-07-01T12:00:00Z"),
            // Left out, and shown twice.
            ("2024-03-31 02:30:00", "2024-03-31T00:30:00Z"),
            ("2024-10-27 02:30:00", "2024-10-27T00:30:00Z"),
        ] {
            let read = read_moment(text, &in_zone(Tz::Europe__Berlin)).unwrap();
            assert_eq!(read, at(expected), "{text}");
        }
    }

    #[test]
    fn moments_are_read_in_the_forms_that_occur() {
        let column = column(Kind::Timestamp);
        for text in [
            "2024-01-01 12:00:00.500000",
            "2024-01-01T12:00:00.5",
            "2024-01-01 12:00:00.5+00:00",
            "2024-01-01T14:00:00.5+02:00",
        ] {
            assert_eq!(
                read_moment(text, &column).unwrap(),
                at("2024-01-01T12:00:00.5Z"),
                "{text}"
            );
        }
        assert!(read_moment("yesterday", &column).is_err());
    }

    #[test]
    fn uuids_lose_and_regain_their_dashes() {
        let column = column(Kind::Uuid);
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        let stored = key(id, &column).unwrap();
        assert_eq!(stored, "0190163d8694739baea5966c26f8ad91");
        assert_eq!(read_key(stored, &column).unwrap(), id);
    }
}
