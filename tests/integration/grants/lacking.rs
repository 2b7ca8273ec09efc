//! A role that lacks rights is told by each command which GRANT gives them.

use std::collections::BTreeSet;

use headcount::store;

use super::{Role, command, configuration, execute, parsed};
use crate::store_site::{SessionRow, Site, batch, page_view};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::examined;
use crate::support::world::Parts;

/// The GRANTs in a text, as they are to be pasted.
fn grants_in(text: &str, role: &str) -> BTreeSet<String> {
    let end = format!(" TO \"{role}\"");
    let begins = text.match_indices("GRANT ").map(|(place, _)| &text[place..]);
    begins
        .filter_map(|grant| Some(format!("{}{end}", grant.split_once(&end)?.0)))
        .collect()
}

#[tokio::test]
async fn d8_each_command_of_a_role_without_rights_names_what_it_lacks() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let config = configuration(&database);
    let role = Role::make(&database, &config).await;
    let (name, as_role) = (&role.name, role.uses(&config));
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| command(directory.path(), &as_role, arguments);

    let connect = format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{name}\"", database.name());
    for arguments in [
        &["grants"][..],
        &["check"],
        &["migrate"],
        &["migrate", "--dry-run"],
    ] {
        let told = run(arguments);
        assert_eq!(told.code, Some(1), "{told:?}");
        assert!(told.err.contains(&connect), "{arguments:?}: {}", told.err);
        assert!(
            told.err.contains("the database role lacks a right"),
            "{}",
            told.err
        );
    }
    execute(&database, &connect).await;
    // Which rights are needed does not depend on those of whoever asks.
    assert_eq!(run(&["grants", "--role", name]).out, role.sql);
    let told = run(&["migrate"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    let owner = "run headcount migrate as role \"postgres\", the owner of schema headcount and table \
                 public.accounts_userevent and table public.accounts_usersession";
    assert!(told.err.contains(owner), "{}", told.err);

    // What `check` says is enough, and no more than `grants` prints.
    let mut given = BTreeSet::from([connect]);
    loop {
        let told = run(&["check"]);
        if told.code == Some(0) {
            break;
        }
        let lacking: Vec<_> = grants_in(&told.err, name)
            .into_iter()
            .filter(|grant| !given.contains(grant))
            .collect();
        assert!(!lacking.is_empty(), "{}", told.err);
        for grant in lacking {
            execute(&database, &grant).await;
            given.insert(grant);
        }
    }
    let each = |grants: &[String]| -> BTreeSet<String> {
        let rights = grants.iter().filter_map(|grant| grant.strip_prefix("GRANT "));
        rights
            .flat_map(|grant| role.split(&format!("{grant};")))
            .collect()
    };
    let printed: BTreeSet<String> = role.rights().into_iter().collect();
    assert_eq!(each(&given.into_iter().collect::<Vec<_>>()), printed);
}

/// A sequence that belongs to no column has privileges of its own, too.
#[tokio::test]
async fn d8_a_sequence_that_makes_keys_is_named_whosever_it_is() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    execute(
        &database,
        "CREATE SEQUENCE keys_of_events;
         ALTER TABLE accounts_userevent ALTER id DROP IDENTITY IF EXISTS;
         ALTER TABLE accounts_userevent ALTER id SET DEFAULT nextval('keys_of_events')",
    )
    .await;
    let config = configuration(&database);
    let role = Role::make(&database, &config).await;
    execute(&database, &role.sql).await;
    let usage = "USAGE ON SEQUENCE public.keys_of_events";
    assert!(role.rights().iter().any(|right| right == usage), "{}", role.sql);
    let config = parsed(&role.uses(&config));
    assert_eq!(examined::tables(&config).await.expect("an answer"), []);
    execute(&database, &format!("REVOKE {usage} FROM {}", role.name)).await;
    let problems = examined::tables(&config).await.expect("an answer");
    let grant = format!("GRANT {usage} TO \"{}\";", role.name);
    assert!(
        matches!(&problems[..], [one] if one.to_string().ends_with(&grant)),
        "{problems:?}"
    );
}

#[tokio::test]
async fn d8_a_policy_that_refuses_rows_is_told_with_one_that_does_not() {
    let site = Site::new(crate::store_site::Variant::PostgresDefault).await;
    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    let config = crate::store_site::as_role(&site.config, &role);
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
         ALTER TABLE accounts_userevent ENABLE ROW LEVEL SECURITY;
         CREATE POLICY reads ON accounts_userevent FOR SELECT TO {role} USING (true);
         CREATE POLICY writes ON accounts_userevent FOR INSERT TO {role} WITH CHECK (event_type <> 'page_view')"
    ))
    .await;
    let store = store::open(&config).expect("a store");
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let error = store.apply(&views).await.expect_err("no policy lets it");
    let policy = format!(
        "CREATE POLICY headcount_insert ON \"public\".\"accounts_userevent\" FOR INSERT TO \"{role}\" WITH CHECK (true)"
    );
    assert!(error.chain().contains(&policy), "{}", error.chain());
    site.execute(&policy).await;
    assert_eq!(store.apply(&views).await.expect("it is written").views, 1);
}
