//! Validity of a certificate: from when until when, and whether it ends soon.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use pingora_core::tls::sign::CertifiedKey;
use x509_parser::parse_x509_certificate;

/// How long before its end a certificate is reported as expiring soon.
const SOON: TimeDelta = TimeDelta::days(14);

/// The dates of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Start of validity.
    pub from: DateTime<Utc>,
    /// End of validity.
    pub until: DateTime<Utc>,
}

impl Validity {
    /// The dates of the certificate itself, not of those behind it in the chain. None where they cannot be read.
    pub fn of(pair: &CertifiedKey) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(pair.cert.first()?).ok()?;
        let dates = certificate.validity();
        let moment = |seconds| DateTime::from_timestamp(seconds, 0);
        Some(Self {
            from: moment(dates.not_before.timestamp())?,
            until: moment(dates.not_after.timestamp())?,
        })
    }

    /// What the operator should act on; `None` where nothing is wrong.
    pub fn problem(&self, now: DateTime<Utc>) -> Option<String> {
        let Self { from, until } = *self;
        if now > until {
            Some(format!(
                "expired on {}; renew it, browsers refuse it",
                text(until)
            ))
        } else if now < from {
            Some(format!(
                "is not valid before {}; browsers refuse it until then",
                text(from)
            ))
        } else if until - now < SOON {
            Some(format!("expires soon, on {}; renew it", text(until)))
        } else {
            None
        }
    }
}

/// Shows the end of validity.
impl std::fmt::Display for Validity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "is valid until {}", text(self.until))
    }
}

fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c30_what_is_wrong_with_the_dates_is_said_with_the_date() {
        let moment = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let validity = Validity {
            from: moment("2026-01-01T00:00:00Z"),
            until: moment("2026-04-01T00:00:00Z"),
        };
        for (now, problem) in [
            (
                "2025-12-31T23:59:59Z",
                Some("is not valid before 2026-01-01T00:00:00Z"),
            ),
            ("2026-01-01T00:00:00Z", None),
            ("2026-03-18T00:00:00Z", None),
            (
                "2026-03-18T00:00:01Z",
                Some("expires soon, on 2026-04-01T00:00:00Z"),
            ),
            ("2026-04-01T00:00:01Z", Some("expired on 2026-04-01T00:00:00Z")),
        ] {
            let said = validity.problem(moment(now));
            assert_eq!(said.is_some(), problem.is_some(), "{now}");
            assert!(
                said.unwrap_or_default().starts_with(problem.unwrap_or_default()),
                "{now}"
            );
        }
        assert_eq!(validity.to_string(), "is valid until 2026-04-01T00:00:00Z");
    }
}
