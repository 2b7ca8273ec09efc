//! The lines of the manual that give the rights.

use std::path::Path;
use std::process::{Command, Output};

use super::{Role, command, execute};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::process;
use crate::support::sidecar;
use crate::support::world::Parts;

/// The lines, with another role and configuration.
fn lines(role: &str, config: &Path) -> String {
    let manual = include_str!("../../../deploy/README.md");
    let blocks = manual.split("```sh\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let block = blocks
        .find(|block| block.contains("headcount grants"))
        .expect("the lines");
    let this = format!("grants --role {role} --config {}", config.display());
    assert!(block.contains("grants --role headcount"), "{block}");
    block.replace("grants --role headcount", &this)
}

/// Runs the lines in a shell, with the binary's folder first in its path.
fn paste(lines: &str, url: &str) -> Output {
    let binary = process::binary();
    let folder = Path::new(&binary).parent().expect("a folder");
    let path = std::env::var("PATH").expect("a path");
    Command::new("bash")
        .args(["-c", lines])
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("OWNER_URL", url)
        .output()
        .expect("a shell")
}

#[tokio::test]
async fn d7_what_the_manual_says_to_paste_gives_the_rights_or_fails() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    );
    let role = Role::make(&database, &config).await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = sidecar::write_config(directory.path(), &config, "");
    let lines = lines(&role.name, &path);

    // Who may not give them hears of the first, and of no other.
    let url = database.url().replace("postgres@", &format!("{}@", role.name));
    execute(
        &database,
        &format!("GRANT CONNECT ON DATABASE {} TO {}", database.name(), role.name),
    )
    .await;
    let told = paste(&lines, &url);
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success(), "{errors}");
    assert_eq!(errors.matches("ERROR").count(), 1, "{errors}");

    // Where `headcount` fails, so do the lines.
    let faulty = lines.replace(path.to_str().expect("UTF-8"), "/nowhere/headcount.toml");
    let told = paste(&faulty, &database.url());
    assert!(
        !told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );

    let told = paste(&lines, &database.url());
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told = command(directory.path(), &role.uses(&config), &["check"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
}
