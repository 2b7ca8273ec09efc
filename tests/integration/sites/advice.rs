//! What init proposes beside what fits: a role of its own, and a host that the site answers to.

use sqlx::{AssertSqlSafe, Executor as _};

use super::{init, init_with};
use crate::support::backend;
use crate::support::process::run;
use crate::support::subject::{Foreign, Subject};

/// The comment's steps, as an operator takes them.
#[tokio::test]
async fn d7_the_role_that_init_proposes_is_enough() {
    let subject = Subject::foreign(Foreign::Clubs, false).await;
    let folder = tempfile::tempdir().expect("a folder");
    let told = init(&subject, &folder);
    assert!(told.out.contains("to decide: database.url"), "{}", told.out);
    let file = folder.path().join("headcount.toml");
    let config = file.to_str().expect("UTF-8");
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(
        !text.contains("%5F") && text.contains(&subject.direct_url()),
        "{text}"
    );
    let proposed = text
        .lines()
        .find_map(|line| line.strip_prefix("#url = \"postgres://headcount@"));
    let proposed = proposed.expect("a URL with a role of its own");

    let role = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
    let done = |arguments: &[&str]| {
        let told = run(&[arguments, &["--config", config]].concat(), &[]);
        assert_eq!(
            (told.code, &*told.err),
            (Some(0), ""),
            "{arguments:?}: {}",
            told.out
        );
        told.out
    };
    done(&["migrate"]);
    let rights = done(&["grants", "--role", &role]);
    let pool = subject.pool();
    let sql = format!("CREATE ROLE {role} LOGIN;\n{rights}");
    pool.execute(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await
        .expect("rights are given");
    pool.close().await;
    let of_the_owner = text
        .lines()
        .find(|line| line.starts_with("url = "))
        .expect("a URL");
    let text = text.replace(of_the_owner, &format!("url = \"postgres://{role}@{proposed}"));
    std::fs::write(&file, text).expect("the file is written");
    done(&["check"]);
}

#[tokio::test]
async fn d6_init_takes_a_host_that_the_site_answers_to_and_check_warns_of_others() {
    let subject = Subject::usual().await;
    let settings = tempfile::tempdir().expect("a folder");
    let narrow = "from community_site.settings import *\nALLOWED_HOSTS = ['.site.test']\n";
    std::fs::write(settings.path().join("narrow.py"), narrow).expect("a file");
    let more = [
        ("DJANGO_SETTINGS_MODULE", "narrow"),
        ("PYTHONPATH", settings.path().to_str().expect("UTF-8")),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let told = init_with(&subject, &folder, &more);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let file = folder.path().join("headcount.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    assert!(text.contains("health_host = \"site.test\""), "{text}");

    let project = backend::project();
    let [project, python, config] =
        [&project, &subject.python, &file].map(|path| path.to_str().expect("UTF-8"));
    let checked = |host: Option<&str>| {
        let environment = subject
            .environment
            .iter()
            .map(|(name, value)| (*name, &**value))
            .chain(more);
        let host = host.map(|host| ("HEADCOUNT__UPSTREAM__HEALTH_HOST", host));
        let environment: Vec<_> = environment.chain(host).collect();
        let told = run(
            &[
                "check",
                "--offline",
                "--config",
                config,
                "--django",
                project,
                "--python",
                python,
            ],
            &environment,
        );
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        told.out
    };
    let said = checked(None);
    assert!(
        said.contains("the site's settings go with the configuration"),
        "{said}"
    );
    let said = checked(Some("localhost"));
    assert!(said.contains("upstream.health_host = \"site.test\""), "{said}");
}
