//! A role that lacks rights is told which GRANT gives them, or whose tables they are: by each command, and while the sidecar
//! runs.

use std::cell::RefCell;
use std::collections::BTreeSet;

use headcount::store;

use super::{Role, as_role, command, execute, parsed};
use crate::store_site::{SessionRow, Site, batch, page_view};
use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::examined;
use crate::support::redis::{eventually, eventually_or_else};
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World};

fn configuration(database: &Database) -> String {
    format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    )
}

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
        let (_, statements) = told
            .err
            .split_once(&belongs)
            .unwrap_or_else(|| panic!("{}", told.err));
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
    let (_, statements) = told
        .err
        .split_once(&belong)
        .unwrap_or_else(|| panic!("{}", told.err));
    assert_eq!(
        statements.trim_end(),
        format!("GRANT \"{other}\" TO \"{owner}\";")
    );
    execute(&database, statements).await;
    let told = migrate();
    assert_eq!((told.code, &*told.err), (Some(0), ""));
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

pub(super) async fn readyz(world: &World) -> String {
    let answer = reqwest::get(world.sidecar.admin_url("/readyz")).await;
    answer.expect("an answer").text().await.expect("text")
}

/// Waits until `/readyz` says it.
pub(super) async fn says(world: &World, it: impl Fn(&str) -> bool) {
    let last = RefCell::default();
    let asked = eventually_or_else(
        async || {
            let text = readyz(world).await;
            let is_so = it(&text);
            last.replace(text);
            is_so
        },
        || format!("{}\n{}", last.borrow(), world.sidecar.log()),
    );
    asked.await;
}

/// The sidecar as a role of its own, in front of a site of its own.
pub(super) async fn under_a_role(wanted: Wanted) -> (World, Role) {
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let site = Backend::start(wanted.variant, &database.url(), Settings::default());
    let config = wanted.configuration(&site, &database);
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let role = Role::make(&database, &config).await;
    execute(&database, &role.sql).await;
    let world = World {
        sidecar: Sidecar::start(&role.uses(&config)),
        site,
        database,
        seeded,
    };
    (world, role)
}

/// Bob's session was never read before, and cannot be when he opens the page.
#[tokio::test]
async fn p32_who_could_not_be_identified_at_the_view_is_present_as_soon_as_that_can_be() {
    let (world, role) = under_a_role(Wanted::usual()).await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let post = format!("{}posts/1/", world.community("rust"));
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let right = "SELECT (\"is_active\") ON TABLE \"public\".\"accounts_usersession\"";
    execute(&world.database, &format!("REVOKE {right} FROM {}", role.name)).await;
    bob.sees(&post).await;
    let failed = "headcount_session_lookups_total{outcome=\"unavailable\"}";
    world
        .sidecar
        .wait_for_metric(failed, |failed| failed >= 1.0)
        .await;
    execute(&world.database, &format!("GRANT {right} TO \"{}\"", role.name)).await;
    world.wait_for_views(2).await;
    let last = RefCell::default();
    let asked = eventually_or_else(
        async || {
            let mut counts = Vec::new();
            for path in [
                format!("/api{post}visitors/count"),
                world.visitors("rust", "/count"),
                "/api/visitors/count".to_owned(),
            ] {
                counts.push(alice.json(&path).await["current_visitors"].clone());
            }
            let are_there = counts == [1, 2, 2];
            last.replace(counts);
            are_there
        },
        || format!("{:?}\n{}", last.borrow(), world.sidecar.log()),
    );
    asked.await;
}

/// What `/readyz` says is pasted, and nothing else.
#[tokio::test]
async fn d10_a_right_that_is_revoked_while_it_runs_is_named_in_readyz() {
    let (world, role) = under_a_role(Wanted {
        session: "cache_ttl = \"1ms\"\nnegative_ttl = \"1ms\"".into(),
        ..Wanted::usual()
    })
    .await;
    let (alice, rust) = (world.member("alice").await, world.community("rust"));
    alice.sees(&rust).await;
    world.wait_for_views(1).await;
    assert_eq!(readyz(&world).await, "ok\n");
    let mut seen = 1;
    for right in [
        "INSERT (\"metadata\") ON TABLE \"public\".\"accounts_userevent\"",
        "UPDATE (\"pages_visited\") ON TABLE \"public\".\"accounts_usersession\"",
        "SELECT (\"is_active\") ON TABLE \"public\".\"accounts_usersession\"",
        "SELECT, INSERT, DELETE ON TABLE headcount.applied_batch",
    ] {
        let grant = format!("GRANT {right} TO \"{}\";", role.name);
        execute(&world.database, &format!("REVOKE {right} FROM {}", role.name)).await;
        alice.sees(&rust).await;
        seen += 1;
        // To be pasted as it is: one statement at the end of its line.
        let ends_a_line = |text: &str| text.lines().any(|line| line.ends_with(&grant));
        says(&world, ends_a_line).await;
        eventually(async || ends_a_line(&world.sidecar.log())).await;
        execute(&world.database, &grant).await;
        world.wait_for_views(seen).await;
        says(&world, |text| text == "ok\n").await;
    }
    assert!(
        !world.sidecar.log().contains("until its tables are changed"),
        "{}",
        world.sidecar.log()
    );
}
