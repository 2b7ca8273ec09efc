//! Tests of flags of members who are shown to nobody, wherever a site keeps them.

use super::*;

const COLUMNS: &str = "schema.profile.columns";

/// Django's sessions name the account.
fn by_account(more: Vec<CatalogueTable>) -> Guess {
    guessed([vec![auth_user(), django_session()], more].concat(), None)
}

fn profile(flag: &str) -> CatalogueTable {
    let columns = format!("id bigint key, user_id bigint unique -> auth_user, bio text, {flag} bool");
    table("accounts_profile", &columns)
}

fn joined(table: &str, of: &str, column: &str) -> String {
    format!(r#"{{ table = "{table}", key = "user_id", of = "{of}", column = "{column}" }}"#)
}

#[test]
fn d13_a_flag_of_the_profile_is_found_where_sessions_name_the_account() {
    for flag in [
        "is_hidden",
        "hidden",
        "hide_online",
        "invisible",
        "ghost_mode",
        "appear_offline",
        "hide_last_seen",
    ] {
        let guess = by_account(vec![profile(flag)]);
        is(
            &guess,
            COLUMNS,
            "is_hidden",
            &joined("accounts_profile", "id", flag),
        );
        assert_eq!(guess.value(COLUMNS, "is_shown"), None);
    }
}

#[test]
fn d13_a_flag_that_says_the_opposite_is_found() {
    for flag in [
        "show_online",
        "is_visible",
        "show_online_status",
        "share_presence",
        "visible_online",
    ] {
        let guess = by_account(vec![profile(flag)]);
        is(
            &guess,
            COLUMNS,
            "is_shown",
            &joined("accounts_profile", "id", flag),
        );
        let setting = guess.settings.iter().find(|setting| setting.key == "is_shown");
        let reason = &setting.expect("it is set").reason;
        assert!(
            reason.ends_with("members for whom it is false are in no list"),
            "{reason}"
        );
        assert_eq!(guess.value(COLUMNS, "is_hidden"), None);
    }
}

#[test]
fn d13_a_flag_beside_the_profile_is_found_by_the_account_that_both_refer_to() {
    let guess = guessed(
        vec![
            auth_user(),
            table(
                "app_member",
                "id uuid key, user_id bigint unique -> auth_user, photo text",
            ),
            table(
                "app_session",
                "id uuid key, member_id uuid -> app_member, token text unique, expires_at moment",
            ),
            table(
                "app_privacy",
                "id bigint key, user_id bigint unique -> auth_user, hide_online_status bool",
            ),
        ],
        None,
    );
    is(&guess, "schema.profile", "table", "\"app_member\"");
    is(
        &guess,
        COLUMNS,
        "is_hidden",
        &joined("app_privacy", "user_id", "hide_online_status"),
    );
}

#[test]
fn d13_flags_of_other_things_hide_nobody() {
    for flag in [
        "hide_email",
        "show_email",
        "is_active",
        "show_avatars",
        "hidden_topics_seen",
        "hide_ads",
        "show_signatures",
    ] {
        let guess = by_account(vec![profile(flag)]);
        assert_eq!(guess.value(COLUMNS, "is_hidden"), None, "{flag}");
        assert_eq!(guess.value(COLUMNS, "is_shown"), None, "{flag}");
    }
    // Of many rows none speaks for the user.
    let posts = table(
        "blog_post",
        "id bigint key, user_id bigint -> auth_user, is_hidden bool",
    );
    assert_eq!(by_account(vec![posts]).value(COLUMNS, "is_hidden"), None);
}

#[test]
fn d13_what_no_flag_can_say_is_left_to_decide() {
    let choice = table(
        "accounts_profile",
        "id bigint key, user_id bigint unique -> auth_user, online_visibility text",
    );
    let more = by_account(vec![
        profile("hidden"),
        table("app_privacy", "user_id bigint key -> auth_user, ghost bool"),
    ]);
    for (guess, word) in [
        (by_account(vec![choice]), "online_visibility"),
        (more, "app_privacy.ghost"),
    ] {
        leaves_open(&guess, word);
    }
}
