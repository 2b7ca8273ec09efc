//! Tests of the route table: which paths match which routes.

mod refusals;

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::routes::{Track, decode_path};

fn file(name: &str, text: &str) -> RouteFile {
    RouteFile {
        path: name.into(),
        text: text.into(),
    }
}

fn table(text: &str) -> RouteTable {
    RouteTable::compile(&[file("a.toml", text)]).unwrap()
}

/// A file of one route with this pattern.
fn pattern(pattern: &str) -> String {
    format!("[[route]]\nname = \"one\"\npattern = '{pattern}'\n")
}

const COMMUNITIES: &str = r"
[[route]]
name = 'community-post'
pattern = '^/communities/(?P<community>\d+)/posts/(?P<post>\d+)/?$'
page_type = 'post'

[[route]]
name = 'community'
pattern = '^/communities/(?P<community>[^/]+)(/|$)'
page_type = 'community'

[[route]]
name = 'by-slug'
pattern = '^/c/(?P<community_slug>[a-z0-9-]+)(/|$)'

[[route]]
name = 'health'
pattern = '^/healthz$'
track = 'none'

[[route]]
name = 'search'
pattern = '^/search/$'
page_type = 'search'
community = false
search_param = 'q'
";

/// Compiled once for the property tests.
static TABLE: LazyLock<RouteTable> = LazyLock::new(|| table(COMMUNITIES));

#[expect(clippy::unnecessary_wraps, reason = "compared with optional communities")]
fn id(text: &str) -> Option<CommunityRef> {
    Some(CommunityRef::Id(Arc::from(text)))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with optional communities")]
fn slug(text: &str) -> Option<CommunityRef> {
    Some(CommunityRef::Slug(text.into()))
}

#[test]
fn a_path_matches_the_first_route_and_names_its_community() {
    let table = table(COMMUNITIES);
    let expected: &[(&str, &str, Option<CommunityRef>)] = &[
        ("/communities/42/posts/7", "community-post", id("42")),
        ("/communities/42/posts/7/", "community-post", id("42")),
        ("/communities/42/posts/7/edit", "community", id("42")),
        ("/communities/42", "community", id("42")),
        ("/c/rust-lang/", "by-slug", slug("rust-lang")),
        ("/healthz", "health", None),
        ("/search/?q=x", "search", None),
        // Encoded and hostile paths match as the app sees them.
        ("/communities%2f42", "community", id("42")),
        ("/communities/42%2Fposts%2F7", "community-post", id("42")),
        ("/communities/42%252F", "community", id("42%2F")),
        ("/communities/..%2f..%2fadmin", "community", id("..")),
        // The canonical form depends on the type of the app's keys.
        ("/communities/0042/", "community", id("0042")),
        (
            "/communities/0190A1B2-0000-7000-8000-00000000000F",
            "community",
            id("0190A1B2-0000-7000-8000-00000000000F"),
        ),
    ];
    for (target, route, community) in expected {
        let found = table
            .find(&decode_path(target.as_bytes()))
            .unwrap_or_else(|| panic!("{target}"));
        assert_eq!(&*found.route.name, *route, "{target}");
        assert_eq!(&found.community, community, "{target}");
    }
}

#[test]
fn paths_that_only_look_like_a_route_match_nothing() {
    let table = table(COMMUNITIES);
    for target in [
        "/",
        "/x/communities/42",
        "//communities/42",
        "/x/../communities/42",
        "/?next=/communities/42",
        "/healthz%0a",
        "/healthz%00",
        "/healthz/",
        "/communities%252f42",
        "/c/RUST",
    ] {
        assert_eq!(table.find(&decode_path(target.as_bytes())), None, "{target}");
    }
}

#[test]
fn a_community_that_cannot_be_one_is_none() {
    let table = table(COMMUNITIES);
    let community = |path: &str| table.find(path).unwrap().community;
    assert_eq!(community(&format!("/communities/{}", "x".repeat(65))), None);
    assert_eq!(community("/communities/4\u{0}2/"), None);
    assert!(community(&format!("/communities/{}", "x".repeat(64))).is_some());
    assert_eq!(community(&format!("/c/{}", "x".repeat(256))), None);
}

#[test]
fn a_route_takes_its_name_as_page_type_where_it_gives_none() {
    let table = table(COMMUNITIES);
    let routes: Vec<_> = table
        .iter()
        .map(|route| (&*route.name, &*route.page_type))
        .collect();
    assert_eq!(routes[0], ("community-post", "post"));
    assert_eq!(routes[2], ("by-slug", "by-slug"));
    assert_eq!(table.iter().nth(3).unwrap().track, Track::None);
    assert_eq!(table.iter().nth(4).unwrap().search_param.as_deref(), Some("q"));
    assert_eq!((table.len(), table.is_empty()), (5, false));
}

#[test]
fn files_count_in_the_order_given() {
    let early = file("10.toml", &pattern("^/a"));
    let late = file("20.toml", &pattern("^/").replace("one", "two"));
    let forth = RouteTable::compile(&[early.clone(), late.clone()]).unwrap();
    let back = RouteTable::compile(&[late, early]).unwrap();
    assert_eq!(&*forth.find("/a").unwrap().route.name, "one");
    assert_eq!(&*back.find("/a").unwrap().route.name, "two");
}

#[test]
fn a_route_has_the_widget_unless_it_says_otherwise() {
    let table = table(
        "[[route]]\nname = 'a'\npattern = '^/a'\n[[route]]\nname = 'b'\npattern = '^/b'\nwidget = false\n\
         [[route]]\nname = 'c'\npattern = '^/c'\nwidget = true\n",
    );
    let widgets: Vec<_> = table.iter().map(|route| route.widget).collect();
    assert_eq!(widgets, [true, false, true]);
}

#[test]
fn every_alternative_of_a_pattern_is_anchored() {
    let table = table(&pattern("^/a|/b"));
    assert!(table.find("/b").is_some());
    assert!(table.find("/x/b").is_none());
    assert!(table.find("/x\n/b").is_none());
}

#[test]
fn an_empty_table_matches_nothing() {
    assert!(RouteTable::default().find("/").is_none());
    assert!(RouteTable::compile(&[]).unwrap().is_empty());
    assert!(table("# nothing yet\n").find("/").is_none());
}

#[test]
fn an_explanation_lists_every_route_and_what_is_shadowed() {
    let explanation = table(COMMUNITIES).explain("https://site.example/communities/42%2Fposts/7?x=1");
    assert_eq!(explanation.path, "/communities/42/posts/7");
    assert_eq!(explanation.route.as_deref(), Some("community-post"));
    assert_eq!(explanation.community, id("42"));
    let matched: Vec<bool> = explanation.tried.iter().map(|tried| tried.matched).collect();
    assert_eq!(matched, [true, true, false, false, false]);
    assert_eq!(explanation.tried[1].source, "a.toml:8");

    let unmatched = table(COMMUNITIES).explain("/nowhere");
    assert_eq!((unmatched.route, unmatched.track), (None, None));
}

#[test]
fn the_example_route_file_is_valid_and_does_what_its_comments_say() {
    let text = include_str!("../../../config/routes.d/communities.toml");
    let table = table(text);
    for (target, route, community) in [
        ("/communities/42/", "community", id("42")),
        ("/communities/42/posts/7/", "community-post", id("42")),
        ("/communities/42/search/?q=x", "community-search", id("42")),
        ("/c/rust-lang/", "community-by-slug", slug("rust-lang")),
        ("/healthz", "health", None),
    ] {
        let found = table
            .find(&decode_path(target.as_bytes()))
            .unwrap_or_else(|| panic!("{target}"));
        assert_eq!(
            (&*found.route.name, &found.community),
            (route, &community),
            "{target}"
        );
    }
    assert!(table.find("/communities/").is_none());
    assert_eq!(&*table.find("/static/site.css").unwrap().route.name, "static");
}

proptest! {
    #[test]
    fn the_table_finds_what_trying_one_pattern_after_the_other_finds(
        path in "(/(communities|c|healthz|search|posts|42|[a-z0-9%.\\x00]{0,4})){0,5}/?",
    ) {
        let table = &*TABLE;
        let naive = table.checked().iter().find(|route| route.regex.is_match(&path));
        let found = table.find(&path);
        prop_assert_eq!(naive.map(|route| &route.route), found.as_ref().map(|found| &found.route));
    }

    #[test]
    fn any_path_is_matched_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = TABLE.find(&decode_path(&raw));
        let _ = TABLE.explain(&String::from_utf8_lossy(&raw));
    }

    #[test]
    fn any_file_is_refused_or_compiled_without_panic(text in "(\\[\\[route\\]\\]\n|name|pattern|=|'|\\^|\\(|\n| |é){0,40}") {
        let _ = RouteTable::compile(&[file("a.toml", &text)]);
    }
}

#[test]
fn a8_a_communitys_own_page_names_nothing_below_it() {
    let table = table(COMMUNITIES);
    for (path, is_own) in [
        ("/communities/42", true),
        ("/communities/42/", true),
        ("/communities/42/posts/7/", false),
        ("/communities/42/members/", false),
        ("/c/rust/", true),
        ("/c/rust", true),
        ("/c/rust/about", false),
        ("/search/", false),
    ] {
        assert_eq!(table.find(path).unwrap().is_communitys_own, is_own, "{path}");
    }
}

#[test]
fn a8_a_communitys_own_page_may_name_its_slug_behind_its_key() {
    let text = r"
[[route]]
name = 'category'
pattern = '^/category/(?P<community>\d+)/(?P<slug>[^/]+)(/|$)'

[[route]]
name = 'topic'
pattern = '^/forum/(?P<community>\d+)/(?P<topic>\d+)/$'

[[route]]
name = 'topic-by-slug'
pattern = '^/f/(?P<community>\d+)/topic/(?P<slug>[^/]+)/$'
";
    let table = table(text);
    for (path, is_own) in [
        ("/category/5/rust/", true),
        ("/category/5/rust", true),
        ("/category/5/rust/7/", false),
        ("/category/5/rust/topics", false),
        ("/forum/5/7/", false),
        ("/f/5/topic/hello/", false),
    ] {
        assert_eq!(table.find(path).unwrap().is_communitys_own, is_own, "{path}");
    }
}

/// A forum whose topics do not name their community.
#[test]
fn v25_a_group_may_lead_to_a_community_by_a_lookup() {
    let text = r"
[[route]]
name = 'topic'
pattern = '^/topic/(?P<topic>\d+)/(?P<slug>[^/]+)/$'
page_type = 'topic'

[[route]]
name = 'in-community'
pattern = '^/c/(?P<community>\d+)/topic/(?P<topic>\d+)/$'
page_type = 'topic'
";
    let names = |lookups: &[&str]| RouteNames {
        lookups: lookups.iter().map(|&name| name.into()).collect(),
        ..RouteNames::default()
    };
    let table = RouteTable::compile_with(&[file("a.toml", text)], &names(&["topic"])).unwrap();
    let found = table.find("/topic/7/hello/").unwrap();
    let lookup = CommunityRef::Lookup("topic".into(), "7".into());
    assert_eq!(found.community, Some(lookup));
    assert!(!found.is_communitys_own);
    let direct = table.find("/c/42/topic/7/").unwrap();
    assert_eq!(direct.community, Some(CommunityRef::Id("42".into())));
    // Without the lookup the group is one like any other.
    let refused = RouteTable::compile(&[file("a.toml", text)])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("no community group"), "{refused}");
    let both = pattern(r"^/(?P<topic>\d+)/(?P<post>\d+)/");
    let refused = RouteTable::compile_with(&[file("a.toml", &both)], &names(&["topic", "post"])).unwrap_err();
    assert!(refused.problem.contains("several groups"), "{refused}");
}

#[test]
fn v52_the_route_alone_is_that_of_the_whole_match() {
    let table = table(COMMUNITIES);
    for path in [
        "/communities/42/posts/7/",
        "/communities/42/",
        "/c/rust/",
        "/healthz",
        "/search/",
        "/none",
    ] {
        let whole = table.find(path).map(|found| found.route);
        assert_eq!(table.find_route(path).map(|found| found.route), whole, "{path}");
    }
    let found = table.find_route("/communities/42/").unwrap();
    assert_eq!((&*found.route.name, found.community), ("community", None));
}
