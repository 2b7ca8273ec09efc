//! Tests of environment variables over the file, and of secrets in files of their own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::*;

#[test]
fn a_variable_takes_the_place_of_the_file_that_holds_a_secret() {
    let text = "[upstream]\nservers = [\"127.0.0.1:8000\"]\n[database]\nurl_file = \"nowhere\"";
    let config = parse_with(text, &[("HEADCOUNT__DATABASE__URL", "postgres://owner@db/app")]).unwrap();
    assert_eq!(config.database.url.unwrap().expose(), "postgres://owner@db/app");
    let both = [
        ("HEADCOUNT__DATABASE__URL", "postgres://owner@db/app"),
        ("HEADCOUNT__DATABASE__URL_FILE", "nowhere"),
    ];
    assert!(
        parse_with(text, &both)
            .unwrap_err()
            .to_string()
            .contains("is set too")
    );
}

#[test]
fn variables_of_others_may_hold_anything_but_ours_are_text() {
    let garbage = || OsString::from_vec(vec![0xff]);
    let others = [("LS_COLORS".into(), garbage()), (garbage(), "x".into())];
    assert_eq!(variables(others), Ok(Vec::new()));
    let ours = variables([("HEADCOUNT__DATABASE__URL".into(), garbage())]);
    let message = ours.unwrap_err().to_string();
    assert_eq!(
        message,
        "environment variable HEADCOUNT__DATABASE__URL: is not valid UTF-8; write it as text"
    );
}

#[test]
fn a_variable_overrides_the_file() {
    let config = parse_with(
        MINIMAL,
        &[
            ("HEADCOUNT__DATABASE__URL", "sqlite:///tmp/app.db"),
            (
                "HEADCOUNT__UPSTREAM__SERVERS",
                "[\"10.0.0.1:80\", \"unix:/run/app.sock\"]",
            ),
            ("HEADCOUNT__LISTEN__THREADS", "2"),
            ("UNRELATED", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.database.url.unwrap().expose(), "sqlite:///tmp/app.db");
    assert_eq!(config.upstream.servers, ["10.0.0.1:80", "unix:/run/app.sock"]);
    assert_eq!(config.listen.threads, 2);
}

#[test]
fn a_wrong_variable_is_named() {
    let message = parse_with(MINIMAL, &[("HEADCOUNT__RECORD__WINDOW", "soon")])
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("environment variable HEADCOUNT__RECORD__WINDOW: record.window: "),
        "{message}"
    );
    let message = parse_with(MINIMAL, &[("HEADCOUNT__API__PREFIX", "api")])
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("environment variable HEADCOUNT__API__PREFIX: api.prefix: "),
        "{message}"
    );
    let message = parse_with(MINIMAL, &[("HEADCOUNT__RECORD__WINDOWS", "5s")])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("HEADCOUNT__RECORD__WINDOWS") && message.contains("unknown field"),
        "{message}"
    );
}

#[test]
fn a_secret_may_come_from_a_file_and_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("db"), "postgres://app:hunter2@db/app\n").unwrap();
    let text = "[upstream]\nservers = [\"a:1\"]\n[database]\nurl_file = \"db\"\n";
    let config = Config::parse(&folder.path().join("headcount.toml"), text.into(), []).unwrap();
    assert_eq!(
        config.database.url.as_ref().unwrap().expose(),
        "postgres://app:hunter2@db/app"
    );
    assert!(!format!("{config:?}").contains("hunter2"));

    let both = "[upstream]\nservers = [\"a:1\"]\n[database]\nurl = \"sqlite:x\"\nurl_file = \"db\"\n";
    let message = Config::parse(&folder.path().join("c.toml"), both.into(), [])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(":5: database.url_file: database.url is set too"),
        "{message}"
    );

    let missing = "[upstream]\nservers = [\"a:1\"]\n[database]\nurl_file = \"nowhere\"\n";
    let message = Config::parse(&folder.path().join("c.toml"), missing.into(), [])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("database.url_file") && message.contains("cannot be read"),
        "{message}"
    );
}

#[test]
fn c4_a_text_key_takes_any_text_from_a_variable() {
    for text in ["2024", "true", "1.5", "[a]", "[1]", "2024-01-01"] {
        let config = parse_with(MINIMAL, &[("HEADCOUNT__REDIS__KEY_PREFIX", text)]).expect(text);
        assert_eq!(config.redis.key_prefix, text);
    }
    for text in ["1 # 2", "{}"] {
        let config = parse_with(MINIMAL, &[("HEADCOUNT__WIDGET__ATTRIBUTES__TITLE", text)]).expect(text);
        assert_eq!(config.widget.attributes["title"], text);
    }
    let several = [
        ("HEADCOUNT__REDIS__KEY_PREFIX", "1"),
        ("HEADCOUNT__SESSION__COOKIE", "2"),
        ("HEADCOUNT__API__MAX_DAYS", "3"),
        ("HEADCOUNT__WIDGET__ATTRIBUTES__AVATARS", "4"),
        ("HEADCOUNT__PRIVACY__QUERY_ALLOW", "[\"q\"]"),
    ];
    let config = parse_with(MINIMAL, &several).expect("all of them");
    assert_eq!((&*config.redis.key_prefix, &*config.session.cookie), ("1", "2"));
    assert_eq!(
        (config.api.max_days, &*config.widget.attributes["avatars"]),
        (3, "4")
    );
    assert_eq!(config.privacy.query_allow, ["q"]);
}

#[test]
fn a_variable_that_its_key_does_not_take_is_refused_for_what_it_is() {
    let error = parse_with(MINIMAL, &[("HEADCOUNT__RECORD__WINDOW", "300")]).expect_err("no unit");
    let text = error.to_string();
    assert!(
        text.contains("HEADCOUNT__RECORD__WINDOW: record.window: invalid type: integer `300`"),
        "{text}"
    );
}

#[test]
fn c4_variables_with_single_underscores_are_told_and_those_of_others_are_not() {
    let names = [
        "HEADCOUNT_DATABASE_URL",
        "HEADCOUNT_TEST_SECONDS",
        "HEADCOUNT__DATABASE__URL",
        "HEADCOUNT_PORT",
        "HEADCOUNT_REDIS_PORT_6379_TCP",
        "HEADCOUNT_REDIS_SERVICE_HOST",
    ];
    let told = super::misspelt(names.map(|name| (name.into(), "x".into())));
    let sentence = "HEADCOUNT_DATABASE_URL is not read; write two underscores between section and key: HEADCOUNT__DATABASE__URL";
    assert_eq!(told, [sentence]);
}
