//! All rights that a role lacks are told at once: each statement once, in the order of `headcount grants`, ready to be pasted.

use headcount::store;

use super::{Role, command, execute, parsed};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::service::free_port;
use crate::support::world::Parts;

/// The statements in a text.
fn statements(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("GRANT ")).collect()
}

/// With events of our own, counters, and a lookup in a schema that has nothing else.
#[tokio::test]
async fn d20_all_that_a_role_lacks_is_told_at_once_as_grants_prints_it() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Counters).await;
    execute(
        &database,
        "CREATE SCHEMA forum; CREATE TABLE forum.topic (id bigint PRIMARY KEY, forum_id bigint)",
    )
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n[record]\nevents = \"own\"\n\
         [counters]\nenabled = true\n[schema.lookup.topic]\ntable = \"forum.topic\"\ncommunity = \"forum_id\"\n\
         [listen]\nhttp = [\"127.0.0.1:{}\"]\nadmin = \"127.0.0.1:{}\"\n[spool]\ndir = \"{}/spool\"\n",
        database.url(),
        free_port(),
        free_port(),
        directory.path().display()
    );
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let role = Role::make(&database, &config).await;
    let as_role = role.uses(&config);
    let run = |arguments: &[&str]| command(directory.path(), &as_role, arguments);
    let printed = statements(&role.sql);
    let (connect, printed) = printed.split_first().expect("rights");
    execute(&database, connect).await;

    // A start needs the ledger, and says all the same.
    for arguments in [["check"], ["run"]] {
        let told = run(&arguments);
        assert_eq!(told.code, Some(64), "{told:?}");
        assert_eq!(statements(&told.err), printed, "{arguments:?}: {}", told.err);
    }
    execute(&database, &printed.concat()).await;
    let told = run(&["check"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));

    // Of several rights of one statement exactly what is missing.
    let name = &role.name;
    let missing = [
        "USAGE ON SCHEMA \"forum\"",
        "UPDATE (\"pages_visited\") ON TABLE \"public\".\"accounts_usersession\"",
        "SELECT (\"slug\"), UPDATE (\"page_views\") ON TABLE \"public\".\"communities_community\"",
        "DELETE ON TABLE headcount.applied_batch",
        "SELECT ON TABLE headcount.counter, headcount.counter_visitor",
    ];
    for right in missing {
        execute(&database, &format!("REVOKE {right} FROM {name}")).await;
    }
    let told = run(&["check"]);
    assert_eq!(told.code, Some(64), "{told:?}");
    let grants: Vec<_> = missing
        .map(|right| format!("GRANT {right} TO \"{name}\";"))
        .into();
    assert_eq!(statements(&told.err), grants, "{}", told.err);
}
