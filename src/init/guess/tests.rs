//! Tests of guesses from descriptions of sites.

use super::super::catalogue::AppTables;
use super::super::django::DjangoSite;
use super::*;
use crate::store::catalogue::{Catalogue, CatalogueColumn, CatalogueReference, CatalogueTable};
use crate::store::schema::Kind;

mod hidden;
mod nested;
mod own_page;
mod reasons;
mod routes;
mod strangers;

/// A table from lines such as `id bigint key`, `user_id bigint -> auth_user`, `slug text unique`, `seen timestamp?`.
fn table(name: &str, columns: &str) -> CatalogueTable {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    CatalogueTable {
        schema: schema.into(),
        name: name.into(),
        is_visible: schema == "public",
        columns: columns.split(',').map(|line| column(line.trim())).collect(),
    }
}

fn column(line: &str) -> CatalogueColumn {
    let words: Vec<_> = line.split_whitespace().collect();
    let type_name = words[1].trim_end_matches('?');
    let refers = words
        .iter()
        .position(|word| *word == "->")
        .map(|place| words[place + 1]);
    let (base, length) = match type_name.split_once('(') {
        Some((base, length)) => (base, length.trim_end_matches(')').parse().ok()),
        None => (type_name, None),
    };
    CatalogueColumn {
        name: words[0].into(),
        kind: match base {
            "bigint" => Kind::BigInt,
            "uuid" => Kind::Uuid,
            "text" => Kind::Text,
            "bool" => Kind::Bool,
            "moment" => Kind::TimestampTz,
            "local" => Kind::Timestamp,
            "json" => Kind::Jsonb,
            "inet" => Kind::Inet,
            other => panic!("{other}"),
        },
        type_name: type_name.into(),
        is_nullable: words[1].ends_with('?'),
        is_key: words.contains(&"key"),
        is_unique: words.contains(&"key") || words.contains(&"unique"),
        has_default: words.contains(&"key"),
        max_length: length,
        references: refers.map(|to| {
            let (schema, table) = to.split_once('.').unwrap_or(("public", to));
            CatalogueReference {
                schema: schema.into(),
                table: table.into(),
                column: "id".into(),
            }
        }),
    }
}

fn guessed(tables: Vec<CatalogueTable>, site: Option<&DjangoSite>) -> Guess {
    let catalogue = Catalogue {
        is_postgres: true,
        owner: None,
        tables,
    };
    guess(&AppTables::new(catalogue, site), site, None)
}

fn site(json: &str) -> DjangoSite {
    serde_json::from_str(json).expect("a site")
}

fn auth_user() -> CatalogueTable {
    table(
        "auth_user",
        "id bigint key, username text unique, password text, last_login moment?",
    )
}

fn django_session() -> CatalogueTable {
    table(
        "django_session",
        "session_key text(40) key, session_data text, expire_date moment",
    )
}

#[track_caller]
fn is(guess: &Guess, section: &str, key: &str, value: &str) {
    assert_eq!(
        guess.value(section, key),
        Some(value),
        "{section}.{key}: {:#?}",
        guess.settings
    );
}

/// What is left to the operator names this.
#[track_caller]
fn leaves_open(guess: &Guess, name: &str) {
    assert!(
        guess.open.iter().any(|open| open.contains(name)),
        "{:?}",
        guess.open
    );
}

#[test]
fn names_as_they_are_by_default_are_not_written() {
    let guess = guessed(
        vec![
            table(
                "accounts_userprofile",
                "id bigint key, user_id bigint unique -> auth_user, username text, profile_picture text?, last_active moment",
            ),
            table(
                "accounts_usersession",
                "id uuid key, user_id bigint -> accounts_userprofile, session_id text(64) unique, pages_visited bigint, started_at moment, ended_at moment?, expires_at moment, is_active bool, is_ended bool",
            ),
            table(
                "accounts_userevent",
                "id bigint key, user_id bigint -> accounts_userprofile, event_type text, description text, metadata json, ip_address inet, user_agent text, device_info json, location_data json, timestamp moment",
            ),
            table(
                "communities_community",
                "id bigint key, slug text unique, name text",
            ),
            auth_user(),
        ],
        None,
    );
    is(&guess, "schema.session", "table", "\"accounts_usersession\"");
    is(&guess, "schema.profile", "table", "\"accounts_userprofile\"");
    is(&guess, "schema.event", "table", "\"accounts_userevent\"");
    is(&guess, "schema.community", "table", "\"communities_community\"");
    let columns: Vec<_> = guess
        .settings
        .iter()
        .filter(|setting| setting.section.ends_with("columns"))
        .collect();
    assert!(columns.is_empty(), "{columns:?}");
    assert_eq!(guess.value("record", "events"), None);
    // The name of the cookie is in no table.
    leaves_open(&guess, "session.cookie");
}

#[test]
fn djangos_own_sessions_are_known() {
    let guess = guessed(
        vec![
            auth_user(),
            django_session(),
            table("forum_forum", "id bigint key, slug text, name text"),
        ],
        None,
    );
    is(&guess, "session", "kind", "\"django\"");
    is(&guess, "session", "cookie", "\"sessionid\"");
    is(&guess, "schema.profile", "table", "\"auth_user\"");
    is(&guess, "record", "events", "\"own\"");
    is(&guess, "record", "last_active", "false");
}

#[test]
fn sessions_of_a_package_in_which_the_token_is_the_key() {
    let guess = guessed(
        vec![
            auth_user(),
            table(
                "user_sessions_session",
                "session_key text(40) key, session_data text, expire_date moment, user_id bigint? -> auth_user, user_agent text?, last_activity moment, ip inet?",
            ),
            table("spirit_category_category", "id bigint key, title text, slug text"),
            table(
                "spirit_user_userprofile",
                "id bigint key, user_id bigint unique -> auth_user, avatar text, last_seen moment",
            ),
            table("auth_group", "id bigint key, name text"),
        ],
        None,
    );
    is(&guess, "schema.session", "table", "\"user_sessions_session\"");
    is(&guess, "schema.session.columns", "id", "\"\"");
    is(&guess, "schema.session.columns", "session_id", "\"session_key\"");
    is(&guess, "schema.session.columns", "expires_at", "\"expire_date\"");
    is(&guess, "schema.session.columns", "is_ended", "\"\"");
    is(
        &guess,
        "schema.community",
        "table",
        "\"spirit_category_category\"",
    );
    is(
        &guess,
        "schema.profile.columns",
        "avatar",
        "{ table = \"spirit_user_userprofile\", key = \"user_id\", of = \"id\", column = \"avatar\" }",
    );
}

#[test]
fn another_schema_hashed_tokens_and_names_of_the_account() {
    let guess = guessed(
        vec![
            auth_user(),
            table(
                "app.member",
                "id uuid key, user_id bigint unique -> auth_user, photo text?, last_seen moment, is_hidden bool",
            ),
            table(
                "app.sign_in",
                "id uuid key, member_id uuid -> app.member, token_hash text(64) unique, created_at moment, revoked_at moment?, expires_at moment",
            ),
            table("app.club", "id uuid key, slug text unique, name text"),
        ],
        Some(&site(
            r#"{"cookies": {"CLUBS_SESSION_COOKIE": "club"}, "tokens": {"ALGORITHM": "HS256"}, "settings": {"MEDIA_URL": "/files/"}}"#,
        )),
    );
    is(&guess, "schema.session", "table", "\"app.sign_in\"");
    is(&guess, "session", "token_hash", "\"sha256\"");
    is(&guess, "session", "cookie", "\"club\"");
    is(&guess, "schema.session.columns", "ended_at", "\"revoked_at\"");
    is(&guess, "schema.session.columns", "user_id", "\"member_id\"");
    is(&guess, "schema.profile", "table", "\"app.member\"");
    is(
        &guess,
        "schema.profile.columns",
        "username",
        "{ table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"username\" }",
    );
    // Tokens name the account, sessions the member.
    assert_eq!(guess.value("schema.profile.columns", "account"), None);
    is(&guess, "schema.profile.columns", "jwt_account", "\"user_id\"");
    is(&guess, "schema.profile.columns", "is_hidden", "\"is_hidden\"");
    is(&guess, "api", "avatar_base", "\"/files/\"");
    is(&guess, "schema.community", "table", "\"app.club\"");
    let proposed = guess
        .settings
        .iter()
        .any(|setting| setting.section == "session.jwt" && setting.is_proposal);
    assert!(proposed);
}

#[test]
fn tokens_of_other_kinds_are_no_sessions() {
    let guess = guessed(
        vec![
            auth_user(),
            table(
                "authtoken_token",
                "key text(40) key, user_id bigint unique -> auth_user, created moment",
            ),
            table(
                "token_blacklist_outstandingtoken",
                "id bigint key, token text, user_id bigint? -> auth_user, created_at moment?, expires_at moment",
            ),
        ],
        None,
    );
    assert_eq!(guess.value("schema.session", "table"), None);
    leaves_open(&guess, "[schema.session]");
}

#[test]
fn sessions_that_are_in_no_table_are_named() {
    let settings = r#"{"settings": {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
                       "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"]}}"#;
    let guess = guessed(vec![auth_user(), django_session()], Some(&site(settings)));
    leaves_open(&guess, "signed_cookies");
}

#[test]
fn a_calendar_is_no_table_of_page_views() {
    let tables = vec![
        table("people", "id bigint key, username text"),
        table(
            "sessions",
            "id bigint key, user_id bigint -> people, token text unique, expires_at moment",
        ),
        table(
            "calendar_event",
            "id bigint key, organizer_id bigint -> people, event_type text, metadata json, timestamp moment",
        ),
    ];
    is(&guessed(tables, None), "record", "events", "\"own\"");
}

#[test]
fn a_constant_is_taken_from_the_model() {
    let event = "id bigint key, user_id bigint -> people, event_type text, metadata json, timestamp moment, ip_address inet, user_agent text, tenant text";
    let tables = || {
        vec![
            table("people", "id bigint key, username text"),
            table(
                "sessions",
                "id bigint key, user_id bigint -> people, token text unique, expires_at moment",
            ),
            table("stats_event", event),
        ]
    };
    is(&guessed(tables(), None), "record", "events", "\"own\"");
    let site = site(
        r#"{"models": [{"model": "event", "table": "stats_event", "fields": [{"column": "tenant", "default": "main"}]}]}"#,
    );
    let guess = guessed(tables(), Some(&site));
    is(&guess, "schema.event", "table", "\"stats_event\"");
    is(&guess, "schema.event.constants", "tenant", "\"main\"");
}
