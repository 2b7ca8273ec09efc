//! When init writes nothing, and what `check --django` warns of.

use crate::support::backend;
use crate::support::process::{Told, run};
use crate::support::subject::Subject;

#[test]
fn d2_nothing_is_overwritten() {
    for name in ["headcount.toml", "routes.d/communities.toml", "database-url"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(&file, "mine").expect("a file");
        let path = folder.path().to_str().expect("UTF-8");
        let told = run(&["init", "--database", "sqlite:///nowhere/app.db", path], &[]);
        assert_eq!(told.code, Some(64));
        assert!(
            told.err.contains(name) && told.err.contains("overwrites nothing"),
            "{}",
            told.err
        );
        assert_eq!(std::fs::read_to_string(&file).expect("a file"), "mine");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}

/// Runs init into a folder of its own, in which nothing may be left.
fn refused(arguments: &[&str]) -> Told {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("UTF-8");
    let told = run(&[&["init"], arguments, &[path]].concat(), &[]);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0,
        "{arguments:?}"
    );
    told
}

#[test]
fn d2_what_cannot_be_asked_is_one_message_with_its_cure() {
    let none = refused(&[]);
    assert_eq!(none.code, Some(64));
    assert!(
        none.err.contains("--database") && none.err.contains("--django"),
        "{}",
        none.err
    );
    let other = refused(&["--database", "mysql://app@db/site"]);
    assert_eq!(other.code, Some(64));
    assert!(other.err.contains("postgres://"), "{}", other.err);
    let down = refused(&["--database", "postgres://app:secret@127.0.0.1:9/site"]);
    assert_eq!(down.code, Some(1));
    assert!(!down.err.contains("secret"), "{}", down.err);
    let no_site = refused(&["--django", "/nowhere"]);
    assert_eq!(no_site.code, Some(64));
    assert!(no_site.err.contains("no manage.py"), "{}", no_site.err);
}

#[tokio::test]
async fn d6_check_asks_the_site_for_settings_that_break_behind_a_proxy() {
    let subject = Subject::usual().await;
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(super::init(&subject, &folder).code, Some(0));
    let config = folder.path().join("headcount.toml");
    let config = config.to_str().expect("UTF-8");
    let project = backend::project();
    let checked = |more: &[(&str, &str)]| {
        let mut environment: Vec<_> = subject
            .environment
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        environment.extend(more);
        let arguments = [
            "check",
            "--offline",
            "--config",
            config,
            "--django",
            project.to_str().expect("UTF-8"),
        ];
        let python = ["--python", subject.python.to_str().expect("UTF-8")];
        run(&[&arguments[..], &python].concat(), &environment)
    };
    // What no visitor is recognised with is a failure, for a pipeline to see.
    let told = checked(&[
        ("HEADCOUNT__SESSION__KIND", "django"),
        ("HEADCOUNT__SESSION__COOKIE", "another"),
    ]);
    assert!(
        told.code == Some(64) && told.err.contains("no visitor is recognised: set session.cookie"),
        "{told:?}"
    );
    let checked = |more: &[(&str, &str)]| {
        let told = checked(more);
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        told.out
    };
    let said = checked(&[]);
    assert!(
        said.contains("the site's settings go with the configuration"),
        "{said}"
    );
    let behind_a_proxy = ("HEADCOUNT__LIMITS__TRUSTED_PROXIES", "[\"10.0.0.1\"]");
    // A site that compares no origins refuses no forms.
    let said = checked(&[behind_a_proxy]);
    assert!(!said.contains("Origin checking failed"), "{said}");
    let said = checked(&[behind_a_proxy, ("BACKEND_CHECKS_FORMS", "1")]);
    assert!(
        said.contains("warning: ") && said.contains("Origin checking failed"),
        "{said}"
    );
}
