//! Tests of reasons: each guessed key says why it has its value.

use super::*;

#[test]
fn d16_no_guessed_key_is_without_a_reason() {
    let guess = guessed(
        vec![
            auth_user(),
            table(
                "app.member",
                "member_no uuid key, user_id bigint unique -> auth_user, nickname text, photo text?, seen_at moment, last_seen moment, ghost bool",
            ),
            table(
                "app.sign_in",
                "sign_in_no uuid key, member_id uuid -> app.member, token_hash text(64) unique, created_at moment, revoked_at moment?, expires_on moment, page_count bigint",
            ),
            table(
                "app.activity",
                "activity_no bigint key, member_id uuid -> app.member, event_type text, metadata json, created_at moment, ip inet, agent text",
            ),
            table("app.club", "club_no uuid key, handle text unique, name text"),
        ],
        Some(&site(
            r#"{"cookies": {"CLUBS_SESSION_COOKIE": "club"}, "settings": {"MEDIA_URL": "/files/"},
                "tokens": {"ALGORITHM": "HS256", "USER_ID_CLAIM": "sub", "ISSUER": "me", "AUDIENCE": "you"}}"#,
        )),
    );
    assert!(guess.settings.len() > 25, "{:#?}", guess.settings);
    let without: Vec<_> = guess
        .settings
        .iter()
        .filter(|setting| setting.reason.is_empty())
        .collect();
    assert!(without.is_empty(), "{without:#?}");
    let reason = |section: &str, key: &str| {
        let mut settings = guess.settings.iter();
        let found = settings.find(|setting| setting.section == section && setting.key == key);
        found.map(|setting| setting.reason.clone()).unwrap_or_default()
    };
    for (section, key, word) in [
        ("schema.session.columns", "id", "primary key"),
        ("schema.session.columns", "user_id", "app.member"),
        ("schema.session.columns", "expires_at", "by its name and type"),
        ("schema.community.columns", "slug", "unique"),
        ("session.jwt", "user_claim", "USER_ID_CLAIM"),
    ] {
        assert!(
            reason(section, key).contains(word),
            "{section}.{key}: {}",
            reason(section, key)
        );
    }
}
