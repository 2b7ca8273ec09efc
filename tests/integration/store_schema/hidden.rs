//! What the tables' names and columns do not show: rows that are hidden, and a database that takes no writes.

use headcount::store;

use super::{as_role, problems};
use crate::store_site::{SessionRow, Site, Variant, token};

/// Everybody would be anonymous, and nothing would say why.
#[tokio::test]
async fn c23_row_level_security_without_a_policy_for_the_user_is_named_with_the_policy() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("secured_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA public, headcount TO {role};
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role};
         ALTER TABLE accounts_usersession ENABLE ROW LEVEL SECURITY;
         ALTER TABLE accounts_userevent ENABLE ROW LEVEL SECURITY;
         CREATE POLICY everybody_reads ON accounts_userevent FOR SELECT USING (true)"
    ))
    .await;
    // Whom it does not bind it does not hide anything from.
    assert_eq!(problems(&site.config).await, Vec::<String>::new());

    let limited = as_role(&site.config, &role);
    let found = problems(&limited).await;
    let commands: Vec<_> = found
        .iter()
        .map(|problem| {
            let (_, remedy) = problem.split_once("CREATE POLICY ").expect("a remedy");
            let (policy, _) = remedy.split_once(", or give").expect("the end of a statement");
            format!("CREATE POLICY {policy}")
        })
        .collect();
    assert_eq!(commands.len(), 3, "{found:?}");
    for command in commands {
        site.execute(&command).await;
    }
    assert_eq!(problems(&limited).await, Vec::<String>::new());
    let alice = site.member("alice").await;
    site.session(&alice, "alice", SessionRow::default()).await;
    let store = store::open(&limited).unwrap();
    assert!(store.browser_session(&token("alice")).await.unwrap().is_some());
}

#[tokio::test]
async fn c24_a_database_that_takes_no_writes_is_named() {
    let site = Site::new(Variant::PostgresDefault).await;
    let name = site.text("SELECT current_database()").await;
    site.execute(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ))
    .await;
    let found = problems(&site.config).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("set database.url to the primary"), "{found:?}");
    let mut config = site.config.clone();
    config.record.events = false;
    config.record.pages_visited = false;
    config.record.last_active = false;
    assert_eq!(
        problems(&config).await,
        Vec::<String>::new(),
        "reading is all that is done"
    );
}
