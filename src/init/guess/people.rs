//! Whom a session belongs to: the table of profiles or of accounts, and where its names are. `place` looks beside that
//! table, `hidden` for those who are shown to nobody, `tokens` for what signed tokens name.

mod hidden;
mod place;
mod tokens;

use super::super::catalogue::{Table, Tables, is_flag, is_moment, is_text};
use super::super::django::{Model, Site};
use super::Guess;
use super::sessions::Session;
use crate::store::catalogue::CatalogueColumn;
use place::{Beside, Place};

const NAME: &[&str] = &[
    "username",
    "display_name",
    "nickname",
    "screen_name",
    "handle",
    "name",
    "login",
    "full_name",
];
const AVATAR: &[&str] = &[
    "profile_picture",
    "avatar",
    "picture",
    "photo",
    "image",
    "profile_image",
    "profile_pic",
    "avatar_url",
    "portrait",
];
const ACTIVE: &[&str] = &[
    "last_active",
    "last_seen",
    "last_active_at",
    "last_seen_at",
    "last_activity",
    "last_visit",
];

/// The table of users, and where else their names are.
pub(super) struct People<'t> {
    pub table: &'t Table,
    beside: Vec<Beside<'t>>,
    username: Option<Place<'t>>,
    avatar: Option<Place<'t>>,
    /// Whether the account is in use.
    is_active: Option<Place<'t>>,
    /// The column with the account's id, where the table is not that of accounts.
    account: Option<&'t CatalogueColumn>,
}

/// What the session's column refers to; without one, the site's table of accounts.
pub(super) fn find<'t>(
    tables: &'t Tables,
    user: Option<&CatalogueColumn>,
    site: Option<&Site>,
) -> Option<People<'t>> {
    let accounts = accounts(tables, site);
    let table = user.and_then(|user| tables.target(user)).or(accounts)?;
    let account = accounts
        .filter(|accounts| !std::ptr::eq(*accounts, table))
        .and_then(|accounts| {
            let to_accounts = |column: &&CatalogueColumn| {
                tables
                    .target(column)
                    .is_some_and(|target| std::ptr::eq(target, accounts))
            };
            table.columns.iter().find(to_accounts)
        });
    let beside = place::beside(tables, table);
    Some(People {
        table,
        username: place::named(table, &beside, NAME, is_text),
        avatar: place::named(table, &beside, AVATAR, is_text),
        is_active: place::named(table, &beside, &["is_active"], is_flag),
        beside,
        account,
    })
}

/// The table of accounts: `AUTH_USER_MODEL`, or Django's own.
fn accounts<'t>(tables: &'t Tables, site: Option<&Site>) -> Option<&'t Table> {
    let by_setting = site.and_then(|site| {
        let model = site.settings.auth_user_model.to_ascii_lowercase();
        let (app, model) = model.split_once('.').unwrap_or(("", &model));
        let is_it =
            |known: &&Model| known.name == model && [app, ""].contains(&&*known.app.to_ascii_lowercase());
        let mut named = site.models.iter().filter(is_it);
        named.find_map(|known| tables.by_name(&known.table))
    });
    let own = || tables.by_name("auth_user");
    let custom = || {
        let mut users = tables.0.iter().filter(|table| table.is_of("user"));
        users.find(|table| table.named(&["password"], is_text).is_some())
    };
    by_setting.or_else(own).or_else(custom)
}

/// Writes it down.
pub(super) fn say(
    guess: &mut Guess,
    people: Option<&People<'_>>,
    session: &Session<'_>,
    site: Option<&Site>,
) {
    const SECTION: &str = "schema.profile.columns";
    let Some(people) = people else {
        guess.set_text(
            "schema.profile",
            "table",
            "",
            "no table of users was found: visitors have no names",
        );
        guess.set("record", "last_active", "false", "there is no table of users");
        return;
    };
    let table = people.table;
    let why = if session.is_django() {
        "the table of accounts: Django's sessions name the account"
    } else {
        "what the sessions' user refers to"
    };
    guess.set_text("schema.profile", "table", &table.configured(), why);
    guess.set_column(SECTION, "id", table.key(), "id");
    for (key, default, place) in [
        ("username", "username", &people.username),
        ("avatar", "profile_picture", &people.avatar),
    ] {
        match place {
            Some(place) if place.is_default(default) => {}
            Some(place) => {
                let reason = format!("by its name, {}", place.name());
                guess.set(SECTION, key, place.toml(), reason);
            }
            None if key == "avatar" => guess.set_text(SECTION, key, "", "no column of pictures was found"),
            None => {
                guess.set_text(SECTION, key, "", "no column of names was found");
                guess.open.push(
                    "schema.profile.columns.username: the column with the name that others may see".into(),
                );
            }
        }
    }
    match table.named(ACTIVE, is_moment) {
        Some(column) => guess.set_column(SECTION, "last_active", Some(column), "last_active"),
        None => guess.set(
            "record",
            "last_active",
            "false",
            "the table of users has no such column",
        ),
    }
    if let Some(place) = &people.is_active {
        let why = "sessions of accounts that the site disables are then nobody's";
        guess.propose(SECTION, "is_active", place.toml(), why);
    }
    hidden::say(guess, table, &people.beside);
    if let Some(account) = people
        .account
        .filter(|_| site.is_some_and(|site| site.tokens.is_some()))
    {
        guess.set_text(
            SECTION,
            "jwt_account",
            &account.name,
            "tokens of simplejwt name the account, and sessions name a row of this table",
        );
    }
    if let (Some(_), Some(media)) = (
        &people.avatar,
        site.and_then(|site| site.settings.media_url.as_deref()),
    ) && media != "/media/"
    {
        guess.set_text("api", "avatar_base", media, "MEDIA_URL");
    }
    if let Some(tokens) = site.and_then(|site| site.tokens.as_ref()) {
        tokens::say(guess, tokens);
    }
}
