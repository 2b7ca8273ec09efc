//! The path below which the whole site is mounted (`FORCE_SCRIPT_NAME`). Pure.
//!
//! Django's patterns do not have it, and clients send it; whether a proxy in front of the sidecar strips it, no setting
//! says. So routes match with and without it.

use crate::init::django::DjangoSite;

/// The path, with a slash before it and none after it.
pub(in crate::init) fn of(site: &DjangoSite) -> Option<String> {
    let path = site.settings.force_script_name.as_deref()?.trim_matches('/');
    (!path.is_empty()).then(|| format!("/{path}"))
}

/// What every path may begin with, as a regular expression; empty where there is no such path.
pub(super) fn optional(site: &DjangoSite) -> String {
    of(site).map_or_else(String::new, |path| format!("(?:{})?", regex::escape(&path)))
}
