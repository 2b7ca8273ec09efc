//! Which page is the community's own, and what else is written so that it shows nobody more than the app does.

use super::routes::{forum_routes, forum_tables, routes_of};
use super::*;

fn own(path: &str, view: &str, name: &str, own_of: &[&str]) -> String {
    serde_json::json!({"parts": ["^", path], "name": name, "view": view, "table": null, "own_of": own_of})
        .to_string()
}

/// As in pybbm, whose subscriptions answer to everybody.
fn forum_and_subscription(own_of: &[&str]) -> String {
    [
        own(r"^forum/(?P<pk>\d+)/$", "pybb.views.ForumView", "forum", own_of),
        own(
            r"^watch/forum/(?P<pk>\d+)/$",
            "pybb.views.ForumWatchView",
            "watch",
            &[],
        ),
    ]
    .join(", ")
}

fn keys(routes: &[GuessedRoute]) -> Vec<GrantsKey> {
    routes.iter().map(|route| route.grants).collect()
}

#[test]
fn d30_only_the_communitys_own_page_may_show_who_may_see_it() {
    // By the page that the model says is its own, and without one by view and path.
    for own_of in [&["forum_forum"][..], &[]] {
        let routes = forum_routes(&forum_and_subscription(own_of));
        assert_eq!(
            keys(&routes),
            [GrantsKey::Default, GrantsKey::NotOwn],
            "{own_of:?}"
        );
        assert!(
            routes[1].reason.contains("that of pybb.views.ForumView"),
            "{routes:?}"
        );
        let written = crate::init::write::routes(&routes);
        assert_eq!(written.matches("\ngrants = false\n").count(), 1, "{written}");
    }
    // Whatever the view is called that the model names.
    let patterns = [
        own(r"^forum/(?P<pk>\d+)/$", "x.forum", "", &[]),
        own(r"^f/(?P<pk>\d+)/forum/$", "x.elsewhere", "", &[]),
        own(
            r"^forum/(?P<pk>\d+)/(?P<slug>[-\w]+)/$",
            "x.threads",
            "",
            &["forum_forum"],
        ),
    ];
    let routes = forum_routes(&patterns.join(", "));
    let of = |view: &str| {
        let mut of = routes.iter().filter(|route| route.reason.starts_with(view));
        of.next().map(|route| route.grants)
    };
    assert_eq!(of("x.threads"), Some(GrantsKey::Default));
    assert_eq!(of("x.forum"), Some(GrantsKey::NotOwn));
}

#[test]
fn d30_words_in_front_of_the_community_do_not_tell_against_the_page_that_is_its_own() {
    let welcome = r"^welcome/forum/(?P<pk>\d+)/$";
    let patterns = [
        own(welcome, "x.threads", "", &["forum_forum"]),
        own(r"^join/forum/(?P<pk>\d+)/$", "x.joins", "", &[]),
    ];
    let routes = forum_routes(&patterns.join(", "));
    assert_eq!(keys(&routes), [GrantsKey::Default, GrantsKey::No], "{routes:?}");
    // Nor where the view alone says that it is.
    let routes = forum_routes(&own(welcome, "x.ForumView", "", &[]));
    assert_eq!(keys(&routes), [GrantsKey::Default], "{routes:?}");
}

#[test]
fn d30_of_pages_that_are_called_alike_the_one_with_the_shortest_path_is_the_communitys_own() {
    let patterns = [
        own(r"^archive/forum/(?P<pk>\d+)/$", "archive.ForumView", "", &[]),
        own(r"^forum/(?P<pk>\d+)/$", "board.ForumView", "", &[]),
    ];
    let routes = forum_routes(&patterns.join(", "));
    assert_eq!(
        keys(&routes),
        [GrantsKey::NotOwn, GrantsKey::Default],
        "{routes:?}"
    );
}

#[test]
fn d30_where_no_page_is_known_to_be_its_own_none_shows_it_and_the_operator_decides() {
    let patterns = [
        own(r"^forum/(?P<pk>\d+)/$", "x.ForumStatistics", "", &[]),
        own(r"^forum/(?P<pk>\d+)/feed$", "x.ForumFeed", "", &[]),
    ];
    let site = site(&format!(r#"{{"patterns": [{}]}}"#, patterns.join(", ")));
    let guess = guessed(forum_tables(), Some(&site));
    let routes: Vec<_> = guess.routes.iter().filter(|route| !route.is_excluded).collect();
    let grants: Vec<_> = routes.iter().map(|route| route.grants).collect();
    assert_eq!(grants, [GrantsKey::NotOwn, GrantsKey::Proposed], "{routes:?}");
    let told = guess
        .open
        .iter()
        .find(|open| open.contains("which page is the community's own"));
    assert!(
        told.is_some_and(|told| told.contains("grants = false")),
        "{:?}",
        guess.open
    );
}

#[test]
fn d32_the_flag_of_djangos_accounts_is_used_and_another_is_proposed() {
    let account = "id bigint key, username text unique, password text, last_login moment?, is_active bool";
    let with = |columns: &str| {
        let people = table("auth_user", columns);
        guessed(vec![people, django_session()], None)
    };
    assert_eq!(
        with(account).value("schema.profile.columns", "is_active"),
        Some("\"is_active\"")
    );
    let other = with("id bigint key, username text unique, is_active bool");
    assert_eq!(other.value("schema.profile.columns", "is_active"), None);
    let mut settings = other.settings.iter();
    assert!(settings.any(|setting| setting.key == "is_active" && setting.is_proposal));
}

#[test]
fn d33_a_word_that_takes_letters_is_no_whole_number() {
    let patterns = |group: &str| {
        own(
            &format!(r"^settings/(?P<group>{group})/$"),
            "livesettings.group_settings",
            "",
            &[],
        )
    };
    let tables = || {
        vec![
            auth_user(),
            table(
                "askbot_group",
                "id bigint key, name text, user_id bigint -> auth_user",
            ),
        ]
    };
    assert_eq!(routes_of(tables(), &patterns(r"[^/]+")), []);
    assert_eq!(routes_of(tables(), &patterns(r"\d+")).len(), 1);
}

#[test]
fn d33_the_page_of_a_row_is_found_by_the_name_of_view_and_pattern() {
    let mut tables = forum_tables();
    tables.push(table(
        "board_thread",
        "id bigint key, forum_id bigint -> forum_forum, title text",
    ));
    let path = r"^t/(?P<slug>[-a-zA-Z0-9_]+)/(?P<pk>[0-9]+)/$";
    let routes = routes_of(
        tables,
        &own(path, "misago.threads.ThreadView", "misago:thread", &[]),
    );
    assert_eq!(routes.len(), 1, "{routes:?}");
    assert_eq!(routes[0].pattern, r"^/t/(?:[-a-zA-Z0-9_]+)/(?P<thread>[0-9]+)/$");
    assert_eq!(routes[0].page_type.as_deref(), Some("thread"));
}

/// What is written as a comment is a configuration, too, once it is none.
#[test]
fn d33_routes_that_are_comments_have_their_lookup() {
    let patterns = own(
        r"^api/topics/(?P<topic_pk>[0-9]+)/$",
        "x.TopicViewSet",
        "topic-detail",
        &[],
    );
    let below = own(
        r"^api/topics/(?P<topic_pk>[0-9]+)/merge/$",
        "x.TopicViewSet",
        "topic-merge",
        &[],
    );
    let site = site(&format!(r#"{{"patterns": [{patterns}, {below}]}}"#));
    let guess = guessed(forum_tables(), Some(&site));
    let routes: Vec<_> = guess.routes.iter().filter(|route| route.is_proposal).collect();
    assert_eq!(routes.len(), 1, "{routes:?}");
    let mut settings = guess.settings.iter();
    let lookup = settings
        .find(|setting| setting.section == "schema.lookup")
        .expect("a lookup");
    assert!(lookup.is_proposal && lookup.key == "topic", "{lookup:?}");
}

/// Whether a proxy in front of the sidecar strips the path, nothing says.
#[test]
fn d34_below_a_path_routes_match_with_it_and_without_it() {
    let pattern = own(r"^forum/(?P<pk>\d+)/$", "x.forum", "", &[]);
    let settings = r#"{"FORCE_SCRIPT_NAME": "/com.munity", "STATIC_URL": "/com.munity/static/"}"#;
    let site = site(&format!(r#"{{"settings": {settings}, "patterns": [{pattern}]}}"#));
    let guess = guessed(forum_tables(), Some(&site));
    let file = crate::routes::RouteFile {
        path: "a.toml".into(),
        text: crate::init::write::routes(&guess.routes),
    };
    let names = crate::routes::RouteNames::default();
    let table = crate::routes::RouteTable::compile_with(std::slice::from_ref(&file), &names).expect("routes");
    for path in ["/forum/3/", "/com.munity/forum/3/"] {
        let found = table.find(path).expect("a route");
        assert_eq!(
            found.community,
            Some(crate::routes::CommunityRef::Id("3".into())),
            "{path}"
        );
    }
    for path in ["/static/a.css", "/com.munity/static/a.css"] {
        assert_eq!(
            table
                .find(path)
                .map(|found| found.route.name.to_string())
                .as_deref(),
            Some("static"),
            "{path}"
        );
    }
    assert!(table.find("/com-munity/forum/3/").is_none());
    assert!(
        guess
            .open
            .iter()
            .any(|open| open.contains("api.prefix = \"/com.munity/api\"")),
        "{:?}",
        guess.open
    );
    // No question is left where the routes have it.
    assert_eq!(crate::init::mounted(&site, [&*file.text]), None);
    let told = crate::init::mounted(&site, ["pattern = '^/forum/'"]).expect("a question");
    assert!(
        told.contains("strip it?") && told.contains(r"'^(?:/com\.munity)?/'"),
        "{told}"
    );
}

#[test]
fn d35_a_table_of_communities_that_is_not_called_like_one_is_a_candidate_and_can_be_named() {
    let tables = || {
        vec![
            auth_user(),
            table("helpdesk_queue", "id bigint key, title text, slug text unique"),
            table(
                "helpdesk_ticket",
                "id bigint key, title text, queue_id bigint -> helpdesk_queue",
            ),
        ]
    };
    let patterns = own(r"^queues/(?P<queue_id>\d+)/$", "helpdesk.queue", "queue", &[]);
    let models = r#"[{"app": "helpdesk", "model": "queue", "table": "helpdesk_queue", "fields": []}]"#;
    let site = site(&format!(r#"{{"patterns": [{patterns}], "models": {models}}}"#));
    let guess = guessed(tables(), Some(&site));
    assert_eq!(guess.value("schema.community", "table"), Some("\"\""));
    let told = guess
        .open
        .iter()
        .find(|open| open.starts_with("schema.community"));
    assert!(
        told.is_some_and(|told| told.contains("helpdesk_queue") && told.contains("--community")),
        "{:?}",
        guess.open
    );
    let catalogue = Catalogue {
        is_postgres: true,
        owner: None,
        tables: tables(),
    };
    let tables = AppTables::new(catalogue, Some(&site));
    for name in ["helpdesk_queue", "helpdesk.Queue"] {
        let named = tables.called(name).expect("a table");
        let guess = super::super::guess(&tables, Some(&site), Some(named));
        is(&guess, "schema.community", "table", "\"helpdesk_queue\"");
        assert!(
            guess
                .routes
                .iter()
                .any(|route| route.pattern == r"^/queues/(?P<community>\d+)/$"),
            "{guess:?}"
        );
    }
    assert!(tables.called("helpdesk_nothing").is_none());
}
