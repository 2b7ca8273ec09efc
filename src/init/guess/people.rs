//! Finds the table of users (profiles or accounts), and the columns of its names and flags. `user_column` looks in joined
//! tables too, `hidden` for the flag that hides a member; `simple_jwt` adds the settings of JWTs.

mod hidden;
mod simple_jwt;
mod user_column;

use super::super::catalogue::{AppTable, AppTables, is_flag, is_moment, is_text};
use super::super::django::{DjangoSite, Model};
use super::Guess;
use super::sessions::SessionStorage;
use crate::store::catalogue::CatalogueColumn;
use user_column::{JoinedTable, UserColumn};

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

/// The table of users, and the columns with their data.
pub(super) struct People<'t> {
    pub table: &'t AppTable,
    joined: Vec<JoinedTable<'t>>,
    username: Option<UserColumn<'t>>,
    avatar: Option<UserColumn<'t>>,
    /// The flag of an account that is not disabled.
    is_active: Option<UserColumn<'t>>,
    /// The column with the account's id, where the table is not that of accounts.
    account: Option<&'t CatalogueColumn>,
}

/// The table that the session's column refers to, else the site's table of accounts.
pub(super) fn find<'t>(
    tables: &'t AppTables,
    user: Option<&CatalogueColumn>,
    site: Option<&DjangoSite>,
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
    let joined = user_column::joined_tables(tables, table);
    Some(People {
        table,
        username: user_column::named(table, &joined, NAME, is_text),
        avatar: user_column::named(table, &joined, AVATAR, is_text),
        is_active: user_column::named(table, &joined, &["is_active"], is_flag),
        joined,
        account,
    })
}

/// The table of accounts: `AUTH_USER_MODEL`, or Django's own.
fn accounts<'t>(tables: &'t AppTables, site: Option<&DjangoSite>) -> Option<&'t AppTable> {
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

/// Whether the flag is that of Django's accounts: it stands beside their password and last sign-in.
fn is_djangos(source: &UserColumn<'_>, table: &AppTable) -> bool {
    let table = match source {
        UserColumn::Own(_) => table,
        UserColumn::Joined(joined, _) => joined.table,
    };
    table.named(&["password"], is_text).is_some() && table.named(&["last_login"], is_moment).is_some()
}

/// The settings of the profile's columns.
const SECTION: &str = "schema.profile.columns";

/// Adds its settings.
pub(super) fn add_settings(
    guess: &mut Guess,
    people: Option<&People<'_>>,
    session: &SessionStorage<'_>,
    site: Option<&DjangoSite>,
) {
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
        "the sessions' user column refers to it"
    };
    guess.set_text("schema.profile", "table", &table.configured(), why);
    guess.set_column(SECTION, "id", table.key(), "id");
    add_names(guess, people);
    match table.named(ACTIVE, is_moment) {
        Some(column) => guess.set_column(SECTION, "last_active", Some(column), "last_active"),
        None => guess.set(
            "record",
            "last_active",
            "false",
            "the table of users has no such column",
        ),
    }
    add_is_active(guess, people);
    hidden::add_settings(guess, table, &people.joined);
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
        simple_jwt::add_settings(guess, tokens);
    }
}

/// Adds the columns of name and picture.
fn add_names(guess: &mut Guess, people: &People<'_>) {
    for (key, default, source) in [
        ("username", "username", &people.username),
        ("avatar", "profile_picture", &people.avatar),
    ] {
        match source {
            Some(source) if source.is_default(default) => {}
            Some(source) => {
                let reason = format!("by its name, {}", source.name());
                guess.set(SECTION, key, source.toml(), reason);
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
}

/// Adds the flag of accounts that the site has disabled.
fn add_is_active(guess: &mut Guess, people: &People<'_>) {
    if let Some(source) = &people.is_active {
        let why = "sessions of accounts that the site has disabled do not count";
        if is_djangos(source, people.table) {
            guess.set(
                SECTION,
                "is_active",
                source.toml(),
                format!("Django's own: {why}"),
            );
        } else {
            guess.propose(SECTION, "is_active", source.toml(), format!("with it, {why}"));
        }
    }
}
