//! `[[api.key]]`: keys with which servers use the visitors API, in the configuration or in a file of their own.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use toml::value::Datetime;

use super::ConfigError;
use super::misplaced::IN_KEY_FILE;
use super::rules::{Checked, ensure, within};
use super::source::Source;

/// What every key begins with: a JWT never does.
pub const KEY_PREFIX: &str = "hc_";
/// Most keys: each request with one is compared with all of them.
const MAX_KEYS: usize = 100;
/// Most communities that a key may be limited to.
const MAX_COMMUNITIES: usize = 200;
/// Longest name of a key, in characters.
const MAX_NAME: usize = 64;

/// A key of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Its name in logs and metrics.
    pub name: String,
    /// The SHA-256 of the key; the sidecar does not store the key itself.
    #[serde(deserialize_with = "hash")]
    pub sha256: KeyHash,
    /// What it may be used for.
    pub scopes: Vec<KeyScope>,
    /// Sustained rate of requests to each sidecar, per minute.
    #[serde(default = "default_rate")]
    pub rate: u32,
    /// Most requests at once.
    #[serde(default = "default_burst")]
    pub burst: u32,
    /// When it expires.
    #[serde(default, deserialize_with = "moment")]
    pub not_after: Option<DateTime<Utc>>,
    /// The primary keys of the communities that it may be used for; all of them where there is no list.
    #[serde(default, deserialize_with = "communities")]
    pub communities: Option<Vec<String>>,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// Counts.
    Counts,
    /// Who the visitors are.
    Identities,
}

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// A file of keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<ApiKey>,
}

fn default_rate() -> u32 {
    600
}

fn default_burst() -> u32 {
    100
}

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        bytes.try_into().ok().map(Self)
    }
}

/// In hexadecimal digits, as it stands in a configuration.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// Reads a hash. The text is not quoted: it may be the key, put here by mistake.
fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyHash, D::Error> {
    let wrong = || {
        D::Error::custom(
            "is not the SHA-256 of a key in 64 hexadecimal digits, as `headcount api-key new` prints it",
        )
    };
    let text = String::deserialize(deserializer).map_err(|_| wrong())?;
    if text.starts_with(KEY_PREFIX) {
        return Err(D::Error::custom(
            "is a key itself, which is now in a file: make a new one with `headcount api-key new`, and write its SHA-256 here",
        ));
    }
    KeyHash::parse(&text).ok_or_else(wrong)
}

impl KeyScope {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Counts, Self::Identities];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Identities => "identities",
        }
    }
}

/// A moment with its offset from UTC, or a day, at whose beginning (UTC) it is.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Datetime::deserialize(deserializer)?.to_string();
    let day = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok();
    let moment = DateTime::parse_from_rfc3339(&text).map(|moment| moment.to_utc());
    let moment = moment
        .ok()
        .or_else(|| Some(day()?.and_time(NaiveTime::MIN).and_utc()));
    let example =
        "must be a day, or a moment with its offset, for example 2027-01-31 or 2027-01-31T18:00:00Z";
    moment.map(Some).ok_or_else(|| D::Error::custom(example))
}

/// Primary keys, as numbers or as text.
fn communities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Text(String),
    }
    let ids = Vec::<Id>::deserialize(deserializer)?.into_iter();
    let text = |id| match id {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    };
    Ok(Some(ids.map(text).collect()))
}

impl ApiKey {
    /// Whether it is valid at a moment.
    pub fn is_valid_at(&self, at: DateTime<Utc>) -> bool {
        self.not_after.is_none_or(|until| at < until)
    }
}

/// Keys with where the `communities` of each stand, as errors name places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedKeys {
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// One per key.
    pub places: Vec<String>,
}

/// Reads a file of keys: `[[key]]` tables, perhaps none. `fault` as of [`check_communities`].
///
/// # Errors
/// What is wrong, with file and line. It quotes no hash.
pub fn read_api_keys(path: &Path, fault: impl Fn(&str) -> Option<String>) -> Result<PlacedKeys, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
    let source = Source {
        path: path.into(),
        text,
        overridden: BTreeMap::new(),
    };
    let read = || -> Result<_, ConfigError> {
        source.refuse(&IN_KEY_FILE)?;
        let File { key } = source.typed()?;
        check(&key, "key")
            .and_then(|()| check_communities(&key, "key", fault))
            .map_err(|(key, problem)| source.error_at(key, problem))?;
        let place = |index| source.place_of(&format!("key[{index}].communities"));
        let places = (0..key.len()).map(|index| place(index).unwrap_or_else(|| path.display().to_string()));
        let places = places.collect();
        Ok(PlacedKeys { keys: key, places })
    };
    read().map_err(|error| error.to_string())
}

/// Whether a key may be called this.
pub fn is_api_key_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain)
}

/// Rules for a list of keys that stands under `key`.
pub(super) fn check(keys: &[ApiKey], key: &str) -> Checked {
    ensure(
        keys.len() <= MAX_KEYS,
        key,
        format!("there are more than {MAX_KEYS}; remove those that are no longer used"),
    )?;
    let mut names = HashMap::new();
    let mut hashes = HashMap::new();
    for (index, one) in keys.iter().enumerate() {
        let place = |field: &str| format!("{key}[{index}].{field}");
        ensure(
            is_api_key_name(&one.name),
            &place("name"),
            format!(
                "must be 1 to {MAX_NAME} letters, digits, '.', '_' or '-': it stands in logs and metrics"
            ),
        )?;
        ensure(
            names.insert(&one.name, index).is_none(),
            &place("name"),
            format!(
                "\"{}\" is the name of another key, too; give each its own",
                one.name
            ),
        )?;
        if let Some(other) = hashes.insert(one.sha256, &one.name) {
            let problem = format!(
                "is also that of \"{other}\"; make a key of its own for \"{}\" with `headcount api-key new`",
                one.name
            );
            return Err((place("sha256"), problem));
        }
        let is_of_nothing = [&b""[..], b"\n"].map(KeyHash::of).contains(&one.sha256);
        ensure(
            !is_of_nothing,
            &place("sha256"),
            "is that of an empty text: where it was made, the key was missing",
        )?;
        ensure(
            !one.scopes.is_empty(),
            &place("scopes"),
            "is empty, so that the key is good for nothing; give \"counts\", \"identities\", or both",
        )?;
        within(&place("rate"), one.rate, 1, 60_000)?;
        within(&place("burst"), one.burst, 1, 10_000)?;
        let communities = one.communities.as_ref().map(Vec::len);
        ensure(
            communities.is_none_or(|number| (1..=MAX_COMMUNITIES).contains(&number)),
            &place("communities"),
            format!("must name 1 to {MAX_COMMUNITIES}; leave it out for all of them"),
        )?;
    }
    Ok(())
}

/// Refuses communities that can be none of the app's, whatever rows there are: `fault` says what a community's primary key
/// is where a text cannot be one. A list of keys stands under `key`.
///
/// # Errors
/// The dotted key, and what is wrong with it.
pub fn check_communities(
    keys: &[ApiKey],
    key: &str,
    fault: impl Fn(&str) -> Option<String>,
) -> Result<(), (String, String)> {
    for (index, one) in keys.iter().enumerate() {
        for named in one.communities.iter().flatten() {
            if let Some(type_of_keys) = fault(named) {
                let problem = format!(
                    "\"{named}\" is the primary key of no community: those are {type_of_keys}; name the ids, also where \
                     callers name communities by slugs"
                );
                return Err((format!("{key}[{index}].communities"), problem));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
