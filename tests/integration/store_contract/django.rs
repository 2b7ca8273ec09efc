//! Django's own sessions: their data, as Django itself writes it, and what cannot be read.

use std::fmt::Write as _;

use headcount::browser_session::Unusable;
use headcount::config::SessionKind;

use super::session_kinds::{DATABASES, Kind, Members, later};
use crate::store_site::{Site, Variant, token};
use crate::support::backend::python_says;
use crate::support::examined;

/// Prints sessions as Django encodes them, each with the account that Django finds in it, or null.
const ENCODED: &str = r#"
import json, random, string, sys
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth",
                                                   "django.contrib.sessions"])
import django
django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

random.seed(int(sys.argv[1]))
LETTERS = string.printable + "äß€😀\u2028\\\"'"

def text(longest):
    return "".join(random.choices(LETTERS, k=random.randint(0, longest)))

def value(depth):
    kinds = [lambda: text(80), lambda: random.randint(-2**70, 2**70), lambda: random.random() * 1e300,
             lambda: random.choice([None, True, False, float("nan"), float("inf"), float("-inf")])]
    if depth:
        kinds += [lambda: [value(depth - 1) for _ in range(random.randint(0, 4))],
                  lambda: {text(10): value(depth - 1) for _ in range(random.randint(0, 4))}]
    return random.choice(kinds)()

store, rows = SessionStore(), []
for _ in range(400):
    data = {text(12): value(3) for _ in range(random.randint(0, 6))}
    if random.random() < 0.8:
        data[SESSION_KEY] = str(random.choice([random.randint(1, 2**63 - 1), random.randint(1, 30)]))
        data[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        data[HASH_SESSION_KEY] = random.choice(["", "%064x" % random.getrandbits(256)])
        if random.random() < 0.3:
            del data[random.choice([SESSION_KEY, BACKEND_SESSION_KEY])]
    data = dict(random.sample(list(data.items()), len(data)))
    encoded = store.encode(data)
    decoded = store.decode(encoded)
    signed_in = SESSION_KEY in decoded and BACKEND_SESSION_KEY in decoded
    rows.append([encoded, decoded[SESSION_KEY] if signed_in else None])
print(json.dumps(rows))
"#;

/// Everything that Django's own encoder makes of anything is read as Django reads it.
#[tokio::test]
async fn i18_what_django_encodes_is_read_as_django_reads_it() {
    let seed = rand::random_range(0..u32::MAX).to_string();
    let rows: Vec<(String, Option<String>)> =
        serde_json::from_str(&python_says(ENCODED, &[&seed])).expect("JSON");
    let compressed = rows.iter().filter(|(data, _)| data.starts_with('.')).count();
    assert!((20..390).contains(&compressed), "{compressed} of 400");
    let site = Site::with(Variant::SqliteDefault, |config| {
        config.session.kind = SessionKind::Django;
    })
    .await;
    site.execute(
        "CREATE TABLE django_session (session_key varchar(40), session_data text, expire_date datetime)",
    )
    .await;
    let mut insert = "INSERT INTO django_session VALUES ".to_owned();
    for (index, (data, _)) in rows.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(
            insert,
            "{comma}('token-{index}', '{data}', '2999-01-01 00:00:00')"
        )
        .unwrap();
    }
    site.execute(&insert).await;
    let tokens: Vec<_> = (0..rows.len())
        .map(|index| token(&format!("token-{index}")))
        .collect();
    let found = site.store.browser_sessions(&tokens).await.unwrap();
    assert_eq!(found.len(), rows.len());
    for (token, (data, account)) in tokens.iter().zip(&rows) {
        let session = found[token].as_ref().expect("a row");
        let user = session
            .as_ref()
            .map(|session| session.user_id.as_str().to_owned());
        let expected = account.clone().ok_or(Unusable::Anonymous);
        assert_eq!(user.map_err(|why| *why), expected, "seed {seed}: {data}");
    }
}

/// Garbage in one row is that row's.
#[tokio::test]
async fn i18_a_row_that_cannot_be_decoded_is_nobody_and_the_others_go_on() {
    for variant in DATABASES {
        let members = Members::new(variant, Kind::Django).await;
        let alice = members.member("alice").await;
        members.signs_in(&alice, "token-of-alice", later()).await;
        let long = "a".repeat(200_000);
        for (name, data) in [
            ("garbage", "garbage"),
            ("empty", ""),
            ("pickle", "gASVEAAAAAAAAAB9lIwF:1tXyZa:c2ln"),
            ("long", &long),
        ] {
            members
                .site
                .execute(&format!(
                    "INSERT INTO django_session VALUES ('{name}', '{data}', '2999-01-01 00:00:00')"
                ))
                .await;
            assert_eq!(members.has(name).await, Some(Err(Unusable::Unreadable)), "{name}");
        }
        let both = ["garbage", "token-of-alice"].map(token);
        let found = members.site.store.browser_sessions(&both).await.unwrap();
        assert_eq!(found[&both[1]].as_ref().unwrap().as_ref().unwrap().user_id, alice);
        let notes = examined::notes(&members.site.config).await.unwrap().join("\n");
        assert!(
            notes.contains("4 of 5 live sessions cannot be decoded"),
            "{notes}"
        );
    }
}

#[tokio::test]
async fn i21_a_site_without_djangos_table_is_told_which_sessions_can_be_read() {
    for variant in DATABASES {
        let site = Site::with(variant, |config| config.session.kind = SessionKind::Django).await;
        let problems = examined::tables(&site.config).await.unwrap();
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "there is no table django_session: Django keeps sessions there with SESSION_ENGINE = \
              \"django.contrib.sessions.backends.db\" or \"…cached_db\", and sessions of \"…cache\", \"…file\" and \
              \"…signed_cookies\" cannot be read from the database: set SESSION_ENGINE to one of those two, or \
              schema.django_session.table to the name of the table"
            ]
        );
    }
}
