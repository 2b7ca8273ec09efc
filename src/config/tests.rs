//! Tests of wrong configurations and their error messages.

mod example;
mod redis;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use super::*;

const MINIMAL: &str = r#"
[upstream]
servers = ["127.0.0.1:8000"]

[database]
url = "postgres://app:secret@db/app"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("etc/headcount.toml"), text.into(), [])
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("etc/headcount.toml"), text.into(), variables)
}

#[track_caller]
fn refused(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

#[test]
fn what_is_no_finite_number_is_none_and_may_be_a_text() {
    for (section, key, value) in [
        ("limits", "max_connections", "inf"),
        ("api", "site_identities", "nan"),
    ] {
        let problem = refused(&format!("{MINIMAL}\n[{section}]\n{key} = {value}"));
        assert!(problem.contains(&format!("{section}.{key}")), "{problem}");
    }
    let config = parse_with(
        MINIMAL,
        &[
            ("HEADCOUNT__REDIS__URL", "redis://127.0.0.1/"),
            ("HEADCOUNT__REDIS__PASSWORD", "nan"),
            ("HEADCOUNT__REDIS__USERNAME", "inf"),
        ],
    );
    assert_eq!(config.unwrap().redis.username.as_deref(), Some("inf"));
}

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
fn two_keys_are_enough() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.upstream.servers, ["127.0.0.1:8000"]);
    assert_eq!(config.session.cookie, "session_id");
    assert_eq!(config.routes.dir, Path::new("etc/routes.d"));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let message = refused("[upstream]\nservers = [\"a:1\"]\nserver = 1\n");
    assert!(
        message.starts_with("etc/headcount.toml:3: upstream.server: unknown field"),
        "{message}"
    );
}

#[test]
fn a_syntax_error_is_named_with_its_line() {
    let message = refused("[upstream]\nservers = [\"a:1\"\n\n[database]\n");
    assert!(message.starts_with("etc/headcount.toml:"), "{message}");
}

#[test]
fn a_wrong_type_is_named_with_key_and_line() {
    let message = refused("[record]\n\nwindow = 5\n");
    assert!(
        message.starts_with("etc/headcount.toml:3: record.window: "),
        "{message}"
    );
    let message = refused("[record]\nwindow = \"five minutes\"\n");
    assert!(
        message.starts_with("etc/headcount.toml:2: record.window: "),
        "{message}"
    );
}

#[test]
fn a_broken_rule_is_named_with_the_line_of_its_key() {
    let message = refused("[upstream]\nservers = [\n  \"http://app\",\n]\n[database]\nurl = \"sqlite:x\"\n");
    assert_eq!(
        message,
        "etc/headcount.toml:2: upstream.servers[0]: \"http://app\" is a URL; write host:port or unix:/path \
         without a scheme"
    );
    let message = refused("[upstream]\nservers = [\"a:1\"]\n");
    assert!(
        message.starts_with("etc/headcount.toml: database.url: is missing; write"),
        "{message}"
    );
}

#[test]
fn every_rule_names_its_key() {
    for (addition, key) in [
        ("[listen]\nhttp = []", "listen.http"),
        ("[listen]\nthreads = 0", "listen.threads"),
        (
            "[listen]\nhttp = [\"127.0.0.1:80\", \"127.0.0.1:80\"]",
            "listen.http",
        ),
        (
            "[listen]\nhttps = [{ address = \"0.0.0.0:443\", certificate = \"no.pem\", key = \"no.key\" }]",
            "listen.https",
        ),
        (
            "[listen]\nadmin_hosts = [\"http://stats.example.org\"]",
            "listen.admin_hosts",
        ),
        (
            "[listen]\nadmin_hosts = [\"stats.example.org:80\"]",
            "listen.admin_hosts",
        ),
        ("[redis]\nurl = \"http://r\"", "redis.url"),
        ("[redis]\nurl = \"redis://host:port\"", "redis.url"),
        ("[redis]\nkey_prefix = \"{a}\"", "redis.key_prefix"),
        ("[redis]\npartitions = 1025", "redis.partitions"),
        ("[session]\ncookie = \"a b\"", "session.cookie"),
        ("[session]\ntoken_min_length = 0", "session.token_min_length"),
        ("[session]\nmax_lookups = 0", "session.max_lookups"),
        ("[session]\nrevocation = \"on\"", "session.revocation"),
        ("[schema.event]\ntable = \"\"", "schema.event.table"),
        ("[session]\nkind = \"cookie\"", "session.kind"),
        ("[session]\ntoken_hash = \"md5\"", "session.token_hash"),
        (
            "[schema.session.columns]\nuser_id = \"\"",
            "schema.session.columns.user_id",
        ),
        (
            "[schema.session.columns]\nsession_id = \"\"",
            "schema.session.columns.session_id",
        ),
        (
            "[schema.django_session]\ntable = \"\"",
            "schema.django_session.table",
        ),
        ("[record]\nwindow = \"0s\"", "record.window"),
        ("[record]\ncoalesce = \"10m\"", "record.coalesce"),
        ("[record]\ncoalesce = \"2m\"", "record.coalesce"),
        ("[record]\nqueue_views = 10", "record.batch_views"),
        ("[record]\nqueue_bytes = \"1KiB\"", "record.batch_bytes"),
        ("[record]\nbatch_age = \"0s\"", "record.batch_age"),
        ("[record]\nkeep_applied = \"2h\"", "record.keep_applied"),
        ("[api]\nprefix = \"api\"", "api.prefix"),
        ("[api]\nbackend_check = \"/api/\"", "api.backend_check"),
        ("[api]\nmax_limit = 0", "api.max_limit"),
        ("[api]\nmax_days = 0", "api.max_days"),
        ("[limits]\nmax_header_bytes = \"2MiB\"", "limits.max_header_bytes"),
        ("[limits]\nread_timeout = \"0s\"", "limits.read_timeout"),
        (
            "[limits]\nidentity_headers = [\"Remote-User\", \"Remote User\"]",
            "limits.identity_headers[1]",
        ),
        (
            "[limits]\nidentity_headers = [\"\"]",
            "limits.identity_headers[0]",
        ),
        (
            "[limits]\nidentity_headers = [\"Remote_User\"]",
            "limits.identity_headers[0]",
        ),
        (
            "[limits]\nidentity_headers = [\"Cookie\"]",
            "limits.identity_headers[0]",
        ),
        (
            "[limits]\nidentity_headers = [\"X-Headcount-Recorded\"]",
            "limits.identity_headers[0]",
        ),
        ("[limits]\nsidecars = [\"10.0.0.0/64\"]", "limits.sidecars[0]"),
        ("[log]\nfilter = \"a=b=c\"", "log.filter"),
    ] {
        let message = refused(&format!("{MINIMAL}\n{addition}\n"));
        assert!(
            message.contains(&format!(": {key}: ")) && message.starts_with("etc/headcount.toml:"),
            "{message}"
        );
    }
}

#[test]
fn s21_without_slugs_nothing_asks_for_them() {
    let config = |more: &str| {
        format!(
            "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"postgres://app@db/site\"\n\
             [schema.community.columns]\nslug = \"\"\n{more}"
        )
    };
    assert!(!parse(&config("")).expect("a configuration").schema.has_slugs());
    for (more, key) in [
        ("[api]\ncommunity_key = \"either\"\n", "api.community_key"),
        (
            "[api]\naccess = \"backend\"\nbackend_check = \"/c/{community_slug}/\"\n",
            "api.backend_check",
        ),
    ] {
        let message = refused(&config(more));
        assert!(
            message.contains(key) && message.contains("schema.community.columns.slug"),
            "{message}"
        );
    }
    let both = config("[schema.profile.columns]\nis_hidden = \"a\"\nis_shown = \"b\"\n");
    assert!(refused(&both).contains("is_shown"), "{}", refused(&both));
}

#[test]
fn an_unusable_database_url_is_refused_without_showing_it() {
    let message = refused(&MINIMAL.replace("secret@db", "hunter2@db:port"));
    assert!(
        message.starts_with("etc/headcount.toml:6: database.url: is not a URL"),
        "{message}"
    );
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn c21_a_password_with_a_raw_hash_or_slash_is_told_of_and_not_shown() {
    for password in ["12#ter2", "p@ss/ter2", "pa?ter2"] {
        let message = refused(&MINIMAL.replace("secret@db", &format!("{password}@db")));
        assert!(
            message.starts_with("etc/headcount.toml:6: database.url: has a raw #, /, ? or @ in its password"),
            "{message}"
        );
        assert!(!message.contains("ter2"), "{message}");
    }
}

#[test]
fn c25_a_direct_url_is_checked_like_the_other_and_may_come_from_a_file() {
    let with =
        |direct: &str| MINIMAL.replace("[database]", &format!("[database]\ndirect_url = \"{direct}\""));
    let message = refused(&with("postgres://app@a,b/app"));
    assert!(
        message.contains("database.direct_url: names several hosts"),
        "{message}"
    );
    let message = refused(&with("sqlite:x"));
    assert!(
        message.contains("database.direct_url: is for Postgres"),
        "{message}"
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
fn the_widget_needs_what_it_shows_and_knows_its_attributes() {
    let with = |more: &str| parse(&format!("{MINIMAL}\n{more}\n"));
    let config =
        with("[widget]\ninject = true\nplace = \"#who\"\nattributes = { label-one = \"one\" }").unwrap();
    assert_eq!(config.widget.attributes["label-one"], "one");
    for (more, key) in [
        ("[widget]\ninject = true\n[api]\nlive = false", "widget.inject"),
        ("[widget]\ninject = true\n[api]\nenabled = false", "widget.inject"),
        ("[widget]\nplace = \" \"", "widget.place"),
        ("[widget]\nplace = \"a\\nb\"", "widget.place"),
        (
            "[widget]\nattributes = { onclick = \"x\" }",
            "widget.attributes.onclick",
        ),
        (
            "[widget]\nattributes = { community = \"1\" }",
            "widget.attributes.community",
        ),
        (
            "[widget]\nattributes = { title = \"a\\u0000\" }",
            "widget.attributes.title",
        ),
        (
            "[widget]\nattributes = { avatars = 5 }",
            "widget.attributes.avatars",
        ),
        ("[widget]\nposition = \"corner\"", "widget.position"),
    ] {
        let message = with(more).expect_err(more).to_string();
        assert!(message.contains(&format!("{key}: ")), "{message}");
    }
}

#[test]
fn i4_sqlite_has_no_trigger_that_could_tell_of_sessions() {
    let message = refused(
        "[upstream]\nservers = [\"a:1\"]\n[database]\nurl = \"sqlite:///app.db\"\n\
         [session]\nrevocation = \"trigger\"\n",
    );
    assert_eq!(
        message,
        "etc/headcount.toml:6: session.revocation: \"trigger\" needs a Postgres database, and SQLite cannot \
         notify of changes; set it to \"off\": sign-outs are then noticed within session.cache_ttl"
    );
}

/// Origins must be written as a browser sends them.
#[test]
fn i6_an_origin_that_no_browser_sends_is_refused() {
    let with = |origin: &str| format!("{MINIMAL}\n[live]\nallowed_origins = [\"http://a\", \"{origin}\"]\n");
    for origin in [
        "https://app.example.org",
        "http://app.example.org:443",
        "http://[::1]:8080",
    ] {
        assert!(parse_with(&with(origin), &[]).is_ok(), "{origin}");
    }
    for (origin, hint) in [
        (
            "https://app.example.org:443",
            "leave out the port: \"https://app.example.org\"",
        ),
        (
            "http://app.example.org:80",
            "leave out the port: \"http://app.example.org\"",
        ),
        ("https://app.example.org/", "is no origin"),
        ("https://me@app.example.org", "is no origin"),
        ("app.example.org", "is no origin"),
        ("wss://app.example.org", "is no origin"),
        ("*", "is no origin"),
        ("null", "is no origin"),
        ("", "is no origin"),
    ] {
        let message = refused(&with(origin));
        assert!(
            message.contains("live.allowed_origins[1]: ") && message.contains(hint),
            "{message}"
        );
    }
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
fn what_is_shown_of_recent_pages_is_one_of_three() {
    for (word, precision) in [
        ("path", RecentPrecision::Path),
        ("route", RecentPrecision::Route),
        ("none", RecentPrecision::None),
    ] {
        let config = parse(&format!("{MINIMAL}[privacy]\nrecent_pages = \"{word}\"\n")).unwrap();
        assert_eq!(config.privacy.recent_pages, precision);
    }
    assert_eq!(
        parse(MINIMAL).unwrap().privacy.recent_pages,
        RecentPrecision::Path
    );
    let message = refused(&format!("{MINIMAL}[privacy]\nrecent_pages = \"all\"\n"));
    assert!(message.contains("privacy.recent_pages: "), "{message}");
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

#[test]
fn the_sections_are_those_of_the_configuration() {
    let error = Config::parse("x.toml".as_ref(), "[no]".into(), []).expect_err("no section");
    let listed = Config::default().sections().map(|(name, _)| format!("`{name}`"));
    assert!(
        error
            .problem
            .contains(&format!("expected one of {}", listed.join(", "))),
        "{error}"
    );
}

#[test]
fn a_time_zone_is_one_that_the_app_can_name() {
    let with = |name: &str| MINIMAL.replace("[database]", &format!("[database]\ntime_zone = \"{name}\""));
    let config = parse(&with("Europe/Berlin")).unwrap();
    assert_eq!(config.database.time_zone, Some(chrono_tz::Tz::Europe__Berlin));
    assert_eq!(parse(MINIMAL).unwrap().database.time_zone, None);
    for name in ["Berlin", "+02:00", "CEST", ""] {
        let message = refused(&with(name));
        assert!(message.contains("database.time_zone"), "{message}");
        assert!(message.contains("\"Europe/Berlin\""), "{message}");
    }
}

#[test]
fn a_column_of_another_table_is_a_table_and_anything_else_says_what_is_expected() {
    let config = parse(&format!(
        "{MINIMAL}\n[schema.profile.columns]\nusername = {{ table = \"auth_user\", key = \"id\", of = \"user_id\", \
         column = \"username\" }}"
    ))
    .unwrap();
    let joined = config
        .schema
        .profile
        .columns
        .username
        .joined()
        .expect("another table");
    assert_eq!((&*joined.table, &*joined.of), ("auth_user", "user_id"));
    assert_eq!(
        config.schema.profile.joined_tables().collect::<Vec<_>>(),
        ["auth_user"]
    );
    for (written, named) in [
        (
            "7",
            "{ table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"username\" }",
        ),
        ("{ table = \"auth_user\" }", "missing field `key`"),
        ("{ tabel = \"auth_user\" }", "`tabel`"),
        (
            "{ table = \"\", key = \"id\", of = \"user_id\", column = \"x\" }",
            "must not be empty",
        ),
    ] {
        let problem = refused(&format!(
            "{MINIMAL}\n[schema.profile.columns]\nusername = {written}"
        ));
        assert!(problem.contains("schema.profile.columns.username"), "{problem}");
        assert!(problem.contains(named), "{problem}");
    }
}

#[test]
fn page_views_go_to_the_apps_table_to_our_own_or_nowhere() {
    let events = |written: &str| {
        parse(&format!("{MINIMAL}\n[record]\nevents = {written}")).map(|config| config.record.events)
    };
    for (written, expected) in [
        ("true", Events::App),
        ("\"app\"", Events::App),
        ("\"own\"", Events::Own),
        ("false", Events::Off),
    ] {
        assert_eq!(events(written).unwrap(), expected);
    }
    assert!(events("\"ours\"").unwrap_err().to_string().contains("`own`"));
    for variable in ["own", "false"] {
        let config = parse_with(MINIMAL, &[("HEADCOUNT__RECORD__EVENTS", variable)]).unwrap();
        assert_ne!(config.record.events, Events::App);
    }
    let problem = refused(&format!("{MINIMAL}\n[schema.event]\ntable = \"\""));
    assert!(problem.contains("record.events to \"own\" or false"), "{problem}");
    let problem = refused(&format!("{MINIMAL}\n[record]\nown_partitions = \"month\""));
    assert!(problem.contains("needs record.events = \"own\""), "{problem}");
    let on_sqlite = MINIMAL.replace("postgres://app:secret@db/app", "sqlite:///app.sqlite3");
    let problem = refused(&format!("{on_sqlite}\n[record]\nvisits_index = true"));
    assert!(
        problem.contains("record.visits_index: needs a Postgres database"),
        "{problem}"
    );
}
