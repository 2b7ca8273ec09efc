//! JSON forms of values that several rooms answer with: keys, lengths of time, times. Pure.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::ids::{CommunityId, UserId};
use crate::key_type::AppKeys;

/// A primary key: a number where the app's column is an integer, else text. Text, too, are
/// integers beyond 2^53 − 1, which JavaScript would read as others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Key {
    /// An integer key, of which every reader makes the same number.
    Number(i64),
    /// A uuid, text or large integer key.
    Text(String),
}

/// Largest integer that JavaScript can tell from both its neighbours.
const MAX_SAFE: u64 = (1 << 53) - 1;

impl Key {
    /// `number` is the key's number if the keys are integers.
    pub(crate) fn new(text: &str, number: Option<i64>) -> Self {
        match number {
            Some(number) if number.unsigned_abs() <= MAX_SAFE => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    /// A community's.
    pub(crate) fn of_community(community: &CommunityId, keys: &AppKeys) -> Self {
        Self::new(community.as_str(), keys.community_number(community))
    }

    /// A user's.
    pub(crate) fn of_user(user: &UserId, keys: &AppKeys) -> Self {
        Self::new(user.as_str(), keys.user_number(user))
    }
}

/// A length of time: whole seconds are an integer, others have a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = f64, minimum = 0, example = 300)]
pub(crate) struct Seconds(pub(crate) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

/// A time as Django REST framework prints it in UTC: RFC 3339, `Z`, six decimals or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-23T07:39:18.123456Z")]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = if self.0.timestamp_subsec_micros() == 0 {
            SecondsFormat::Secs
        } else {
            SecondsFormat::Micros
        };
        serializer.serialize_str(&self.0.to_rfc3339_opts(digits, true))
    }
}
