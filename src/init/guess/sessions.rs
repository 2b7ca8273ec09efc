//! Finds where the app keeps its sessions.

use super::super::catalogue::{AppTable, AppTables, is_count, is_flag, is_key, is_moment, is_text};
use super::super::django::DjangoSite;
use super::Guess;
use crate::store::catalogue::CatalogueColumn;

const TOKEN: &[&str] = &[
    "session_id",
    "session_key",
    "session_token",
    "session_hash",
    "session_digest",
    "token",
    "token_hash",
    "token_digest",
    "key_hash",
    "hashed_token",
    "sid",
    "cookie",
    "key",
];
const USER: &[&str] = &[
    "user_id",
    "profile_id",
    "member_id",
    "account_id",
    "person_id",
    "owner_id",
    "customer_id",
    "author_id",
];
const STARTED: &[&str] = &[
    "started_at",
    "created_at",
    "started",
    "created",
    "created_on",
    "start",
    "begun_at",
    "login_at",
    "signed_in_at",
    "issued_at",
];
const ENDED: &[&str] = &[
    "ended_at",
    "revoked_at",
    "closed_at",
    "logged_out_at",
    "signed_out_at",
    "terminated_at",
    "ended",
    "end",
    "deleted_at",
];
const EXPIRES: &[&str] = &[
    "expires_at",
    "expire_date",
    "expires",
    "expires_on",
    "expiry",
    "expiry_date",
    "expiration",
    "valid_until",
];
const ACTIVE: &[&str] = &["is_active", "active", "is_valid", "valid"];
const OVER: &[&str] = &[
    "is_ended",
    "is_revoked",
    "is_closed",
    "ended",
    "revoked",
    "closed",
    "terminated",
];
const PAGES: &[&str] = &[
    "pages_visited",
    "page_count",
    "pages",
    "page_views",
    "pageviews",
    "views",
];

/// Parts of names of tables with tokens that are no browser session's.
const OTHERS: &[&str] = &[
    "authtoken",
    "blacklist",
    "oauth",
    "otp",
    "reset",
    "invit",
    "emailconfirm",
    "verification",
    "socialaccount",
    "django_",
    "migration",
];

/// Lowest score of a session table.
const LIKELY: u32 = 60;

/// Where the sessions are.
pub(super) enum SessionStorage<'t> {
    /// A table with a column for the user.
    Table(GuessedSessionTable<'t>),
    /// Django's own table: its name in the configuration.
    Django(String),
    /// In no table that the sidecar can read: the reason.
    None(String),
}

/// A session table.
pub(super) struct GuessedSessionTable<'t> {
    pub table: &'t AppTable,
    pub token: &'t CatalogueColumn,
    pub user: &'t CatalogueColumn,
}

impl<'t> SessionStorage<'t> {
    /// The column that names the user.
    pub(super) fn user(&self) -> Option<&'t CatalogueColumn> {
        match self {
            Self::Table(found) => Some(found.user),
            Self::Django(_) | Self::None(_) => None,
        }
    }

    pub(super) fn is_django(&self) -> bool {
        matches!(self, Self::Django(_))
    }
}

/// Django's own table, if the site says that it uses it, or if there is no other; else the likeliest table.
pub(super) fn find<'t>(tables: &'t AppTables, site: Option<&DjangoSite>) -> SessionStorage<'t> {
    let candidates = tables
        .0
        .iter()
        .filter_map(|table| Some((score(tables, table)?, table)));
    // Of equal scores the first: the table that unqualified names refer to.
    let best = candidates
        .filter(|((score, _), _)| *score >= LIKELY)
        .reduce(|best, next| if next.0.0 > best.0.0 { next } else { best })
        .map(|((_, found), _)| found);
    let own = tables.by_name("django_session");
    let engine = site.and_then(engine);
    match (engine, own, best) {
        (Some(engine), Some(own), _) if stores_in_own_table(engine) => SessionStorage::Django(own.configured()),
        (_, _, Some(found)) => SessionStorage::Table(found),
        (Some(engine), _, None) if !stores_in_own_table(engine) => SessionStorage::None(format!(
            "SESSION_ENGINE is \"{engine}\": sessions are in no table of this database. Set it to \
             django.contrib.sessions.backends.cached_db, or name a table in [schema.session]"
        )),
        (_, Some(own), None) => SessionStorage::Django(own.configured()),
        (_, None, None) => SessionStorage::None(
            "no table of this database looks like one of sessions: name it in [schema.session], or run the app's \
             migrations first"
                .into(),
        ),
    }
}

/// The engine of Django's sessions, if the site uses them at all: the setting has a default.
fn engine(site: &DjangoSite) -> Option<&str> {
    let used = site
        .settings
        .middleware
        .iter()
        .any(|name| name.ends_with(".SessionMiddleware"));
    used.then_some(&*site.settings.session_engine)
}

fn stores_in_own_table(engine: &str) -> bool {
    matches!(
        engine,
        "django.contrib.sessions.backends.db" | "django.contrib.sessions.backends.cached_db"
    )
}

/// How likely a table is one of sessions, in points, and its columns.
fn score<'t>(tables: &'t AppTables, table: &'t AppTable) -> Option<(u32, GuessedSessionTable<'t>)> {
    let name = format!("{}_{}", table.name, table.model.as_deref().unwrap_or_default()).to_ascii_lowercase();
    if OTHERS.iter().any(|other| name.contains(other)) {
        return None;
    }
    let token = table.named(TOKEN, is_text)?;
    let refers = |column: &&CatalogueColumn| column.references.is_some() && USER.contains(&&*column.name);
    let user = table
        .columns
        .iter()
        .find(refers)
        .or_else(|| table.named(USER, is_key))
        .or_else(|| table.columns.iter().find(|column| column.references.is_some()))?;
    let known = |words: &[&str], points| {
        if words.iter().any(|word| name.contains(word)) {
            points
        } else {
            0
        }
    };
    let has = |columns: &[&str], fits, points| table.named(columns, fits).map_or(0, |_| points);
    let score = known(&["session"], 40)
        + known(&["signin", "sign_in", "login"], 30)
        + if token.is_unique { 20 } else { 0 }
        + if tables.target(user).is_some() { 15 } else { 0 }
        + has(EXPIRES, is_moment, 15)
        + has(STARTED, is_moment, 5)
        + has(ENDED, is_moment, 5)
        + has(ACTIVE, is_flag, 5);
    Some((score, GuessedSessionTable { table, token, user }))
}

/// Adds its settings.
pub(super) fn add_settings(guess: &mut Guess, session: &SessionStorage<'_>, site: Option<&DjangoSite>) {
    cookie(guess, session, site);
    match session {
        SessionStorage::None(why) => guess.open.push(why.clone()),
        SessionStorage::Django(table) => {
            if table != "django_session" {
                guess.set_text("schema.django_session", "table", table, "it is in another schema");
            }
            guess.set_text(
                "session",
                "kind",
                "django",
                match site.and_then(engine) {
                    Some(engine) => format!("SESSION_ENGINE is \"{engine}\""),
                    None => "there is Django's own table django_session, and no other of sessions".into(),
                },
            );
            guess.set(
                "record",
                "pages_visited",
                "false",
                "django_session has no such counter",
            );
        }
        SessionStorage::Table(found) => columns(guess, found),
    }
}

fn columns(guess: &mut Guess, found: &GuessedSessionTable<'_>) {
    const SECTION: &str = "schema.session.columns";
    let GuessedSessionTable { table, token, user } = found;
    guess.set_text(
        "schema.session",
        "table",
        &table.configured(),
        format!(
            "its column {} {}, and {} says whose the session is",
            token.name,
            if token.is_unique {
                "is unique"
            } else {
                "has the token"
            },
            user.name
        ),
    );
    let key = table.key().filter(|key| key.name != token.name);
    match key {
        Some(key) => guess.set_column(SECTION, "id", Some(key), "id"),
        None => guess.set_text(SECTION, "id", "", "the token is the key"),
    }
    guess.set_column(SECTION, "user_id", Some(user), "user_id");
    guess.set_column(SECTION, "session_id", Some(token), "session_id");
    let taken: Vec<&str> = [key, Some(user), Some(token)]
        .into_iter()
        .flatten()
        .map(|column| &*column.name)
        .collect();
    let named = |names: &[&str], fits| {
        let column = table.named(names, fits);
        column.filter(|column| !taken.contains(&&*column.name))
    };
    let optional = [
        ("started_at", named(STARTED, is_moment)),
        ("ended_at", named(ENDED, is_moment)),
        ("expires_at", named(EXPIRES, is_moment)),
        ("is_active", named(ACTIVE, is_flag)),
        ("is_ended", named(OVER, is_flag)),
        ("pages_visited", named(PAGES, is_count)),
    ];
    for (key, column) in &optional {
        guess.set_column(SECTION, key, *column, key);
    }
    if optional[5].1.is_none() {
        guess.set(
            "record",
            "pages_visited",
            "false",
            "the session table has no such counter",
        );
    }
    if let Some((hash, why)) = hash(token) {
        guess.set_text("session", "token_hash", hash, why);
    }
}

/// Whether the column holds a hash, by its name and length.
fn hash(token: &CatalogueColumn) -> Option<(&'static str, String)> {
    let name = token.name.to_ascii_lowercase();
    if !["hash", "digest", "sha256"]
        .iter()
        .any(|word| name.contains(word))
    {
        return None;
    }
    let base64 = matches!(token.max_length, Some(43 | 44));
    let kind = if base64 { "sha256-base64" } else { "sha256" };
    Some((
        kind,
        format!(
            "by the column's name, {}; \"none\" if the table holds the cookie's value itself",
            token.name
        ),
    ))
}

fn cookie(guess: &mut Guess, session: &SessionStorage<'_>, site: Option<&DjangoSite>) {
    let by_engine = match session {
        SessionStorage::Django(_) => true,
        SessionStorage::Table(found) => found
            .table
            .columns
            .iter()
            .any(|column| column.name == "session_data"),
        SessionStorage::None(_) => false,
    };
    if by_engine
        || site.is_some_and(|site| matches!(session, SessionStorage::None(_)) && engine(site).is_some())
    {
        match site {
            Some(site) => guess.set_text(
                "session",
                "cookie",
                &site.settings.session_cookie_name,
                "SESSION_COOKIE_NAME",
            ),
            None => guess.set_text("session", "cookie", "sessionid", "Django's default"),
        }
        return;
    }
    let likely = |(setting, _): &(&String, &String)| {
        ["SESSION", "AUTH", "TOKEN", "LOGIN", "SIGN"]
            .iter()
            .any(|word| setting.contains(word))
    };
    let named = site.and_then(|site| {
        site.cookies
            .iter()
            .find(likely)
            .or_else(|| site.cookies.iter().next())
    });
    if let Some((setting, cookie)) = named {
        guess.set_text("session", "cookie", cookie, format!("by the setting {setting}"));
        return;
    }
    guess.set_text("session", "cookie", "session_id", "a guess");
    guess.open.push(
        "session.cookie: the name of the cookie that sign-in sets; a browser's developer tools show it"
            .into(),
    );
}
