//! Tests of routes that are guessed from URL patterns.

use super::*;
use crate::store::catalogue::CatalogueTable;

/// Tables with forums and topics.
pub(super) fn forum_tables() -> Vec<CatalogueTable> {
    vec![
        auth_user(),
        table("forum_forum", "id bigint key, slug text, name text"),
        table(
            "board_topic",
            "id bigint key, forum_id bigint -> forum_forum, title text",
        ),
    ]
}

/// Routes to pages of a site with these tables and URL patterns.
pub(super) fn routes_of(tables: Vec<CatalogueTable>, patterns: &str) -> Vec<GuessedRoute> {
    let site = site(&format!(r#"{{"patterns": [{patterns}]}}"#));
    let mut routes = guessed(tables, Some(&site)).routes;
    routes.retain(|route| !route.is_excluded);
    routes
}

/// Routes of a site with forums and topics.
pub(super) fn forum_routes(patterns: &str) -> Vec<GuessedRoute> {
    routes_of(forum_tables(), patterns)
}

pub(super) fn pattern(path: &str, view: &str) -> String {
    named_pattern(path, view, "")
}

pub(super) fn named_pattern(path: &str, view: &str, name: &str) -> String {
    serde_json::json!({"parts": ["^", path], "name": name, "view": view, "table": null}).to_string()
}

#[test]
fn a_key_of_the_model_before_it_is_the_community() {
    let routes = forum_routes(&pattern(
        r"^forum/(?P<slug>[^/]+)\-(?P<pk>[0-9]+)/\Z",
        "machina.ForumView",
    ));
    assert_eq!(routes[0].pattern, r"^/forum/(?:[^/]+)\-(?P<community>[0-9]+)/$");
    assert_eq!(routes[0].page_type.as_deref(), Some("forum"));
}

#[test]
fn a_key_of_another_model_is_looked_up() {
    let routes = forum_routes(&pattern(
        r"^topic/(?P<pk>[0-9]+)/(?P<slug>[\w-]+)/$",
        "board.detail",
    ));
    assert_eq!(routes[0].pattern, r"^/topic/(?P<topic>[0-9]+)/(?:[\w-]+)/$");
    let lookup = routes[0].lookup.as_ref().expect("a lookup");
    assert_eq!(
        (&*lookup.table, &*lookup.key, &*lookup.community),
        ("board_topic", "id", "forum_id")
    );
}

#[test]
fn patterns_of_others_have_no_route() {
    for path in [
        r"^user/(?P<pk>[0-9]+)/\Z",
        r"^about/\Z",
        r"^user/topics/(?P<pk>[0-9]+)/\Z",
        r"^topic/delete/(?P<pk>[0-9]+)/\Z",
    ] {
        assert!(forum_routes(&pattern(path, "views.some")).is_empty(), "{path}");
    }
    assert!(forum_routes(&pattern(r"^forum/(?P<pk>[0-9]+)/\Z", "forum.admin.views.edit")).is_empty());
}

#[test]
fn what_rust_cannot_match_is_a_comment() {
    let routes = forum_routes(&pattern(r"^forum/(?!x)(?P<pk>[0-9]+)/\Z", "forum.view"));
    assert!(
        routes[0].is_proposal && routes[0].reason.contains("which routes do not support"),
        "{routes:?}"
    );
}

#[test]
fn without_a_site_paths_are_as_usual() {
    let routes = guessed(
        vec![table("clubs_club", "id uuid key, slug text unique, name text")],
        None,
    )
    .routes;
    let patterns: Vec<_> = routes.iter().map(|route| &*route.pattern).collect();
    assert_eq!(
        patterns[1],
        "^/(?:club|clubs)/(?P<community>[0-9a-fA-F-]{32,36})(?:/|$)"
    );
    assert_eq!(
        patterns[2],
        "^/(?:club|clubs|c)/(?P<community_slug>[-a-zA-Z0-9_]+)(?:/|$)"
    );
}
