//! `[privacy]`: which parts of a request may be stored.

use serde::Deserialize;

use super::rules::Section;

/// What is stored of addresses, user agents, queries and referrers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// How much of the client's address is written.
    pub ip_address: IpPrecision,
    /// Whether the user agent's text is written (its parsed form always is).
    pub user_agent: bool,
    /// Query parameters that stay in recorded URLs; all others are stripped, in referrers too.
    pub query_allow: Vec<String>,
    /// How much of the referrer is written.
    pub referrer: ReferrerPrecision,
    /// What the dashboard shows of the latest page views.
    pub recent_pages: RecentPrecision,
}

/// How much of an address is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpPrecision {
    /// All of it.
    Full,
    /// The network: /24 of IPv4, /48 of IPv6.
    Network,
    /// Nothing: null, or `0.0.0.0` where the column may not be null.
    None,
}

/// How much of a referrer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrerPrecision {
    /// Scheme, host and path.
    Path,
    /// Scheme and host.
    Origin,
    /// Nothing.
    None,
}

/// What the dashboard shows of the latest page views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecentPrecision {
    /// Paths that a route names, and their routes.
    Path,
    /// Routes.
    Route,
    /// Nothing.
    None,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            ip_address: IpPrecision::Full,
            user_agent: true,
            query_allow: Vec::new(),
            referrer: ReferrerPrecision::Path,
            recent_pages: RecentPrecision::Path,
        }
    }
}

impl Section for Privacy {}
