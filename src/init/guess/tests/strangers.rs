//! Tests of sites of other shapes than those in `tests/sites`.

use super::*;

/// `AUTH_USER_MODEL` with an address in place of a name, in an app whose label has an underscore; groups called spaces.
#[test]
fn d17_accounts_that_are_called_by_their_address_show_no_address() {
    let account = || {
        table(
            "my_accounts_user",
            "id bigint key, email text unique, password text, is_staff bool, organization_id bigint? -> org_organization",
        )
    };
    let tables = || {
        vec![
            account(),
            django_session(),
            table(
                "my_accounts_user_groups",
                "id bigint key, user_id bigint -> my_accounts_user, group_id bigint -> auth_group",
            ),
            table("auth_group", "id bigint key, name text unique"),
            table(
                "billing_customer",
                "id bigint key, user_id bigint unique -> my_accounts_user, name text, image text",
            ),
            table("shop_user", "id bigint key, username text, password text"),
            table("org_organization", "id bigint key, name text, slug text unique"),
            table("team_spaces_space", "id bigint key, slug text unique, title text"),
            table(
                "team_spaces_note",
                "id bigint key, space_id bigint -> team_spaces_space, body text",
            ),
        ]
    };
    let site = site(
        r#"{"settings": {"AUTH_USER_MODEL": "my_accounts.User", "SESSION_ENGINE": "django.contrib.sessions.backends.db",
            "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"], "SESSION_COOKIE_NAME": "sid"},
            "models": [{"app": "shop", "model": "user", "table": "shop_user", "fields": []},
                       {"app": "my_accounts", "model": "user", "table": "my_accounts_user", "fields": []}]}"#,
    );
    for guess in [guessed(tables(), Some(&site)), guessed(tables(), None)] {
        is(&guess, "schema.profile", "table", "\"my_accounts_user\"");
        is(&guess, "schema.profile.columns", "username", "\"\"");
        is(&guess, "schema.profile.columns", "avatar", "\"\"");
        is(&guess, "schema.community", "table", "\"team_spaces_space\"");
    }
}

/// The same tables for each tenant, in a schema of its own.
#[test]
fn d17_of_several_tenants_one_is_taken_and_the_others_are_told() {
    let tables = ["acme", "public", "zoo"].map(|schema| {
        let to = format!("{schema}.auth_user");
        [
            table(&to, "id bigint key, username text unique, password text"),
            table(
                &format!("{schema}.django_session"),
                "session_key text(40) key, session_data text, expire_date moment",
            ),
            table(
                &format!("{schema}.rooms_room"),
                "id bigint key, slug text unique, name text",
            ),
        ]
    });
    let guess = guessed(tables.concat(), None);
    is(&guess, "session", "kind", "\"django\"");
    is(&guess, "schema.profile", "table", "\"auth_user\"");
    is(&guess, "schema.community", "table", "\"rooms_room\"");
    assert_eq!(guess.value("schema.django_session", "table"), None);
    let told = guess
        .open
        .iter()
        .find(|open| open.contains("acme") && open.contains("zoo"));
    assert!(
        told.is_some_and(|told| told.contains("one sidecar per tenant")),
        "{:?}",
        guess.open
    );
}

/// Models of two words, and keys in paths that are called by the last of them.
#[test]
fn d17_a_group_by_a_longer_name_is_one() {
    let tables = vec![
        auth_user(),
        django_session(),
        table(
            "study_groups_studygroup",
            "id bigint key, slug text unique, name text",
        ),
        table(
            "study_groups_studygroup_members",
            "id bigint key, studygroup_id bigint -> study_groups_studygroup, user_id bigint -> auth_user",
        ),
        table(
            "study_groups_meeting",
            "id bigint key, group_id bigint -> study_groups_studygroup, title text",
        ),
        table("blog_category", "id bigint key, slug text unique, name text"),
    ];
    let site = site(
        r#"{"models": [{"app": "study_groups", "model": "studygroup", "table": "study_groups_studygroup", "fields": []}],
            "patterns": [{"parts": ["^groups/(?P<group_slug>[-a-z]+)/\\Z"], "name": "group", "view": "study_groups.views.show"}]}"#,
    );
    let guess = guessed(tables, Some(&site));
    is(&guess, "schema.community", "table", "\"study_groups_studygroup\"");
    let route = guess
        .routes
        .iter()
        .find(|route| !route.is_excluded)
        .expect("a route");
    assert_eq!(route.pattern, "^/groups/(?P<community_slug>[-a-z]+)/$");
}

/// An app whose label begins like that of a package.
#[test]
fn d17_an_apps_label_may_begin_like_a_packages() {
    for name in ["account_spaces_space", "django_forums_forum", "auth_ext_group"] {
        let tables = vec![
            auth_user(),
            django_session(),
            table(name, "id bigint key, slug text unique, name text"),
        ];
        is(
            &guessed(tables, None),
            "schema.community",
            "table",
            &format!("\"{name}\""),
        );
    }
}

/// What somebody is called is told by the column, wherever it is.
#[test]
fn d17_a_nickname_may_be_among_the_settings() {
    let tables = vec![
        auth_user(),
        django_session(),
        table(
            "site_member",
            "id bigint key, account_id bigint unique -> auth_user",
        ),
        table(
            "site_session",
            "id bigint key, member_id bigint -> site_member, token text unique, expires_at moment",
        ),
        table(
            "site_preferences",
            "member_id bigint key -> site_member, nickname text, avatar text, name text",
        ),
    ];
    let guess = guessed(tables, None);
    is(&guess, "schema.profile", "table", "\"site_member\"");
    is(
        &guess,
        "schema.profile.columns",
        "avatar",
        "{ table = \"site_preferences\", key = \"member_id\", of = \"id\", column = \"avatar\" }",
    );
}
