//! `headcount migrate`, as seen from outside: what it prints, and what is in the database afterwards.

use sqlx::sqlite::SqlitePool;

use super::Folder;
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::world::Parts;

/// Names of all tables and indexes.
async fn relations(parts: Parts, database: &Database) -> Vec<String> {
    match parts {
        Parts::Production => {
            let pool = Postgres::shared().pool(database.name());
            sqlx::query_scalar(
                "SELECT format('%s.%s', relnamespace::regnamespace, relname) FROM pg_class
                 WHERE relkind IN ('r', 'i') AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%' ORDER BY 1",
            )
            .fetch_all(&pool)
            .await
            .expect("an answer")
        }
        Parts::Embedded => {
            let pool = SqlitePool::connect(&database.url())
                .await
                .expect("the file opens");
            sqlx::query_scalar("SELECT name FROM sqlite_master ORDER BY 1")
                .fetch_all(&pool)
                .await
                .expect("an answer")
        }
    }
}

async fn migrating(parts: Parts) {
    let database = Database::unmigrated(parts, Variant::Default).await;
    let config = format!(
        "[upstream]\nservers = [\"a:1\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    );
    let folder = Folder::new(&config, "");
    let run = |arguments: &[&str]| {
        let told = folder.run(arguments);
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        told.out
    };
    let before = relations(parts, &database).await;

    let plan = run(&["migrate", "--dry-run"]);
    assert!(plan.starts_with("-- ") && plan.contains("CREATE TABLE"), "{plan}");
    assert!(plan.contains("CREATE INDEX"), "{plan}");
    assert_eq!(
        relations(parts, &database).await,
        before,
        "a dry run changes nothing"
    );

    let steps =
        plan.strip_suffix("-- nothing has been changed: headcount migrate without --dry-run runs this\n");
    let steps = steps.unwrap_or_else(|| panic!("it is said that nothing was done: {plan}"));
    let done = run(&["migrate"]);
    let number = done
        .strip_prefix(steps)
        .expect("what is done is what was announced");
    let number = number
        .strip_prefix("done: ")
        .and_then(|number| number.strip_suffix(" steps\n"));
    let titles = steps.lines().filter(|line| line.starts_with("-- ")).count();
    assert!(
        number.is_some_and(|number| number
            .parse::<usize>()
            .is_ok_and(|number| number > 1 && number <= titles)),
        "{done}"
    );
    let after = relations(parts, &database).await;
    assert!(after.len() > before.len());
    assert!(before.iter().all(|name| after.contains(name)));

    for again in [&["migrate"][..], &["migrate", "--dry-run"]] {
        assert_eq!(run(again), "nothing to do\n");
    }
    assert_eq!(relations(parts, &database).await, after);
}

#[tokio::test]
async fn on_postgres_what_was_announced_is_done_once() {
    migrating(Parts::Production).await;
}

#[tokio::test]
async fn on_sqlite_what_was_announced_is_done_once() {
    migrating(Parts::Embedded).await;
}
