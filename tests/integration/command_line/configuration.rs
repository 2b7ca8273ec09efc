//! Wrong configurations: exit code 64 and one line with file, line, key and remedy, before a port is bound.

use super::{Folder, IN_ORDER};
use crate::support::process;

/// What is appended to a configuration that is in order; line (from 1) and key that are named; what is said.
type Case = (&'static str, usize, &'static str, &'static str);

const WRONG: &[Case] = &[
    (
        "[upsteam]",
        5,
        "upsteam",
        "unknown field `upsteam`, expected one of",
    ),
    (
        "[session]\ncookies = \"sid\"",
        6,
        "session.cookies",
        "unknown field `cookies`, expected one of",
    ),
    (
        "[session]\nrevocation = \"trigger\"",
        6,
        "session.revocation",
        "\"trigger\" needs a Postgres database",
    ),
    (
        "[record]\nwindow = 300",
        6,
        "record.window",
        "invalid type: integer `300`, expected a duration, for example \"5s\"",
    ),
    (
        "[record]\nwindow = \"soon\"",
        6,
        "record.window",
        "invalid value: string \"soon\", expected a duration, for example \"5s\"",
    ),
    (
        "[limits]\nmax_header_bytes = \"many\"",
        6,
        "limits.max_header_bytes",
        "expected a size, for example \"64KiB\"",
    ),
    (
        "[limits]\ntrusted_proxies = [\"10.0.0.0/64\"]",
        6,
        "limits.trusted_proxies[0]",
        "\"10.0.0.0/64\" is neither a network nor an address",
    ),
    (
        "[record]\nwindow = \"10ms\"",
        6,
        "record.window",
        "must be at least \"1s\"",
    ),
    (
        "[api]\naccess = \"friends\"",
        6,
        "api.access",
        "unknown variant `friends`, expected one of",
    ),
    (
        "[api]\nprefix = \"api\"",
        6,
        "api.prefix",
        "must start with / and not end with it, for example",
    ),
    ("[log]\nfilter = \"=\"", 6, "log.filter", "is not a filter"),
    (
        "[redis]\nurl = \"redis://:hunter2@host:port\"",
        6,
        "redis.url",
        "is not a URL of a Redis server; write",
    ),
    (
        "[redis]\nurl_file = \"nowhere\"",
        6,
        "redis.url_file",
        "nowhere cannot be read (No such file",
    ),
    ("[upstream]", 5, "", "duplicate key"),
    ("= 1", 5, "", "key"),
];

#[test]
fn a_wrong_configuration_is_one_line_with_file_line_key_and_remedy() {
    for (addition, line, key, said) in WRONG {
        let folder = Folder::new(&format!("{IN_ORDER}{addition}\n"), "");
        let told = folder.run(&["run"]);
        assert_eq!((told.code, &*told.out), (Some(64), ""), "{addition}: {told:?}");
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("{key}: ")
        };
        let start = format!("headcount: {}:{line}: {key}", folder.path("headcount.toml"));
        assert!(told.err.starts_with(&start), "{addition}: {}", told.err);
        assert!(told.err[start.len()..].contains(said), "{addition}: {}", told.err);
        assert_eq!(told.err.lines().count(), 1, "{}", told.err);
        assert!(!told.err.contains("hunter2"), "{}", told.err);
    }
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    for (config, key, said) in [
        (
            "[database]\nurl = \"sqlite:x\"",
            "upstream.servers",
            "no server is given; write",
        ),
        (
            "[upstream]\nservers = [\"a:1\"]",
            "database.url",
            "is missing; write the app's database",
        ),
    ] {
        let folder = Folder::new(config, "");
        let told = folder.run(&["run"]);
        assert_eq!(told.code, Some(64));
        let file = folder.path("headcount.toml");
        assert!(
            told.err.starts_with(&format!("headcount: {file}: {key}: {said}")),
            "{}",
            told.err
        );
    }
}

#[test]
fn every_command_refuses_a_wrong_configuration_alike() {
    let folder = Folder::new("[upstream]\nservers = []", "");
    let expected = format!(
        "{}:2: upstream.servers: no server is given; write where the app listens, for example servers = \
         [\"127.0.0.1:8000\"]",
        folder.path("headcount.toml")
    );
    for command in [
        &["run"][..],
        &["check"],
        &["check", "--offline"],
        &["routes", "test", "/"],
        &["migrate"],
        &["migrate", "--dry-run"],
    ] {
        folder.run(command).is_one_message(64, &expected);
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let folder = Folder::new(IN_ORDER, "");
    for (name, value, said) in [
        ("HEADCOUNT__RECORD__WINDOW", "soon", "record.window: "),
        (
            "HEADCOUNT__UPSTREAM__SERVERS",
            "[]",
            "upstream.servers: no server is given",
        ),
        ("HEADCOUNT__DATABASE__URI", "x", "unknown field `uri`"),
        (
            "HEADCOUNT__DATABASE__URL__FILE",
            "x",
            "names no key; write HEADCOUNT__SECTION__KEY, for example HEADCOUNT__DATABASE__URL",
        ),
    ] {
        let told = folder.run_with(&["run"], &[(name, value)]);
        assert_eq!(told.code, Some(64), "{told:?}");
        let start = format!("headcount: environment variable {name}: ");
        assert!(
            told.err.starts_with(&start) && told.err.contains(said),
            "{}",
            told.err
        );
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named_with_the_option() {
    let told = process::run(&["run", "--config", "/nowhere/headcount.toml"], &[]);
    told.is_one_message(
        64,
        "/nowhere/headcount.toml: cannot be read (No such file or directory (os error 2)); name another file \
         with --config, or have one written: headcount init",
    );
}

#[test]
fn a_secret_file_that_cannot_be_used_is_named() {
    let config = "[upstream]\nservers = [\"a:1\"]\n[database]\nurl_file = \"secret\"\n";
    let folder = Folder::new(config, "");
    let start = format!(
        "{}:4: database.url_file: {}",
        folder.path("headcount.toml"),
        folder.path("secret")
    );
    folder.run(&["run"]).is_one_message(
        64,
        &format!("{start} cannot be read (No such file or directory (os error 2))"),
    );
    std::fs::write(folder.path("secret"), "\n").unwrap();
    folder
        .run(&["run"])
        .is_one_message(64, &format!("{start} is empty; it must hold the URL"));
    std::fs::write(folder.path("secret"), "postgres://app:hun/ter2@db/app\n").unwrap();
    let told = folder.run(&["run"]);
    assert_eq!(told.code, Some(64));
    assert!(
        told.err.contains("database.url") && !told.err.contains("hun"),
        "{}",
        told.err
    );
}

#[test]
fn a_certificate_that_is_none_is_refused_before_the_site_is_served() {
    let config = format!("{IN_ORDER}[log]\n");
    let folder = Folder::new(&config, "");
    for file in ["site.pem", "site.key"] {
        std::fs::write(folder.path(file), "not PEM\n").unwrap();
    }
    let listener = "[{ address = \"127.0.0.1:0\", certificate = \"site.pem\", key = \"site.key\" }]";
    folder.run_with(&["run"], &[("HEADCOUNT__LISTEN__HTTPS", listener)]).is_one_message(
        64,
        &format!(
            "environment variable HEADCOUNT__LISTEN__HTTPS: listen.https: {} holds no certificate, or {} no \
             private key; both must be PEM files",
            folder.path("site.pem"),
            folder.path("site.key")
        ),
    );
}
