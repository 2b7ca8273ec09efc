//! Whom a session belongs to: the table of profiles or of accounts, and where its names are.

use super::super::catalogue::{Table, Tables, is_flag, is_moment, is_text};
use super::super::django::Site;
use super::Guess;
use super::sessions::Session;
use crate::store::catalogue::CatalogueColumn;
use crate::store::schema::Kind;

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
const HIDDEN: &[&str] = &[
    "is_hidden",
    "hidden",
    "is_invisible",
    "invisible",
    "hide_presence",
    "hide_online_status",
];

/// The table of users, and where else their names are.
pub(super) struct People<'t> {
    pub table: &'t Table,
    username: Option<Place<'t>>,
    avatar: Option<Place<'t>>,
    /// Whether the account is in use.
    is_active: Option<Place<'t>>,
    /// The column with the account's id, where the table is not that of accounts.
    account: Option<&'t CatalogueColumn>,
}

/// A column of the table, or of another.
enum Place<'t> {
    Here(&'t str),
    /// Where `key` of the other table equals `of` of this one.
    There {
        table: &'t Table,
        key: &'t str,
        of: &'t str,
        column: &'t str,
    },
}

impl Place<'_> {
    fn toml(&self) -> String {
        match self {
            Self::Here(column) => super::text(column),
            Self::There {
                table,
                key,
                of,
                column,
            } => format!(
                "{{ table = {}, key = {}, of = {}, column = {} }}",
                super::text(&table.configured()),
                super::text(key),
                super::text(of),
                super::text(column)
            ),
        }
    }
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
    Some(People {
        table,
        username: place(tables, table, NAME, is_text),
        avatar: place(tables, table, AVATAR, is_text),
        is_active: place(tables, table, &["is_active"], is_flag),
        account,
    })
}

/// The table of accounts: `AUTH_USER_MODEL`, or Django's own.
fn accounts<'t>(tables: &'t Tables, site: Option<&Site>) -> Option<&'t Table> {
    let by_setting = site.and_then(|site| {
        let model = site
            .settings
            .auth_user_model
            .rsplit('.')
            .next()?
            .to_ascii_lowercase();
        let mut named = site.models.iter().filter(|known| known.name == model);
        named.find_map(|known| tables.by_name(&known.table))
    });
    let own = || tables.by_name("auth_user");
    let custom = || {
        let mut users = tables.0.iter().filter(|table| table.is_of("user"));
        users.find(|table| table.named(&["password"], is_text).is_some())
    };
    by_setting.or_else(own).or_else(custom)
}

/// A column by one of these names: in the table, in the one that it refers to, or in one that refers to it alone.
fn place<'t>(
    tables: &'t Tables,
    table: &'t Table,
    names: &[&str],
    fits: fn(Kind) -> bool,
) -> Option<Place<'t>> {
    if let Some(column) = table.named(names, fits) {
        return Some(Place::Here(&column.name));
    }
    // The one that it belongs to: a key that is unique, and then any other.
    let mut outward: Vec<_> = table
        .columns
        .iter()
        .filter(|column| column.references.is_some())
        .collect();
    outward.sort_by_key(|column| !column.is_unique);
    for of in outward {
        if let (Some(other), Some(to)) = (tables.target(of), &of.references)
            && !std::ptr::eq(other, table)
            && let Some(column) = other.named(names, fits)
            && (of.is_unique || other.is_of("user"))
        {
            return Some(Place::There {
                table: other,
                key: &to.column,
                of: &of.name,
                column: &column.name,
            });
        }
    }
    let of = table.key()?;
    tables.that_refer_to(table).find_map(|(other, key)| {
        let column = other.named(names, fits).filter(|_| key.is_unique)?;
        Some(Place::There {
            table: other,
            key: &key.name,
            of: &of.name,
            column: &column.name,
        })
    })
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
    guess.set_column(SECTION, "id", table.key().map(|key| &*key.name), "id");
    for (key, default, place) in [
        ("username", "username", &people.username),
        ("avatar", "profile_picture", &people.avatar),
    ] {
        match place {
            Some(Place::Here(column)) if *column == default => {}
            Some(place @ Place::There { table, .. }) => {
                guess.set(
                    SECTION,
                    key,
                    place.toml(),
                    format!("it is in {}", table.configured()),
                );
            }
            Some(place) => guess.set(SECTION, key, place.toml(), ""),
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
        Some(column) => guess.set_column(SECTION, "last_active", Some(&column.name), "last_active"),
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
    if let Some(hidden) = table.named(HIDDEN, is_flag) {
        guess.set_text(SECTION, "is_hidden", &hidden.name, "who hides is in no list");
    }
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
        jwt(guess, tokens);
    }
}

/// Proposed only: the key is a secret, which is not copied out of the site.
fn jwt(guess: &mut Guess, tokens: &super::super::django::Tokens) {
    let algorithm = tokens.algorithm.as_deref().unwrap_or("HS256");
    guess.propose(
        "session.jwt",
        "algorithms",
        format!("[{}]", super::text(algorithm)),
        "SIMPLE_JWT is set: take the mark away, and write its SIGNING_KEY (by default SECRET_KEY) to a file that only the \
         sidecar can read",
    );
    guess.propose("session.jwt", "key_file", "\"jwt.key\"", "");
    for (key, value) in [
        ("user_claim", tokens.user_id_claim.as_deref().map(super::text)),
        ("issuer", tokens.issuer.as_deref().map(super::text)),
        (
            "audience",
            tokens
                .audience
                .as_deref()
                .map(|name| format!("[{}]", super::text(name))),
        ),
    ] {
        if let Some(value) = value {
            guess.propose("session.jwt", key, value, "");
        }
    }
}
