//! Tests of wrong configurations and their error messages.

mod database;
mod example;
mod redis;
mod variables;

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
