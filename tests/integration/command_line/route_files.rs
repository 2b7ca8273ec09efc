//! Wrong route files, and `headcount routes test`.

use super::{Folder, IN_ORDER};
use crate::support::sidecar::ROUTES;

/// Route file; line, and what is said behind it: route, problem, remedy.
const WRONG: &[(&str, usize, &str)] = &[
    (
        "[[route]]\nname = \"a\"\npattern = '^/(a'\n",
        3,
        "route `a`: the pattern does not compile: unclosed group; correct it (syntax of Rust's regex crate: no \
         look-around, no back references)",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/(?=a)'\n",
        3,
        "route `a`: the pattern does not compile: look-around, including look-ahead and look-behind, is not \
         supported; correct it (syntax of Rust's regex crate: no look-around, no back references)",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '/a'\n",
        3,
        "route `a`: the pattern does not start with `^`; anchor it, as it would match in the middle of other \
         paths too (flags go behind: `^(?i)/…`)",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/a'\npage_type = \"post\"\n",
        3,
        "route `a`: the pattern has no community group; add (?P<community>…) or (?P<community_slug>…), or say \
         `community = false` if these pages belong to none",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/a'\n[[route]]\nname = \"a\"\npattern = '^/b'\n",
        5,
        "route `a`: the name is already taken at FILE:2; give each route a name of its own, in all files together",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/a'\npatern = 1\n",
        4,
        "route `a`: unknown field `patern`, expected one of `name`, `pattern`, `page_type`, `track`, \
         `search_param`, `community`, `widget`, `grants`, `event_type`, `metadata`, `description`, `presence`; correct or remove it",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/a'\ntrack = \"all\"\n",
        4,
        "route `a`: unknown variant `all`, expected one of `none`, `page`, `request`; correct or remove it",
    ),
    (
        "[[route]]\nname = \"a\"\n",
        1,
        "route `a`: missing field `pattern`; add it",
    ),
    (
        "[[route]]\nname = \"a\"\npattern = '^/a\n",
        3,
        "invalid literal string, expected `'`; correct the TOML syntax",
    ),
];

#[test]
fn a_wrong_route_file_is_one_line_with_file_line_route_and_remedy() {
    for (routes, line, said) in WRONG {
        let folder = Folder::new(IN_ORDER, routes);
        let file = folder.path("routes.d/site.toml");
        let message = format!("{file}:{line}: {}", said.replace("FILE", &file));
        for command in [&["run"][..], &["routes", "test", "/"]] {
            folder.run(command).is_one_message(64, &message);
        }
    }
}

#[test]
fn a_folder_of_route_files_that_is_not_there_is_named_with_its_key() {
    let folder = Folder::new(&format!("{IN_ORDER}[routes]\ndir = \"paths.d\"\n"), "");
    folder.run(&["run"]).is_one_message(
        64,
        &format!(
            "{}: cannot be read (No such file or directory (os error 2)); routes.dir names the folder of the \
             route files",
            folder.path("paths.d")
        ),
    );
}

#[test]
fn a23_a_table_that_belongs_elsewhere_is_refused_with_its_right_form() {
    for (header, remedy) in [
        (
            "[[routes]]",
            "[[routes]] has no place in this file; write [[route]]",
        ),
        (
            "[[routes.route]]",
            "[[routes.route]] has no place in this file; write [[route]]",
        ),
        (
            "[route]",
            "[route] has no place in this file; write [[route]], with two brackets: there may be several",
        ),
    ] {
        let routes = format!("# One.\n{header}\nname = \"a\"\npattern = '^/a'\n");
        let folder = Folder::new(IN_ORDER, &routes);
        let told = folder.run(&["routes", "test", "/a"]);
        told.is_one_message(64, &format!("{}:2: {remedy}", folder.path("routes.d/site.toml")));
    }
}

/// What `headcount routes test` says of a URL, with FILE for the route file.
fn explained(arguments: &[&str]) -> String {
    let folder = Folder::new(IN_ORDER, ROUTES);
    let told = folder.run(&[&["routes", "test"], arguments].concat());
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    told.out.replace(&folder.path("routes.d/site.toml"), "FILE")
}

const COUNTED: &str = "yes, when a signed-in member's browser gets it as a page (status 200, HTML)";

#[test]
fn a_page_of_a_community_is_explained() {
    for url in [
        "/communities/42/posts/7",
        "https://site.example/communities/42/posts/7?x=1#y",
    ] {
        assert_eq!(
            explained(&[url]),
            format!(
                "path       /communities/42/posts/7\n\
                 route      community-post  (FILE:3)\n\
                 page type  post\n\
                 community  42\n\
                 access     a 200 lets its visitor see who is in the community; 401, 403, 404 (but for a query), 410 and a redirect to \
                 another page take that away: grants = true\n\
                 access     a 200 lets its visitor see who is at post \"7\"; 401, 403, 404 (but for a query), 410 and a redirect to another \
                 page take that away: presence names it\n\
                 counted    {COUNTED}\nevent type page_view\n\
                 presence   post \"7\"  (…/posts/{{post}}/visitors)\n"
            )
        );
    }
}

/// What a route says of its events and of presence, with the values of this path.
#[test]
fn what_a_route_writes_and_counts_besides_is_explained() {
    let routes = ROUTES.replacen(
        "presence = [\"community\", \"post\"]",
        "presence = [\"community\", { capture = \"post\", path = \"stories\" }]\nevent_type = \"post_view\"\n\
         metadata = { post_id = \"post\" }\ndescription = \"Post {post}\"",
        1,
    );
    let folder = Folder::new(IN_ORDER, &routes);
    let told = folder.run(&["routes", "test", "/communities/42/posts/7/"]);
    assert!(
        told.out.ends_with(
            "\nevent type post_view\nmetadata   post_id = \"7\"\ndescribes  Post 7\n\
             presence   post \"7\"  (…/stories/{post}/visitors)\n"
        ),
        "{told:?}"
    );
    let told = folder.run(&["routes", "test", "/communities/42/"]);
    assert!(!told.out.contains("presence"), "{told:?}");
}

#[test]
fn a_community_named_by_its_slug_is_explained() {
    let text = explained(&["/c/rust"]);
    assert!(
        text.contains("\ncommunity  the one with slug \"rust\"\n"),
        "{text}"
    );
}

#[test]
fn a27_whether_answers_on_a_path_decide_about_access_is_explained() {
    let gives = "access     a 200 lets its visitor see who is in the community; 401, 403, 404 (but for a query), 410 and a redirect to another page \
                 take that away: ";
    let nothing = "access     answers say nothing about who may see the community: ";
    let own = format!("{gives}it is the community's own page; grants = false if anybody gets it");
    let folder = Folder::new(
        IN_ORDER,
        &format!(
            "[[route]]\nname = \"join\"\npattern = '^/join/(?P<community>\\d+)/$'\ngrants = false\n{}",
            ROUTES.replace("grants = true\n", "")
        ),
    );
    for (arguments, told) in [
        (&["/communities/42/"][..], &*own),
        (&["/c/rust"], &own),
        (&["/join/42/"], &format!("{nothing}grants = false")),
        (
            &["/communities/42/search/"],
            &format!("{nothing}it is below the community; grants = true if the app checks"),
        ),
        (
            &["/communities/42/posts/7"],
            "access     a 200 lets its visitor see who is at post \"7\"; 401, 403, 404 (but for a query), 410 and a redirect to another page take \
             that away: presence names it",
        ),
        (
            &["/communities/42/", "--method", "POST"],
            &format!("{nothing}only the answers to a GET do"),
        ),
    ] {
        let said = folder.run(&[&["routes", "test"], arguments].concat());
        assert!(said.out.contains(told), "{arguments:?}: {}", said.out);
    }
    let said = folder.run(&["routes", "test", "/about/"]);
    assert!(!said.out.contains("access "), "{}", said.out);
}

#[test]
fn why_a_page_is_not_counted_is_explained() {
    assert_eq!(
        explained(&["/healthz"]),
        "path       /healthz\n\
         route      health  (FILE:27)\n\
         page type  health\n\
         community  none\n\
         counted    no: route_excluded\n"
    );
    let text = explained(&["/communities/42/", "--method", "POST"]);
    assert!(text.ends_with("\ncounted    no: method\n"), "{text}");
}

#[test]
fn a_slug_in_the_place_of_a_key_is_explained() {
    let routes = r#"
[[route]]
name = "club"
pattern = '^/clubs/(?P<community>[^/]+)/$'
"#;
    for (path, community) in [
        ("/clubs/7/", "7"),
        (
            "/clubs/chess/",
            "the one with key \"chess\" (where keys are numbers or UUIDs, the view is not counted; if it is a slug, call the group community_slug)",
        ),
    ] {
        let told = Folder::new(IN_ORDER, routes).run(&["routes", "test", path]);
        let line = format!("\ncommunity  {community}\n");
        assert!(told.out.contains(&line), "{}", told.out);
    }
}

#[test]
fn a_path_that_no_route_matches_is_explained() {
    assert_eq!(
        explained(&["/about/"]),
        format!(
            "path       /about/\n\
             route      none matches\n\
             community  none\n\
             counted    {COUNTED}\nevent type page_view\n"
        )
    );
}

#[test]
fn routes_that_come_too_late_are_named() {
    let routes = format!("{ROUTES}\n[[route]]\nname = \"late\"\npattern = '^/healthz'\n");
    let folder = Folder::new(IN_ORDER, &routes);
    let told = folder.run(&["routes", "test", "/healthz"]);
    assert!(
        told.out.contains("\nalso match late  (first match wins)\n"),
        "{}",
        told.out
    );
}

#[test]
fn what_is_no_method_is_refused() {
    let folder = Folder::new(IN_ORDER, ROUTES);
    folder
        .run(&["routes", "test", "/", "--method", "GET IT"])
        .is_one_message(64, "\"GET IT\" is not a request method");
}
