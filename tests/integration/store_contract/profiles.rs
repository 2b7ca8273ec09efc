//! Profiles as sites have them: with names in another table, with members who are hidden, or none at all.

use headcount::browser_session::Visibility;
use headcount::config::{HiddenMembers, JoinedColumn, ProfileColumn};
use headcount::ids::{CommunityId, UserId};
use headcount::store::{self, StoreError};

use super::alice;
use crate::store_site::{SessionRow, Site, Variant, batch, page_view, stored_key, token};
use crate::support::examined;

contract! {
    s14_names_and_pictures_may_be_in_another_table,
    s15_a_user_of_several_rows_is_shown_once_and_check_warns,
    s15_a_join_that_cannot_be_is_named_with_the_key_to_change,
    s16_who_is_hidden_is_shown_to_nobody_from_that_moment,
    s16_a_flag_in_another_table_hides_if_any_row_says_so,
    s16_a_session_says_whether_its_user_is_hidden,
    d13_a_flag_that_says_the_opposite_hides_whom_it_does_not_show,
    s17_without_profiles_users_are_those_of_the_sessions,
    s17_without_names_nothing_is_asked_of_profiles,
    s20_without_an_event_table_everything_else_goes_on,
    s21_without_a_table_of_communities_any_key_is_one,
}

/// Accounts beside the profiles, which refer to them.
async fn with_accounts(variant: Variant, key: &str) -> Site {
    let site = Site::with(variant, |config| {
        config.schema.profile.columns.username = in_accounts("login");
        config.schema.profile.columns.avatar = in_accounts("picture");
    })
    .await;
    let profiles = site.table(&site.config.schema.profile.table);
    site.execute(&format!(
        "CREATE TABLE auth_user (id integer {key}, login varchar(150), picture varchar(100), secret boolean);
         ALTER TABLE {profiles} ADD account integer"
    ))
    .await;
    site
}

fn in_accounts(column: &str) -> ProfileColumn {
    ProfileColumn::Joined(JoinedColumn {
        table: "auth_user".into(),
        key: "id".into(),
        of: "account".into(),
        column: column.into(),
    })
}

/// A member whose name in the profile is not shown.
async fn member(site: &Site, account: Option<i32>) -> UserId {
    let names = &site.config.schema.profile;
    let profile = site
        .member(&format!("unseen {}", account.unwrap_or_default()))
        .await;
    if let Some(account) = account {
        site.execute(&format!(
            r#"UPDATE {} SET account = {account} WHERE "{}" = '{}'"#,
            site.table(&names.table),
            names.columns.id,
            stored_key(profile.as_str())
        ))
        .await;
    }
    profile
}

/// Names and pictures of the visitors, in the order of the names.
async fn shown(site: &Site, users: &[UserId]) -> Vec<(String, Option<String>)> {
    let rows = site.store.visitors(users).await.unwrap();
    let mut shown: Vec<_> = rows.into_iter().map(|row| (row.username, row.avatar)).collect();
    shown.sort();
    shown
}

async fn problems(site: &Site) -> Vec<String> {
    let problems = examined::tables(&site.config)
        .await
        .expect("the database answers");
    problems.iter().map(ToString::to_string).collect()
}

async fn s14_names_and_pictures_may_be_in_another_table(variant: Variant) {
    let site = with_accounts(variant, "PRIMARY KEY").await;
    site.execute(
        "INSERT INTO auth_user (id, login, picture) VALUES (7, 'alice', 'faces/a.png'), (8, 'bob', '')",
    )
    .await;
    let users = [
        member(&site, Some(7)).await,
        member(&site, Some(8)).await,
        member(&site, None).await,
    ];
    let row = |name: &str, picture: Option<&str>| (name.to_owned(), picture.map(Into::into));
    assert_eq!(
        shown(&site, &users).await,
        [row("", None), row("alice", Some("faces/a.png")), row("bob", None)]
    );
    assert_eq!(problems(&site).await, [""; 0]);
}

async fn s15_a_user_of_several_rows_is_shown_once_and_check_warns(variant: Variant) {
    let site = with_accounts(variant, "").await;
    site.execute("INSERT INTO auth_user (id, login) VALUES (7, 'alicia'), (7, 'alice'), (7, NULL)")
        .await;
    let alice = member(&site, Some(7)).await;
    assert_eq!(shown(&site, &[alice]).await, [("alice".to_owned(), None)]);

    let found = examined::tables(&site.config).await.unwrap();
    assert!(found.iter().all(store::SchemaProblem::is_a_warning), "{found:?}");
    let found = problems(&site).await;
    assert_eq!(found.len(), 2, "{found:?}");
    for part in [
        "auth_user",
        "not unique",
        "set schema.profile.columns.username.key",
        "CREATE INDEX",
    ] {
        assert!(found[0].contains(part), "{part}: {found:?}");
    }
    site.execute("CREATE INDEX by_id ON auth_user (id)").await;
    assert!(!problems(&site).await[0].contains("CREATE INDEX"));
    site.execute("DELETE FROM auth_user WHERE login IS NULL OR login = 'alicia'; CREATE UNIQUE INDEX one ON auth_user (id)")
        .await;
    assert_eq!(problems(&site).await, [""; 0]);
}

async fn s15_a_join_that_cannot_be_is_named_with_the_key_to_change(variant: Variant) {
    let site = with_accounts(variant, "PRIMARY KEY").await;
    let with = async |change: fn(&mut JoinedColumn)| {
        let mut config = site.config.clone();
        let ProfileColumn::Joined(joined) = &mut config.schema.profile.columns.username else {
            unreachable!("it is")
        };
        change(joined);
        let problems = examined::tables(&config).await.expect("the database answers");
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        problems.join("\n")
    };
    let missing = with(|joined| joined.table = "users".into()).await;
    assert!(
        missing.contains("no table users: set schema.profile.columns.username.table"),
        "{missing}"
    );
    let missing = with(|joined| joined.of = "user_id".into()).await;
    assert!(
        missing.contains("set schema.profile.columns.username.of"),
        "{missing}"
    );
    let wrong = with(|joined| joined.key = "login".into()).await;
    assert!(
        wrong.contains("cannot be compared with column account"),
        "{wrong}"
    );
    let wrong = with(|joined| joined.column = "secret".into()).await;
    assert!(
        wrong.contains("set schema.profile.columns.username.column to a column of that type"),
        "{wrong}"
    );
}

/// A site whose profiles say who is hidden.
async fn with_hidden(variant: Variant, counted: HiddenMembers) -> Site {
    let site = Site::with(variant, |config| {
        config.schema.profile.columns.is_hidden = "secret".into();
        config.record.hidden = counted;
    })
    .await;
    let profiles = site.table(&site.config.schema.profile.table);
    site.execute(&format!("ALTER TABLE {profiles} ADD secret boolean"))
        .await;
    site
}

async fn hide(site: &Site, user: &UserId, hidden: &str) {
    let names = &site.config.schema.profile;
    site.execute(&format!(
        r#"UPDATE {} SET secret = {hidden} WHERE "{}" = '{}'"#,
        site.table(&names.table),
        names.columns.id,
        stored_key(user.as_str())
    ))
    .await;
}

async fn s16_who_is_hidden_is_shown_to_nobody_from_that_moment(variant: Variant) {
    let site = with_hidden(variant, HiddenMembers::Count).await;
    let (alice, bob) = (site.member("alice").await, site.member("bob").await);
    let both = [alice.clone(), bob.clone()];
    for (flag, names) in [
        ("NULL", &["alice", "bob"][..]),
        ("true", &["alice"]),
        ("false", &["alice", "bob"]),
    ] {
        hide(&site, &bob, flag).await;
        let shown = shown(&site, &both).await;
        assert_eq!(
            shown.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            names,
            "{flag}"
        );
        let hidden = site.store.hidden(&both).await.unwrap();
        assert_eq!(hidden.contains_key(&bob), flag == "true");
        assert!(!hidden.contains_key(&alice));
    }
    assert_eq!(problems(&site).await, [""; 0]);
}

async fn s16_a_flag_in_another_table_hides_if_any_row_says_so(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.schema.profile.columns.is_hidden = in_accounts("secret");
    })
    .await;
    let names = &site.config.schema.profile;
    site.execute(&format!(
        "CREATE TABLE auth_user (id integer, secret boolean);
         ALTER TABLE {} ADD account integer",
        site.table(&names.table)
    ))
    .await;
    let (alice, bob) = (site.member("alice").await, site.member("bob").await);
    for (user, account) in [(&alice, 7), (&bob, 8)] {
        site.execute(&format!(
            r#"UPDATE {} SET account = {account} WHERE "{}" = '{}'"#,
            site.table(&names.table),
            names.columns.id,
            stored_key(user.as_str())
        ))
        .await;
    }
    site.execute("INSERT INTO auth_user VALUES (7, false), (7, NULL), (8, false), (8, true)")
        .await;
    let shown = shown(&site, &[alice, bob]).await;
    assert_eq!(shown, [("alice".to_owned(), None)]);
}

async fn d13_a_flag_that_says_the_opposite_hides_whom_it_does_not_show(variant: Variant) {
    for is_beside in [false, true] {
        let site = with_accounts(variant, "PRIMARY KEY").await;
        let names = &site.config.schema.profile;
        let profiles = site.table(&names.table);
        site.execute(&format!("ALTER TABLE {profiles} ADD online boolean"))
            .await;
        site.execute("ALTER TABLE auth_user ADD online boolean").await;
        let (alice, bob) = (site.member("alice").await, site.member("bob").await);
        for (user, account) in [(&alice, 7), (&bob, 8)] {
            site.execute(&format!(
                r#"UPDATE {profiles} SET account = {account} WHERE "{}" = '{}'"#,
                names.columns.id,
                stored_key(user.as_str())
            ))
            .await;
        }
        site.execute("INSERT INTO auth_user (id) VALUES (7), (8)").await;
        let store = site.reconfigured(|config| {
            let columns = &mut config.schema.profile.columns;
            columns.is_shown = if is_beside {
                in_accounts("online")
            } else {
                "online".into()
            };
        });
        // Null says nothing.
        for (flag, is_hidden) in [("NULL", false), ("true", false), ("false", true)] {
            site.execute(&format!("UPDATE auth_user SET online = {flag} WHERE id = 8"))
                .await;
            site.execute(&format!(
                "UPDATE {profiles} SET online = {flag} WHERE account = 8"
            ))
            .await;
            let hidden = store.hidden(&[alice.clone(), bob.clone()]).await.unwrap();
            assert_eq!(
                hidden.contains_key(&bob),
                is_hidden,
                "{flag}, beside: {is_beside}"
            );
            assert!(!hidden.contains_key(&alice));
        }
    }
}

async fn s16_a_session_says_whether_its_user_is_hidden(variant: Variant) {
    for (counted, visibility) in [
        (HiddenMembers::Count, Visibility::Hidden),
        (HiddenMembers::Ignore, Visibility::Ignored),
    ] {
        let site = with_hidden(variant, counted).await;
        let alice = site.member("alice").await;
        site.session(&alice, "token-of-alice", SessionRow::default())
            .await;
        let found = async || {
            let found = site.store.browser_session(&token("token-of-alice")).await;
            found.unwrap().expect("a session").visibility
        };
        assert_eq!(found().await, Visibility::Shown);
        hide(&site, &alice, "true").await;
        assert_eq!(found().await, visibility);
    }
}

async fn s17_without_profiles_users_are_those_of_the_sessions(variant: Variant) {
    let site = Site::new(variant).await;
    let (alice, session, gardening) = alice(&site).await;
    let store = site.reconfigured(|config| config.schema.profile.table = String::new());
    let visitors = store.visitors(std::slice::from_ref(&alice)).await.unwrap();
    assert_eq!(visitors.len(), 1);
    assert_eq!((&visitors[0].user_id, &*visitors[0].username), (&alice, ""));
    assert_eq!(visitors[0].started_at, Some(SessionRow::default().started_at));
    assert_eq!(
        store.visitors(&[UserId::from("no key at all")]).await.unwrap(),
        []
    );
    assert_eq!(
        store.browser_session(&token("token-of-alice")).await.unwrap(),
        Some((*session).clone())
    );

    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    assert_eq!(store.apply(&views).await.unwrap().views, 1);
    assert_eq!(site.events().await[0].user_id, alice.as_str());
    assert_eq!(site.pages_visited(&session).await, 1);
    assert_eq!(
        site.last_active(&alice).await,
        "2024-01-01 00:00:00",
        "left as it is"
    );
}

async fn s17_without_names_nothing_is_asked_of_profiles(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.api.identities = false;
        config.record.last_active = false;
        config.schema.profile.table = "no_such_table".into();
    })
    .await;
    assert_eq!(problems(&site).await, [""; 0]);
    assert_eq!(
        site.store.browser_session(&token("nobody's")).await.unwrap(),
        None
    );
}

async fn s20_without_an_event_table_everything_else_goes_on(variant: Variant) {
    let site = Site::with(variant, |config| {
        config.record.events = headcount::config::Events::Off;
    })
    .await;
    let (alice, session, gardening) = alice(&site).await;
    let events = site.table(&site.config.schema.event.table);
    site.execute(&format!("DROP TABLE {events}")).await;
    let found = examined::tables(&site.config).await.unwrap();
    assert!(
        found.len() == 1 && found[0].is_a_warning() && found[0].to_string().contains("no statistics"),
        "{found:?}"
    );
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    assert_eq!(site.store.apply(&views).await.unwrap().views, 1);
    assert_eq!(site.pages_visited(&session).await, 1);
    assert_eq!(site.store.visitors(&[alice]).await.unwrap().len(), 1);
    let stats = async |store: &dyn store::Store| {
        store
            .stats(&gardening, session.expires_at, session.expires_at)
            .await
            .unwrap_err()
    };
    assert!(matches!(stats(&*site.store).await, StoreError::NoEvents));
    let none = site.reconfigured(|config| config.schema.event.table = String::new());
    assert!(matches!(stats(&*none).await, StoreError::NoEvents));
}

async fn s21_without_a_table_of_communities_any_key_is_one(variant: Variant) {
    let site = Site::new(variant).await;
    let (_, session, _) = alice(&site).await;
    let store = site.reconfigured(|config| config.schema.community.table = String::new());
    let general = CommunityId::from("general");
    assert_eq!(
        store.community_by_key(&general).await.unwrap(),
        Some(general.clone())
    );
    assert_eq!(store.community_by_slug("general").await.unwrap(), None);
    let views = batch(&session, &general, vec![page_view("2024-03-01T10:00:00Z")]);
    store.apply(&views).await.unwrap();
    assert_eq!(site.events().await[0].metadata["community_id"], "general");
    let of_march = store
        .stats(
            &general,
            crate::store_site::at("2024-03-01T00:00:00Z"),
            crate::store_site::at("2024-04-01T00:00:00Z"),
        )
        .await
        .unwrap();
    assert_eq!((of_march.page_views, of_march.total_visitors), (1, 1));
}
