//! Tests of `presence` in route files: what paths name, and what is refused.

use crate::ids::Finer;
use crate::routes::{FinerKind, RouteFile, RouteTable};

fn compile(routes: &str) -> Result<RouteTable, String> {
    let file = RouteFile {
        path: "a.toml".into(),
        text: routes.into(),
    };
    RouteTable::compile(&[file]).map_err(|error| error.to_string())
}

/// A route of posts with this `presence`.
fn posts(presence: &str) -> String {
    format!(
        "[[route]]\nname = 'post'\n\
         pattern = '^/communities/(?P<community>\\d+)/(?:posts/(?P<post>[^/]+)/)?(?:by/(?P<author>\\w+)/)?$'\n\
         {presence}\n"
    )
}

fn finer(table: &RouteTable, path: &str) -> Vec<(String, String)> {
    let found = table.find(path).expect("a route");
    let named = found.finer.iter();
    named
        .map(|finer| (finer.kind().to_owned(), finer.key().to_owned()))
        .collect()
}

#[test]
fn p23_a_path_names_what_the_route_says_and_the_path_has() {
    let table = compile(&posts(
        "presence = ['community', 'post', { capture = 'author', path = 'people' }]",
    ))
    .unwrap();
    let kind = |kind: &str, segment: &str| FinerKind {
        kind: kind.into(),
        segment: segment.into(),
    };
    assert_eq!(
        table.finer_kinds(),
        [kind("post", "posts"), kind("author", "people")]
    );
    let own = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
    assert_eq!(finer(&table, "/communities/42/"), []);
    assert_eq!(finer(&table, "/communities/42/posts/7/"), [own("post", "7")]);
    let both = "/communities/42/posts/7 8/by/ada/";
    assert_eq!(finer(&table, both), [own("post", "7 8"), own("author", "ada")]);
    let without = compile(&posts("")).unwrap();
    assert_eq!(finer(&without, "/communities/42/posts/7/"), []);
    assert!(without.finer_kinds().is_empty());
}

#[test]
fn p24_a_key_that_is_too_long_names_only_the_community() {
    let table = compile(&posts("presence = ['community', 'post']")).unwrap();
    for (key, names) in [
        ("x".repeat(Finer::MAX_CHARS), 1),
        ("x".repeat(Finer::MAX_CHARS + 1), 0),
        ("a\tb".to_owned(), 0),
    ] {
        let path = format!("/communities/42/posts/{key}/");
        let found = table.find(&path).unwrap();
        assert!(found.community.is_some());
        assert_eq!(found.finer.len(), names, "{key}");
    }
}

#[test]
fn p24_what_cannot_be_is_refused_with_file_line_and_cure() {
    for (presence, problem, remedy) in [
        (
            "presence = ['community', 'topic']",
            "\"topic\", which is no capture",
            "(community, post, author)",
        ),
        (
            "presence = ['post', 'community']",
            "\"post\", not the community",
            "begin with \"community\"",
        ),
        (
            "presence = 'post'",
            "expected a list of captures of the pattern, the community's first: [\"community\", \"post\"]",
            "correct",
        ),
        (
            "presence = ['community', 7]",
            "an entry of `presence` is the name of a capture",
            "correct",
        ),
        (
            "presence = []",
            "`presence` is empty",
            "name the community's capture",
        ),
        (
            "presence = ['community', 'post', 'post']",
            "\"post\" twice",
            "once",
        ),
        (
            "presence = ['community', 'community']",
            "\"community\" twice",
            "once",
        ),
        (
            "presence = ['community', { capture = 'post', path = 'visitors' }]",
            "\"visitors\" cannot stand",
            "{ capture = \"post\", path = \"…\" }",
        ),
        (
            "presence = ['community', { capture = 'post', path = 'a/b' }]",
            "\"a/b\" cannot stand",
            "a-z",
        ),
        (
            "presence = ['community', 'post']\ntrack = 'none'",
            "not tracked",
            "track",
        ),
    ] {
        let refused = compile(&posts(presence)).unwrap_err();
        assert!(refused.starts_with("a.toml:4: route `post`: "), "{refused}");
        assert!(refused.contains(problem) && refused.contains(remedy), "{refused}");
    }
    let none =
        "[[route]]\nname = 'page'\npattern = '^/p/(?P<post>\\d+)$'\npresence = ['community', 'post']\n";
    let refused = compile(none).unwrap_err();
    assert!(
        refused.starts_with("a.toml:4: ") && refused.contains("no group of one"),
        "{refused}"
    );
    let by_slug = posts("presence = ['community', 'post']").replace("(?P<community>", "(?P<community_slug>");
    let refused = compile(&by_slug).unwrap_err();
    assert!(
        refused.contains("the group \"community_slug\"; begin with \"community_slug\""),
        "{refused}"
    );
}

#[test]
fn p24_scopes_of_a_route_and_kinds_of_all_are_bounded() {
    let groups = |names: &[String]| {
        let groups = names.iter().map(|name| format!("/(?P<{name}>\\d+)"));
        groups.collect::<Vec<_>>().concat()
    };
    let route = |name: usize, names: &[String]| {
        let presence: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
        format!(
            "[[route]]\nname = 'r{name}'\npattern = '^/{name}/(?P<community>\\d+){}$'\npresence = ['community', {}]\n",
            groups(names),
            presence.join(", ")
        )
    };
    let names =
        |from: usize, number: usize| (from..from + number).map(|n| format!("k{n}")).collect::<Vec<_>>();
    let refused = compile(&route(0, &names(0, 4))).unwrap_err();
    assert!(refused.contains("more than 3 captures"), "{refused}");
    let all: String = (0..11).map(|n| route(n, &names(3 * n, 3))).collect();
    let refused = compile(&all).unwrap_err();
    assert!(refused.contains("more than 32 captures"), "{refused}");
}

#[test]
fn p23_across_routes_a_capture_has_one_path_and_a_path_one_capture() {
    let other = |presence: &str| {
        let first = posts("presence = ['community', 'post']");
        let pattern = "^/c/(?P<community_slug>[a-z]+)/(?P<post>\\d+)/(?P<article>\\d+)$";
        compile(&format!(
            "{first}[[route]]\nname = 'other'\npattern = '{pattern}'\n{presence}\n"
        ))
    };
    assert_eq!(
        other("presence = ['community_slug', 'post']")
            .unwrap()
            .finer_kinds()
            .len(),
        1
    );
    for presence in [
        "presence = ['community_slug', { capture = 'post', path = 'p' }]",
        "presence = ['community_slug', { capture = 'article', path = 'posts' }]",
    ] {
        let refused = other(presence).unwrap_err();
        assert!(refused.starts_with("a.toml:8: route `other`: "), "{refused}");
        assert!(refused.contains("one `path` of its own"), "{refused}");
    }
}
