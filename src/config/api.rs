//! `[api]`: the visitors API on the site's own origin.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::api_keys::{self, ApiKey, KeyScope, PlacedKeys, read_api_keys};
use super::files::ConfigFolder;
use super::rules::{Checked, Section, ensure, positive, within};

/// Where the visitors API answers, and to whom.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an operator's switch")]
pub struct Api {
    /// Off: every path goes to the app.
    pub enabled: bool,
    /// First part of the API's paths.
    pub prefix: String,
    /// Push counts as they change; off: those paths go to the app.
    pub live: bool,
    /// Take page views that pages report; off: that path goes to the app.
    pub beacon: bool,
    /// Sustained rate of reports of one session, per minute.
    pub beacon_rate: u32,
    /// Who may use it.
    pub access: Access,
    /// With `access = "visited"`: how long a caller may see a community after the app has shown it to them.
    #[serde(with = "humantime_serde")]
    pub visited_ttl: Duration,
    /// False: counts only; lists have no visitors and do not identify anybody.
    pub identities: bool,
    /// Whether callers may see who is on the whole site; see [`Api::shows_site_identities`].
    pub site_identities: Option<bool>,
    /// What callers name communities by.
    pub community_key: CommunityKey,
    /// With `access = "backend"`: the app's path that answers 200 to those who may see the community.
    /// `{community}` stands for its id, `{community_slug}` for its slug.
    pub backend_check: String,
    /// How long the app's answer is used, for one token and community.
    #[serde(with = "humantime_serde")]
    pub backend_check_ttl: Duration,
    /// Put before the profile's picture path (Django's `MEDIA_URL`).
    pub avatar_base: String,
    /// Largest `limit` of a list. The default `limit` is 50, or this where it is smaller.
    pub max_limit: u32,
    /// Largest `days` of the statistics.
    pub max_days: u32,
    /// Which pages of past visitors other visitors are told of.
    pub pages: Pages,
    /// Which page views the statistics count.
    pub page_views: PageViews,
    /// Longest time for one answer, and for the session lookup before it; beyond: 503.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Keys of servers.
    pub key: Vec<ApiKey>,
    /// Where the `communities` of each of them stand, for messages.
    #[serde(skip)]
    pub key_places: Vec<String>,
    /// A file with them, as `[[key]]` tables, that is read again when it changes; instead of `key`.
    pub key_file: Option<PathBuf>,
}

/// Access rule of the visitors API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Visitors to whom the app has shown the community lately.
    Visited,
    /// Any signed-in visitor.
    Session,
    /// Visitors whom the app lets see the community.
    Backend,
    /// Everybody.
    Public,
}

/// What callers of the API name communities by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommunityKey {
    /// The primary key.
    Id,
    /// The slug.
    Slug,
    /// The primary key, or else the slug.
    Either,
}

/// Which pages of past visitors other visitors are told of. Servers with a key are told of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    /// The community's own: whoever may see the community may see them. A page below it may be of something that the app
    /// hides from some of its members.
    Own,
    /// All that were recorded.
    All,
    /// None.
    None,
}

/// Which rows of the event table the statistics count, as views and for visitors alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageViews {
    /// The sidecar's, and for each community those that the app wrote before the sidecar's first.
    Ours,
    /// All rows. Where app and sidecar both write, each view counts twice.
    All,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            enabled: true,
            prefix: "/api".into(),
            live: true,
            beacon: true,
            beacon_rate: 60,
            access: Access::Visited,
            visited_ttl: Duration::from_secs(60 * 60),
            identities: true,
            site_identities: None,
            community_key: CommunityKey::Id,
            backend_check: "/api/communities/{community}/".into(),
            backend_check_ttl: Duration::from_secs(5),
            avatar_base: "/media/".into(),
            max_limit: 200,
            max_days: 366,
            pages: Pages::Own,
            page_views: PageViews::Ours,
            timeout: Duration::from_secs(5),
            key: Vec::new(),
            key_places: Vec::new(),
            key_file: None,
        }
    }
}

impl Api {
    /// Whether servers may have keys.
    pub fn takes_keys(&self) -> bool {
        !self.key.is_empty() || self.key_file.is_some()
    }

    /// The keys as they are configured, or in the file now.
    ///
    /// # Errors
    /// The file is faulty: one sentence with the remedy.
    pub fn keys(&self) -> Result<PlacedKeys, String> {
        match &self.key_file {
            Some(path) => read_api_keys(path, |_| None),
            None => Ok(PlacedKeys {
                keys: self.key.clone(),
                places: self.key_places.clone(),
            }),
        }
    }

    /// Remarks of `headcount check` on keys that are accepted but have no or little effect.
    pub fn remarks_on_keys(&self, keys: &[ApiKey], now: DateTime<Utc>) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.enabled && !keys.is_empty() {
            remarks.push("there are API keys, and api.enabled = false: they have no effect; set it to true, or remove the keys".to_owned());
        }
        for key in keys {
            let name = &key.name;
            if let Some(until) = key.not_after.filter(|_| !key.is_valid_at(now)) {
                remarks.push(format!(
                    "the API key \"{name}\" is no longer valid (not_after = {}): remove it, or make a new one",
                    until.format("%Y-%m-%dT%H:%M:%SZ")
                ));
            }
            if key.scopes.contains(&KeyScope::Identities) && !self.identities {
                remarks.push(format!(
                    "the API key \"{name}\" has the scope \"identities\", and api.identities = false: lists have no names; remove the scope, or set it to true"
                ));
            }
        }
        remarks
    }

    /// Whether callers who may see the whole site's count may see who is on it. Where access is decided per
    /// community, only if the configuration says so.
    pub fn shows_site_identities(&self) -> bool {
        let by_access = matches!(self.access, Access::Session | Access::Public);
        self.identities && self.site_identities.unwrap_or(by_access)
    }
}

impl Section for Api {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        if let Some(file) = &mut self.key_file {
            files.locate(file);
        }
        Ok(())
    }

    fn check(&self) -> Checked {
        ensure(
            self.prefix.starts_with('/')
                && !self.prefix.ends_with('/')
                && !self.prefix.contains(['{', '}', '?', '#', '%']),
            "api.prefix",
            format!(
                "\"{}\" must start with / and not end with it, for example \"/api\"",
                self.prefix
            ),
        )?;
        ensure(
            self.backend_check.starts_with('/')
                && ["{community}", "{community_slug}"]
                    .iter()
                    .any(|name| self.backend_check.contains(name)),
            "api.backend_check",
            "must be a path with {community} or {community_slug} in it, for example \
             \"/api/communities/{community}/\"",
        )?;
        within("api.max_limit", self.max_limit, 1, 1000)?;
        within("api.max_days", self.max_days, 1, 3660)?;
        within("api.beacon_rate", self.beacon_rate, 1, 6000)?;
        positive(&[
            ("api.timeout", self.timeout),
            ("api.visited_ttl", self.visited_ttl),
        ])?;
        ensure(
            self.key.is_empty() || self.key_file.is_none(),
            "api.key_file",
            "api.key is there too; keep one of the two: the keys of the configuration, or those of a file",
        )?;
        api_keys::check(&self.key, "api.key")?;
        self.keys()
            .map(drop)
            .map_err(|problem| ("api.key_file".into(), problem))
    }
}
