//! Tests of pages below a community: whose view it is, and whether an answer says that its visitor may see the community.

use super::routes::{forum_routes, forum_tables, named_pattern, pattern, routes_of};
use super::*;

#[test]
fn d14_the_row_goes_before_a_community_that_the_path_names() {
    let routes = forum_routes(&pattern(
        r"^x/(?P<forum_pk>[0-9]+)/topic/(?P<pk>[0-9]+)/\Z",
        "board.TopicView",
    ));
    assert_eq!(routes[0].pattern, r"^/x/(?:[0-9]+)/topic/(?P<topic>[0-9]+)/$");
    assert!(routes[0].lookup.is_some(), "{routes:?}");
    assert!(
        routes[0].reason.contains("not for the forum in the path"),
        "{routes:?}"
    );
    // Of several rows the one at the end is the page's.
    let mut tables = forum_tables();
    tables.push(table(
        "board_poll",
        "id bigint key, forum_id bigint -> forum_forum, title text",
    ));
    let routes = routes_of(
        tables,
        &pattern(
            r"^topic/(?P<topic_pk>[0-9]+)/poll/(?P<poll_pk>[0-9]+)/\Z",
            "board.poll",
        ),
    );
    assert_eq!(routes[0].pattern, r"^/topic/(?:[0-9]+)/poll/(?P<poll>[0-9]+)/$");
}

/// What is proposed is a route file, and names the thing that the path has.
#[test]
fn p34_the_page_of_a_row_is_proposed_to_be_counted_by_itself() {
    let routes = forum_routes(&pattern(
        r"^x/(?P<forum_pk>[0-9]+)/topic/(?P<pk>[0-9]+)/\Z",
        "board.TopicView",
    ));
    // As it is written, and with the proposed key alone.
    let written = crate::init::write::routes(&routes);
    let proposal = "\n#presence = ";
    assert_eq!(written.matches(proposal).count(), 1, "{written}");
    let names = crate::routes::RouteNames {
        lookups: [std::sync::Arc::from("topic")].into(),
        parameters: std::sync::Arc::default(),
    };
    let file = crate::routes::RouteFile {
        path: "a.toml".into(),
        text: written.replace(proposal, "\npresence = "),
    };
    let table = crate::routes::RouteTable::compile_with(&[file], &names).expect("routes");
    let found = table.find("/x/3/topic/7/").expect("a route");
    let things: Vec<_> = found
        .finer
        .iter()
        .map(|finer| (finer.kind(), finer.key()))
        .collect();
    assert_eq!(things, [("topic_key", "7")]);
    assert_eq!(&*table.finer_kinds()[0].segment, "topics");
    let looked_up = crate::routes::CommunityRef::Lookup("topic".into(), "7".into());
    assert_eq!(found.community, Some(looked_up));
    // Neither a page below it, nor that of a community.
    for (path, view) in [
        (r"^topic/(?P<pk>[0-9]+)/edit/\Z", "board.edit"),
        (r"^forum/(?P<forum_pk>[0-9]+)/\Z", "board.forum"),
    ] {
        assert_eq!(forum_routes(&pattern(path, view))[0].finer(), None, "{path}");
    }
}

#[test]
fn d14_a_row_that_paths_name_by_its_slug_is_looked_up_by_it() {
    let tables = vec![
        auth_user(),
        table("forum_forum", "id bigint key, slug text unique, name text"),
        table(
            "board_topic",
            "id bigint key, forum_id bigint -> forum_forum, slug text unique, title text",
        ),
    ];
    let routes = routes_of(tables, &pattern(r"^topic/(?P<slug>[-\w]+)/\Z", "board.detail"));
    let lookup = routes[0].lookup.as_ref().expect("a lookup");
    assert_eq!((&*lookup.key, &*lookup.community), ("slug", "forum_id"));
    assert_eq!(
        routes[0].pattern,
        format!(r"^/topic/(?P<{}>[-\w]+)/$", lookup.name)
    );
}

#[test]
fn d14_the_reference_that_is_called_like_the_community_is_the_rows_own() {
    let tables = vec![
        auth_user(),
        table("forum_forum", "id bigint key, slug text, name text"),
        table(
            "board_topic",
            "id bigint key, moved_from_id bigint? -> forum_forum, forum_id bigint -> forum_forum",
        ),
    ];
    let routes = routes_of(tables, &pattern(r"^topic/(?P<pk>[0-9]+)/\Z", "board.detail"));
    assert_eq!(routes[0].lookup.as_ref().expect("a lookup").community, "forum_id");
}

/// As in django-machina, where the last key is a post's.
#[test]
fn d14_a_key_without_a_name_is_not_that_of_a_row_which_another_group_names() {
    let path = r"^forum/(?P<forum_pk>[0-9]+)/topic/(?P<topic_slug>[^/]+)-(?P<topic_pk>[0-9]+)/(?P<pk>[0-9]+)/post/update/\Z";
    let routes = forum_routes(&pattern(path, "board.post_update"));
    let pattern = &routes[0].pattern;
    assert!(
        pattern.contains("(?P<topic>[0-9]+)/(?:[0-9]+)/post/update/"),
        "{pattern}"
    );
}

#[test]
fn d14_pages_below_a_community_say_what_their_answers_show() {
    let forum = |rest: &str| pattern(&format!(r"^forum/(?P<forum_pk>[0-9]+)/{rest}\Z"), "board.view");
    let of = |rest: &str| forum_routes(&forum(rest)).remove(0);
    // Its own page speaks for itself; some apps show a row to people who may not see its community.
    assert_eq!(of("").grants, GrantsKey::Default);
    let row = of(r"topic/(?P<pk>[0-9]+)/");
    assert_eq!(row.grants, GrantsKey::Proposed);
    assert!(
        row.reason.contains("only to those who may see its community"),
        "{row:?}"
    );
    // The app may have checked the community, or not.
    let below = of("members/");
    assert_eq!(below.grants, GrantsKey::Proposed);
    assert!(below.reason.contains("grants = true"), "{below:?}");
    // Everybody sees these.
    for rest in [
        "join/",
        "request-to-join/",
        "apply/",
        "invitation/(?P<code>[a-z]+)/",
        "subscribe/",
        "about/",
    ] {
        let join = of(rest);
        assert_eq!(join.grants, GrantsKey::No, "{rest}");
        assert!(join.reason.contains("not members"), "{join:?}");
    }
    assert_eq!(of(r"topic/(?P<pk>[0-9]+)/join/").grants, GrantsKey::No);
}

#[test]
fn d15_routes_to_different_pages_have_page_types_of_their_own() {
    let patterns = [
        named_pattern(r"^forum/(?P<forum_pk>[0-9]+)/\Z", "board.forum", "detail"),
        named_pattern(
            r"^forum/(?P<forum_pk>[0-9]+)/(?P<slug>[-\w]+)/\Z",
            "board.forum",
            "detail",
        ),
        named_pattern(
            r"^forum/(?P<forum_pk>[0-9]+)/members/\Z",
            "board.members",
            "members",
        ),
        named_pattern(r"^forum/(?P<forum_pk>[0-9]+)/archive/\Z", "board.archive", ""),
        named_pattern(r"^topic/(?P<pk>[0-9]+)/\Z", "board.topic", "topic:detail"),
        named_pattern(r"^topic/(?P<pk>[0-9]+)/history/\Z", "board.history", "history"),
    ];
    let routes = forum_routes(&patterns.join(", "));
    let types: Vec<_> = routes
        .iter()
        .map(|route| route.page_type.as_deref().unwrap_or_default())
        .collect();
    assert_eq!(
        types,
        [
            "forum",
            "forum",
            "forum-members",
            "forum-archive",
            "topic",
            "topic-history"
        ]
    );
}
