//! The configuration against the live schema: each kind of problem is found, in one sentence that names
//! table, column and cure.

mod filled;
mod hidden;
mod inspection;
mod rights;

use headcount::config::{Config, Secret};
use headcount::store::{self, StoreError};

use crate::store_site::{SessionRow, Site, Variant, another, as_role, at, batch, page_view, token};
use crate::support::examined;

const VARIANTS: [Variant; 4] = [
    Variant::PostgresDefault,
    Variant::PostgresRenamed,
    Variant::SqliteDefault,
    Variant::SqliteRenamed,
];

/// The problems' sentences.
async fn problems(config: &Config) -> Vec<String> {
    let problems = examined::tables(config).await.expect("the database answers");
    problems.iter().map(ToString::to_string).collect()
}

/// A site with default names whose tables were changed by `sql`, and the problems' sentences.
async fn problems_after(variant: Variant, sql: &str, configure: impl FnOnce(&mut Config)) -> Vec<String> {
    let site = Site::with(variant, configure).await;
    site.execute(sql).await;
    problems(&site.config).await
}

fn event_table(variant: Variant) -> &'static str {
    if variant.is_postgres() {
        "\"public\".\"accounts_userevent\""
    } else {
        "`accounts_userevent`"
    }
}

const DEFAULTS: [Variant; 2] = [Variant::PostgresDefault, Variant::SqliteDefault];

#[tokio::test]
async fn a_schema_as_django_makes_it_has_no_problem() {
    for variant in VARIANTS {
        let site = Site::new(variant).await;
        assert_eq!(problems(&site.config).await, Vec::<String>::new(), "{variant:?}");
    }
}

#[tokio::test]
async fn a_missing_table_is_named_with_the_key_that_names_it() {
    for variant in DEFAULTS {
        let found = problems_after(variant, "", |config| {
            config.schema.community.table = "groups".into();
        })
        .await;
        assert_eq!(
            found,
            [
                "there is no table groups: set schema.community.table to the name of the app's community \
                 table"
            ]
        );
    }
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_key_that_names_it() {
    for variant in DEFAULTS {
        let found = problems_after(variant, "", |config| {
            config.schema.event.columns.timestamp = "happened".into();
        })
        .await;
        assert_eq!(
            found,
            [format!(
                "table {} has no column happened: set schema.event.columns.timestamp to the name of the \
                 column that holds it",
                event_table(variant)
            )]
        );
    }
}

#[tokio::test]
async fn columns_of_the_wrong_type_are_named() {
    let found = problems_after(
        Variant::PostgresDefault,
        "ALTER TABLE accounts_userevent ALTER metadata TYPE text;
         ALTER TABLE accounts_usersession DROP session_id, ADD session_id bytea;
         ALTER TABLE accounts_usersession ALTER is_active TYPE int USING 1;
         ALTER TABLE accounts_userprofile ALTER last_active TYPE date;",
        |_| {},
    )
    .await;
    let expected = [
        "column session_id of table \"public\".\"accounts_usersession\" is of type bytea where text is needed: \
         set schema.session.columns.session_id to a column of that type",
        "column is_active of table \"public\".\"accounts_usersession\" is of type integer where boolean is \
         needed: set schema.session.columns.is_active to a column of that type",
        "column metadata of table \"public\".\"accounts_userevent\" is of type text where jsonb is needed: set \
         schema.event.columns.metadata to a column of that type",
        "column last_active of table \"public\".\"accounts_userprofile\" is of type date where timestamp with \
         time zone is needed: set schema.profile.columns.last_active to a column of that type",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn wrong_types_are_named_on_sqlite_too() {
    let found = problems_after(Variant::SqliteDefault, "", |config| {
        config.schema.event.columns.timestamp = "description".into();
        config.schema.session.columns.pages_visited = "user_agent".into();
    })
    .await;
    let expected = [
        "column user_agent of table `accounts_usersession` is of type text where an integer is needed: set \
         schema.session.columns.pages_visited to a column of that type",
        "column description of table `accounts_userevent` is of type text where timestamp with time zone is \
         needed: set schema.event.columns.timestamp to a column of that type",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn keys_that_disagree_are_named() {
    let found = problems_after(
        Variant::PostgresDefault,
        "ALTER TABLE accounts_userevent DROP user_id, ADD user_id uuid NOT NULL",
        |_| {},
    )
    .await;
    assert_eq!(
        found,
        [
            "column user_id of table \"public\".\"accounts_userevent\" is of type uuid, but the key of table \
             \"public\".\"accounts_userprofile\" that it refers to is of type bigint: set \
             schema.event.columns.user_id to the column that refers to \"public\".\"accounts_userprofile\""
        ]
    );
}

#[tokio::test]
async fn a_column_renamed_while_running_is_found_again_when_it_is_back() {
    for variant in DEFAULTS {
        let site = Site::new(variant).await;
        let alice = site.member("alice").await;
        site.session(&alice, "alice", SessionRow::default()).await;
        let session = async || site.store.browser_session(&token("alice")).await;
        assert!(session().await.unwrap().is_some());
        site.execute("ALTER TABLE accounts_usersession RENAME expires_at TO valid_until")
            .await;
        let error = session().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let error = session().await.unwrap_err();
        assert!(format!("{error:?}").contains("expires_at"), "{error:?}");
        site.execute("ALTER TABLE accounts_usersession RENAME valid_until TO expires_at")
            .await;
        assert!(session().await.unwrap().is_some());
    }
}

#[tokio::test]
async fn timestamps_without_zone_are_taken_as_utc() {
    let site = Site::new(Variant::PostgresDefault).await;
    site.execute(
        "SET TimeZone = 'UTC';
         ALTER TABLE accounts_userevent ALTER timestamp TYPE timestamp;
         ALTER TABLE accounts_userprofile ALTER last_active TYPE timestamp;
         ALTER TABLE accounts_usersession ALTER started_at TYPE timestamp, ALTER ended_at TYPE timestamp,
             ALTER expires_at TYPE timestamp;",
    )
    .await;
    let database = site.text("SELECT current_database()::text").await;
    site.execute(&format!(
        "ALTER DATABASE {database} SET TimeZone = 'Asia/Kathmandu'"
    ))
    .await;
    let alice = site.member("alice").await;
    let written = site.session(&alice, "alice", SessionRow::default()).await;
    let found = site
        .store
        .browser_session(&token("alice"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found, *written);
    let gardening = site.community("gardening").await;
    let views = batch(&written, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    site.store.apply(&views).await.unwrap();
    assert_eq!(site.events().await[0].timestamp, "2024-03-01 10:00:00");
    assert_eq!(site.last_active(&alice).await, "2024-03-01 10:00:00");
    let visitors = site.store.visitors(&[alice]).await.unwrap();
    assert_eq!(visitors[0].started_at, Some(SessionRow::default().started_at));
    let hour = |text: &str| crate::store_site::at(text);
    let stats = site
        .store
        .stats(
            &gardening,
            hour("2024-03-01T10:00:00Z"),
            hour("2024-03-01T11:00:00Z"),
        )
        .await
        .unwrap();
    assert_eq!(stats.page_views, 1);
}

#[tokio::test]
async fn a_session_that_never_expires_can_be_read() {
    let site = Site::new(Variant::PostgresDefault).await;
    let alice = site.member("alice").await;
    site.session(&alice, "alice", SessionRow::default()).await;
    site.execute("UPDATE accounts_usersession SET expires_at = 'infinity'")
        .await;
    let found = site
        .store
        .browser_session(&token("alice"))
        .await
        .unwrap()
        .unwrap();
    assert!(found.is_valid_at(crate::store_site::at("9998-01-01T00:00:00Z")));
}

#[tokio::test]
async fn a_url_that_names_no_database_says_so_without_showing_it() {
    let opened = |url: &str| {
        let mut config = Config::default();
        config.database.url = Some(Secret::new(url));
        store::open(&config).err().expect("an error").to_string()
    };
    assert_eq!(
        opened("mysql://u:hunter2@h/d"),
        "database.url must begin with postgres:// or sqlite://, not with \"mysql\""
    );
    assert!(!opened("hunter2").contains("hunter2"));
    assert!(!opened("user:hunter2@host").contains("hunter2"));
    assert_eq!(
        opened("postgres://u:hunter2@h:port/d"),
        "database.url is not valid"
    );
    let missing = store::open(&Config::default()).err().expect("an error");
    assert_eq!(
        missing.to_string(),
        "no database is configured: set database.url, or database.url_file"
    );
}

/// Each try takes a key of the event table's sequence, also one that is rolled back.
#[tokio::test]
async fn s23_what_can_never_be_updated_is_tried_once_and_not_with_each_batch() {
    let site = Site::new(Variant::PostgresDefault).await;
    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    site.execute(
        "ALTER TABLE accounts_usersession REPLICA IDENTITY NOTHING;
         CREATE PUBLICATION cannot FOR TABLE accounts_usersession",
    )
    .await;
    let mut views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    for _ in 0..4 {
        let applied = site.store.apply(&views).await.unwrap();
        assert_eq!(applied.left_out.len(), 1, "it is told each time: {applied:?}");
        views = another(&views);
    }
    let keys: Vec<i64> = site
        .events()
        .await
        .iter()
        .map(|event| event.id.parse().unwrap())
        .collect();
    assert_eq!(keys, [2, 3, 4, 5]);
}

#[tokio::test]
async fn i21_of_several_rows_of_a_token_a_valid_one_counts_and_it_is_told() {
    for variant in DEFAULTS {
        let site = Site::new(variant).await;
        // As a site without the constraint has them.
        let (key, moment) = if variant.is_postgres() {
            ("uuid", "timestamptz")
        } else {
            ("char(32)", "datetime")
        };
        site.execute(&format!(
            "CREATE TABLE tokens (id {key} PRIMARY KEY, user_id bigint, session_id varchar(40), pages_visited integer,
                                  started_at {moment}, ended_at {moment}, expires_at {moment}, is_active bool, is_ended bool)"
        ))
        .await;
        let kept = "SELECT id, user_id, session_id, pages_visited, started_at, ended_at, expires_at, is_active, is_ended";
        let mut users = Vec::new();
        for (name, start, is_ended) in [
            ("alice", "2024-03-03T00:00:00Z", true),
            ("bob", "2024-03-02T00:00:00Z", false),
            ("carol", "2024-03-01T00:00:00Z", false),
        ] {
            let user = site.member(name).await;
            let row = SessionRow {
                started_at: at(start),
                is_ended,
                is_active: !is_ended,
                ..SessionRow::default()
            };
            site.session(&user, name, row).await;
            users.push(user);
        }
        site.execute(&format!(
            "INSERT INTO tokens {kept} FROM accounts_usersession; UPDATE tokens SET session_id = 'shared-by-three'"
        ))
        .await;
        let mut config = site.config.clone();
        config.schema.session.table = "tokens".into();
        let told = problems(&config).await;
        let told = told.iter().find(|problem| problem.contains("session_id"));
        assert!(
            told.is_some_and(|told| told.contains("CREATE UNIQUE INDEX")),
            "{variant:?}: {told:?}"
        );
        let store = store::open(&config).expect("a store");
        let who = async || {
            let found = store
                .browser_session(&token("shared-by-three"))
                .await
                .expect("an answer");
            found.expect("a session").user_id
        };
        assert_eq!(who().await, users[1], "{variant:?}: valid, and the later one");
        site.execute(&format!("DELETE FROM tokens WHERE user_id = {}", users[1]))
            .await;
        assert_eq!(who().await, users[2], "{variant:?}");
        site.execute(&format!("DELETE FROM tokens WHERE user_id = {}", users[2]))
            .await;
        assert_eq!(who().await, users[0], "{variant:?}: ended, and the only one");
    }
}
