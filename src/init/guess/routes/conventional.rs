//! Routes that need no URL patterns: paths that are no pages, and conventional paths of communities.

use super::mount;
use super::path::joined;
use super::{GrantsKey, GuessedRoute, route_name};
use crate::init::catalogue::{AppTable, plural};
use crate::init::django::{DjangoSite, Pattern};
use crate::init::guess::communities::has_unique_slug;
use crate::store::schema::Kind;

/// Paths that are no pages: files, and Django's admin.
pub(super) fn excluded(site: Option<&DjangoSite>) -> Vec<GuessedRoute> {
    let is_path = |url: &&str| url.len() > 1 && url.starts_with('/');
    let mount = site.and_then(mount::of);
    let files = |url: Option<&str>, default: &str| {
        let url = url.filter(is_path).unwrap_or(default);
        // Django puts the path of the mount before it.
        let below = mount.as_ref().and_then(|mount| url.strip_prefix(&**mount));
        let url = below.filter(|rest| rest.starts_with('/')).unwrap_or(url);
        regex::escape(url.trim_matches('/'))
    };
    let settings = site.map(|site| &site.settings);
    let static_url = files(
        settings.and_then(|settings| settings.static_url.as_deref()),
        "/static/",
    );
    let media_url = files(
        settings.and_then(|settings| settings.media_url.as_deref()),
        "/media/",
    );
    let optional = site.map_or_else(String::new, mount::optional);
    let exclusion = |name: &str, pattern: String, reason: &str| GuessedRoute {
        name: name.into(),
        pattern,
        page_type: None,
        is_excluded: true,
        is_proposal: false,
        search_param: None,
        lookup: None,
        grants: GrantsKey::Default,
        reason: reason.into(),
    };
    let mut routes = vec![exclusion(
        "static",
        format!("^{optional}/({static_url}|{media_url})/|^{optional}/(favicon\\.ico|robots\\.txt)$"),
        "STATIC_URL and MEDIA_URL",
    )];
    let admin = site.and_then(|site| {
        let is_admin = |pattern: &&Pattern| {
            pattern.view.starts_with("django.contrib.admin.sites.") && pattern.name == "index"
        };
        site.patterns.iter().find(is_admin)
    });
    if let Some(pattern) = admin
        && let [before @ .., _] = &*pattern.parts
    {
        let path = joined(before);
        routes.push(exclusion(
            "admin",
            format!("^{optional}/{path}"),
            "Django's admin",
        ));
    }
    routes
}

/// Conventional paths of communities, where the site was not asked.
pub(super) fn routes(community: &AppTable) -> Vec<GuessedRoute> {
    let word = community.word();
    let key = match community.key().map(|key| key.kind) {
        Some(Kind::Uuid) => "[0-9a-fA-F-]{32,36}",
        Some(Kind::Text) => "[^/]+",
        _ => r"\d+",
    };
    let (one, many) = (regex::escape(&word), regex::escape(&plural(&word)));
    let route = |name: String, pattern: String| GuessedRoute {
        name,
        pattern,
        page_type: Some(word.clone()),
        is_excluded: false,
        is_proposal: false,
        search_param: None,
        lookup: None,
        grants: GrantsKey::Default,
        reason: "a guess from the table's name; `headcount init --django` reads the site's own URL patterns"
            .into(),
    };
    let name = route_name(&word);
    let mut routes = vec![route(
        name.clone(),
        format!("^/(?:{one}|{many})/(?P<community>{key})(?:/|$)"),
    )];
    if has_unique_slug(community) && key != "[^/]+" {
        let pattern = format!(
            "^/(?:{one}|{many}|{})/(?P<community_slug>[-a-zA-Z0-9_]+)(?:/|$)",
            initial(&word)
        );
        routes.push(route(format!("{name}-by-slug"), pattern));
    }
    routes
}

fn initial(word: &str) -> String {
    word.chars().take(1).collect()
}
