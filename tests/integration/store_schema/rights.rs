//! Rights that the role lacks on the app's tables: named with the GRANT, and what goes on without them.

use headcount::store;

use super::problems;
use crate::store_site::{SessionRow, Site, Variant, another, as_role, batch, page_view, token};
use crate::support::examined;

#[tokio::test]
async fn missing_privileges_are_named_with_the_grant() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    let as_role = as_role(&site.config, &role);
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT SELECT ON accounts_usersession, accounts_userprofile, communities_community TO {role};
         GRANT UPDATE (pages_visited) ON accounts_usersession TO {role};
         GRANT SELECT, INSERT ON accounts_userevent TO {role};
         REVOKE SELECT ON communities_community FROM {role}"
    ))
    .await;
    let update = "UPDATE (\"last_active\") ON TABLE \"public\".\"accounts_userprofile\"";
    let select = "SELECT (\"id\", \"slug\") ON TABLE \"public\".\"communities_community\"";
    let lacks =
        |right: &str| format!("the database user \"{role}\" lacks {right}: GRANT {right} TO \"{role}\";");
    assert_eq!(problems(&as_role).await, [lacks(update), lacks(select)]);

    // What the sentences say is enough, and what is not asked for is not needed.
    site.execute(&format!(
        "GRANT {update} TO \"{role}\"; GRANT {select} TO \"{role}\""
    ))
    .await;
    assert_eq!(problems(&as_role).await, Vec::<String>::new());
    let store = store::open(&as_role).unwrap();
    let ledger = examined::ledger(&as_role).await.unwrap();
    let ledger = ledger.expect("a problem").to_string();
    let (_, grants) = ledger.split_once("run: ").expect("a remedy");
    assert!(grants.contains(&role), "{grants}");
    site.execute(grants).await;
    assert_eq!(examined::ledger(&as_role).await.unwrap(), None);
    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    store.apply(&views).await.unwrap();
    assert!(store.browser_session(&token("alice")).await.unwrap().is_some());
    assert!(store.community_by_key(&gardening).await.unwrap().is_some());
}

#[tokio::test]
async fn s23_an_update_that_is_not_allowed_keeps_no_event_from_being_written() {
    let site = Site::new(Variant::PostgresDefault).await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA headcount TO {role};
         GRANT ALL ON ALL TABLES IN SCHEMA headcount TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         GRANT INSERT ON accounts_userevent TO {role}"
    ))
    .await;
    let limited = as_role(&site.config, &role);
    let found = problems(&limited).await;
    assert!(
        found.len() == 2 && found.iter().all(|problem| problem.contains("GRANT UPDATE")),
        "{found:?}"
    );
    let alice = site.member("alice").await;
    let session = site.session(&alice, "alice", SessionRow::default()).await;
    let gardening = site.community("gardening").await;
    let views = batch(&session, &gardening, vec![page_view("2024-03-01T10:00:00Z")]);
    let store = store::open(&limited).unwrap();
    store.apply(&views).await.unwrap();
    assert_eq!(
        (site.events().await.len(), site.pages_visited(&session).await),
        (1, 0)
    );

    // Taken back while the sidecar runs, and given again.
    let granted = "UPDATE ON accounts_usersession, accounts_userprofile";
    site.execute(&format!("GRANT {granted} TO {role}")).await;
    let store = store::open(&limited).unwrap();
    store.apply(&another(&views)).await.unwrap();
    assert_eq!(site.pages_visited(&session).await, 1);
    site.execute(&format!("REVOKE {granted} FROM {role}")).await;
    let again = another(&views);
    let refused = store.apply(&again).await.unwrap_err();
    assert!(refused.nothing_written(), "{refused:?}");
    store.apply(&again).await.unwrap();
    assert_eq!(
        (site.events().await.len(), site.pages_visited(&session).await),
        (3, 1)
    );
}

#[tokio::test]
async fn a_schema_and_a_sequence_that_may_not_be_used_are_named() {
    let site = Site::new(Variant::PostgresRenamed).await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    site.execute(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT ALL ON ALL TABLES IN SCHEMA forum TO {role};
         ALTER TABLE forum.\"audit_Event\" DROP id, ADD id bigserial PRIMARY KEY"
    ))
    .await;
    let found = problems(&as_role(&site.config, &role)).await;
    let usage_of_schema = format!(
        "the database user \"{role}\" lacks USAGE ON SCHEMA \"forum\": GRANT USAGE ON SCHEMA \"forum\" TO \
         \"{role}\";"
    );
    assert!(found.contains(&usage_of_schema), "{found:#?}");
    let sequence = format!("GRANT USAGE ON SEQUENCE forum.\"audit_Event_id_seq\" TO \"{role}\";");
    assert!(
        found.iter().any(|problem| problem.ends_with(&sequence)),
        "{found:#?}"
    );
}
