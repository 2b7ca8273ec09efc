//! A role that may not migrate is told which GRANT lets it, or whose tables they are.

use super::{as_role, command, configuration, execute};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::world::Parts;

/// The statements that an error ends with, to be pasted.
fn after<'a>(error: &'a str, sentence: &str) -> &'a str {
    let (_, statements) = error.split_once(sentence).unwrap_or_else(|| panic!("{error}"));
    statements
}

#[tokio::test]
async fn d8_what_migrate_needs_is_a_grant_or_the_owner() {
    let database = Database::unmigrated(Parts::Production, Variant::Default).await;
    let config = configuration(&database);
    let name = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
    execute(&database, &format!("CREATE ROLE {name} LOGIN")).await;
    let as_role = as_role(&config, &name);
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| command(directory.path(), &as_role, arguments);

    // One remedy: a role that is not to migrate needs nothing.
    let told = run(&["migrate"]);
    let create = format!("GRANT CREATE ON DATABASE {} TO {name}", database.name());
    let owner = "run headcount migrate as role \"postgres\", the owner of table public.accounts_userevent and table \
                 public.accounts_usersession";
    assert!(
        told.err.contains(owner) && !told.err.contains("GRANT"),
        "{}",
        told.err
    );
    // An owner that lacks a right itself is given it first.
    let site = format!("site_{}", uuid::Uuid::new_v4().simple());
    let gives = |to: &str| {
        format!(
            "ALTER TABLE accounts_userevent OWNER TO {to}; ALTER TABLE accounts_usersession OWNER TO {to}"
        )
    };
    let taken = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    execute(
        &database,
        &format!("CREATE ROLE {site}; {}; {taken}", gives(&site)),
    )
    .await;
    let told = run(&["migrate"]);
    let first = format!(
        ": GRANT CREATE ON DATABASE {} TO {site}; GRANT USAGE, CREATE ON SCHEMA public TO {site}; run headcount migrate as \
         role \"{site}\", the owner of",
        database.name()
    );
    assert!(
        told.err.contains(&first) && !told.err.contains(&name),
        "{}",
        told.err
    );
    execute(&database, &gives("postgres")).await;
    execute(&database, &create).await;
    let told = run(&["migrate"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert_eq!(told.out, "", "nothing is made that would be the wrong role's");
    assert!(
        told.err.contains("nothing was changed") && told.err.contains(owner),
        "{}",
        told.err
    );
    // The owner of the tables, but not of their schema.
    execute(&database, &gives(&name)).await;
    let told = run(&["migrate"]);
    let schema = format!("GRANT USAGE, CREATE ON SCHEMA public TO {name}");
    assert!(told.err.contains(&schema), "{}", told.err);
    assert!(!told.err.contains("as role"), "{}", told.err);
    execute(&database, &schema).await;
    let told = run(&["migrate"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
}

/// The sidecar makes the partitions itself, so that its role has the table, and the schema is another's.
#[tokio::test]
async fn d8_whoever_migrates_is_made_a_member_of_the_role_that_has_our_own_table() {
    for inherits in ["INHERIT", "NOINHERIT"] {
        let database = Database::unmigrated(Parts::Production, Variant::Default).await;
        let config = format!(
            "{}[record]\nevents = \"own\"\nown_partitions = \"month\"\n",
            configuration(&database)
        );
        let [owner, sidecar] =
            ["Owner \"of\" all", "sidecar"].map(|name| format!("{name} {}", uuid::Uuid::new_v4()));
        let [owner_sql, sidecar_sql] =
            [&owner, &sidecar].map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
        execute(
            &database,
            &format!(
                "CREATE ROLE {owner_sql} LOGIN {inherits}; CREATE ROLE {sidecar_sql} LOGIN;
                 GRANT CREATE ON DATABASE {} TO {owner_sql}; GRANT CREATE, USAGE ON SCHEMA public TO {owner_sql};
                 ALTER TABLE accounts_usersession OWNER TO {owner_sql}",
                database.name()
            ),
        )
        .await;
        let in_url = owner.replace(' ', "%20").replace('"', "%22");
        let config = as_role(&config, &in_url);
        let directory = tempfile::tempdir().expect("a directory");
        let migrate = || command(directory.path(), &config, &["migrate"]);
        let told = migrate();
        assert_eq!((told.code, &*told.err), (Some(0), ""), "{inherits}");

        execute(
            &database,
            &format!(
                "ALTER TABLE headcount.page_view OWNER TO {sidecar_sql};
                 ALTER TABLE headcount.page_view_default OWNER TO {sidecar_sql};
                 GRANT CREATE ON SCHEMA headcount TO {sidecar_sql};
                 DO $$ BEGIN EXECUTE 'DROP TABLE headcount.page_view_' || to_char(
                     (now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM'); END $$"
            ),
        )
        .await;
        let told = migrate();
        assert_eq!(told.code, Some(1), "{told:?}");
        let belongs = format!(
            "table headcount.page_view belongs to role {sidecar_sql}, and the rest to this one; as a superuser run: "
        );
        let statements = after(&told.err, &belongs);
        assert!(statements.trim_end().ends_with(';'), "{statements}");
        execute(&database, statements).await;
        let told = migrate();
        assert_eq!((told.code, &*told.err), (Some(0), ""), "{inherits}");
    }
}

/// Each needs an index, which only its owner makes.
#[tokio::test]
async fn d8_partitions_of_another_role_are_named_before_anything_is_made() {
    let database = Database::unmigrated(Parts::Production, Variant::Default).await;
    let [owner, other] = ["owner", "other"].map(|name| format!("{name}_{}", uuid::Uuid::new_v4().simple()));
    execute(
        &database,
        &format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {other}; GRANT CREATE ON DATABASE {} TO {owner};
             GRANT CREATE, USAGE ON SCHEMA public TO {owner};
             ALTER TABLE accounts_userevent RENAME TO former;
             CREATE TABLE accounts_userevent (LIKE former INCLUDING DEFAULTS) PARTITION BY RANGE (timestamp);
             CREATE TABLE one PARTITION OF accounts_userevent FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
             CREATE TABLE others PARTITION OF accounts_userevent DEFAULT;
             ALTER TABLE accounts_userevent OWNER TO {owner}; ALTER TABLE accounts_usersession OWNER TO {owner};
             ALTER TABLE one OWNER TO {other}; ALTER TABLE others OWNER TO {other}",
            database.name()
        ),
    )
    .await;
    let config = as_role(&configuration(&database), &owner);
    let directory = tempfile::tempdir().expect("a directory");
    let migrate = || command(directory.path(), &config, &["migrate"]);
    let told = migrate();
    assert_eq!((told.code, &*told.out), (Some(1), ""), "{told:?}");
    let belong = format!(
        "partitions of table public.accounts_userevent belong to role \"{other}\", and the rest to this one; as a superuser run: "
    );
    let statements = after(&told.err, &belong);
    assert_eq!(
        statements.trim_end(),
        format!("GRANT \"{other}\" TO \"{owner}\";")
    );
    execute(&database, statements).await;
    let told = migrate();
    assert_eq!((told.code, &*told.err), (Some(0), ""));
}
