//! What must be in order before page views can be written: refused at start, with the remedy.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::sqlite::SqlitePool;

use super::{Folder, IN_ORDER};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::sidecar::ROUTES;
use crate::support::world::Parts;

fn with_spool(keys: &str) -> Folder {
    Folder::new(&format!("{IN_ORDER}[spool]\n{keys}\n"), ROUTES)
}

/// Both say the same: who checks first is not surprised later.
#[track_caller]
fn run_and_check_say(folder: &Folder, said: &str) {
    folder.run(&["check", "--offline"]).is_err_with(said);
    folder.run(&["run"]).is_one_message(64, said);
}

impl crate::support::process::Told {
    #[track_caller]
    fn is_err_with(&self, said: &str) {
        assert_eq!(
            (self.code, &*self.err),
            (Some(64), &*format!("headcount: {said}\n"))
        );
    }
}

#[test]
fn a_spool_folder_that_others_can_read_is_refused_with_the_remedy() {
    let folder = with_spool("dir = \"page-views\"");
    let path = folder.path("page-views");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = format!("spool.dir: {path} is open to others (mode 0755); run: chmod 700 {path}");
    run_and_check_say(&folder, &said);
}

#[test]
fn a_spool_folder_that_cannot_be_written_is_refused_with_the_remedy() {
    let folder = with_spool("");
    let path = folder.path("spool");
    std::fs::write(&path, "").unwrap();
    let said = format!(
        "spool.dir: {path} cannot be written to (not a directory); make it a folder that belongs to this user, on a \
         disk that is not full, or give another"
    );
    run_and_check_say(&folder, &said);

    let folder = with_spool("dir = \"/proc/spool\"");
    for command in [&["run"][..], &["check", "--offline"]] {
        let told = folder.run(command);
        assert_eq!(told.code, Some(64));
        let start = "headcount: spool.dir: /proc/spool cannot be made (";
        assert!(
            told.err.starts_with(start) && told.err.lines().count() == 1,
            "{told:?}"
        );
    }
}

#[test]
fn a_check_leaves_no_spool_folder_behind() {
    let folder = with_spool("dir = \"a/b/spool\"");
    std::fs::create_dir(folder.path("a")).unwrap();
    let told = folder.run(&["check", "--offline"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert_eq!(std::fs::read_dir(folder.path("a")).unwrap().count(), 0);
}

#[test]
fn a_limit_below_one_batch_is_refused() {
    let folder = with_spool("max_bytes = \"1KiB\"");
    let said = format!(
        "{}:6: spool.max_bytes: is 1.0 KiB, must be at least record.batch_bytes (1.0 MiB), or there is no room for \
         one batch",
        folder.path("headcount.toml")
    );
    for command in [&["run"][..], &["check", "--offline"], &["dead-letters", "list"]] {
        folder.run(command).is_one_message(64, &said);
    }
}

#[tokio::test]
async fn a_ledger_that_is_missing_or_newer_is_refused_with_the_remedy() {
    let database = Database::unmigrated(Parts::Embedded, Variant::Default).await;
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    );
    let folder = Folder::new(&config, ROUTES).with_its_port_free();
    let missing = "the ledger of applied batches is missing; run `headcount migrate` once";
    let told = folder.run(&["run"]);
    assert_eq!(
        (told.code, &*told.err),
        (Some(64), &*format!("headcount: database: {missing}\n"))
    );
    let told = folder.run(&["check"]);
    assert_eq!(told.code, Some(64));
    assert!(told.err.ends_with(&format!("database: {missing}\n")), "{told:?}");

    assert_eq!(folder.run(&["migrate"]).code, Some(0));
    assert_eq!(folder.run(&["check"]).code, Some(0));
    let pool = SqlitePool::connect(&database.url()).await.unwrap();
    sqlx::raw_sql("UPDATE headcount_format SET version = 9")
        .execute(&pool)
        .await
        .unwrap();
    for command in ["run", "check"] {
        let told = folder.run(&[command]);
        assert_eq!(told.code, Some(64), "{told:?}");
        assert!(
            told.err.contains("has version 9, this program knows 1"),
            "{told:?}"
        );
    }
}

#[test]
fn where_nothing_is_written_nothing_of_it_is_needed() {
    let folder = Folder::new(
        &format!("{IN_ORDER}[record]\nevents = false\npages_visited = false\nlast_active = false\n"),
        ROUTES,
    );
    std::fs::write(folder.path("spool"), "").unwrap();
    assert_eq!(folder.run(&["check", "--offline"]).code, Some(0));
}
