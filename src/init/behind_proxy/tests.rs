//! Tests of settings that fail behind a proxy: which are named, with the remedy.

use std::path::Path;

use super::*;

fn config(more: &str) -> Config {
    let text = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\nhealth_path = \"/healthz\"\n[database]\nurl = \
         \"postgres://app@db/site\"\n{more}"
    );
    Config::parse(Path::new("headcount.toml"), text, []).expect("a configuration")
}

fn site(change: impl FnOnce(&mut DjangoSettings)) -> DjangoSite {
    let mut settings = DjangoSettings {
        allowed_hosts: vec!["localhost".into()],
        session_cookie_name: "sessionid".into(),
        session_engine: "user_sessions.backends.db".into(),
        use_tz: true,
        middleware: vec![
            "django.middleware.security.SecurityMiddleware".into(),
            "django.middleware.csrf.CsrfViewMiddleware".into(),
        ],
        ..DjangoSettings::default()
    };
    change(&mut settings);
    DjangoSite {
        settings,
        ..DjangoSite::default()
    }
}

#[track_caller]
fn warns(change: impl FnOnce(&mut DjangoSettings), more: &str, of: &[&str]) {
    let (site, config) = (site(change), config(more));
    let mut warnings = warnings(&site, &config);
    warnings.extend(unrecognised(&site, &config));
    assert_eq!(warnings.len(), of.len(), "{warnings:?}");
    for (warning, word) in warnings.iter().zip(of) {
        assert!(warning.contains(word), "{warning}");
    }
}

#[test]
fn v34_an_event_type_that_the_sites_list_lacks_is_named() {
    let model = r#"{"model": "userevent", "table": "accounts_userevent", "fields": [
        {"column": "event_type", "refers": null, "default": null, "choices": ["page_view", "post_view"]}]}"#;
    let site = DjangoSite {
        models: vec![serde_json::from_str(model).unwrap()],
        ..DjangoSite::default()
    };
    let of = |event_type: &str, more: &str| {
        let text = format!("[[route]]\nname = \"post\"\npattern = \"^/p\"\nevent_type = \"{event_type}\"");
        let path = "posts.toml".into();
        let table = RouteTable::compile(&[crate::routes::RouteFile { path, text }]).unwrap();
        unlisted_types(&site, &config(more), &table)
    };
    assert_eq!(of("post_view", ""), [""; 0]);
    assert_eq!(of("post_seen", "[record]\nevents = \"own\"\n"), [""; 0]);
    assert_eq!(
        of("post_seen", ""),
        [
            "posts.toml:4: route `post`: the choices of accounts_userevent.event_type have no \"post_seen\": add it there, or use \
          one of them"
        ]
    );
}

const PROXY: &str = "[limits]\ntrusted_proxies = [\"10.0.0.1\"]\n";

#[test]
fn d6_settings_that_fit_are_not_mentioned() {
    warns(|_| {}, "", &[]);
    let header = || Some(vec!["HTTP_X_FORWARDED_PROTO".to_owned(), "https".to_owned()]);
    warns(
        |settings| {
            settings.secure_proxy_ssl_header = header();
            settings.secure_ssl_redirect = true;
            settings.secure_redirect_exempt = vec!["^healthz$".into()];
            settings.session_cookie_secure = true;
        },
        PROXY,
        &[],
    );
    warns(
        |settings| settings.allowed_hosts = vec![".localhost".into()],
        "",
        &[],
    );
}

#[test]
fn d6_each_setting_that_breaks_behind_a_proxy_is_a_sentence() {
    warns(|_| {}, PROXY, &["Origin checking failed"]);
    warns(
        |settings| settings.csrf_trusted_origins = vec!["https://site.test".into()],
        PROXY,
        &[],
    );
    warns(
        |settings| settings.secure_ssl_redirect = true,
        PROXY,
        &["redirects to itself", "SECURE_REDIRECT_EXEMPT = [r\"^healthz$\"]"],
    );
    let other = |settings: &mut DjangoSettings| {
        settings.secure_proxy_ssl_header = Some(vec!["HTTP_X_SCHEME".into(), "https".into()]);
    };
    warns(other, PROXY, &["HTTP_X_SCHEME"]);
    warns(
        |settings| settings.session_cookie_secure = true,
        "",
        &["over https alone"],
    );
    warns(|settings| settings.allowed_hosts.clear(), "", &["answered 400"]);
    warns(
        |settings| settings.allowed_hosts = vec!["site.test".into()],
        "",
        &["so that it looks down"],
    );
    warns(
        |settings| settings.use_x_forwarded_host = true,
        "",
        &["USE_X_FORWARDED_HOST"],
    );
}

#[test]
fn d6_settings_of_a_middleware_that_the_site_does_not_have_are_not_mentioned() {
    let without = |change: fn(&mut DjangoSettings)| {
        move |settings: &mut DjangoSettings| {
            settings.middleware = vec!["site.middleware.Sessions".into()];
            change(settings);
        }
    };
    warns(without(|_| {}), PROXY, &[]);
    warns(
        without(|settings| settings.secure_ssl_redirect = true),
        PROXY,
        &[],
    );
    warns(without(|settings| settings.csrf_cookie_secure = true), "", &[]);
    warns(
        without(|settings| settings.session_cookie_secure = true),
        "",
        &["over https alone"],
    );
    warns(
        without(|settings| settings.installed_apps = vec!["django.contrib.admin".into()]),
        PROXY,
        &["the forms of its admin"],
    );
    warns(
        without(|settings| settings.middleware = vec!["site.middleware.OwnCsrfMiddleware".into()]),
        PROXY,
        &["refuses their forms"],
    );
}

#[test]
fn d6_each_host_that_the_sidecar_itself_sends_is_one_that_the_site_answers_to() {
    let hosts = |hosts: &'static [&str]| {
        move |settings: &mut DjangoSettings| {
            settings.allowed_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        }
    };
    let without_path = |more: &str| {
        let text = format!(
            "[upstream]\nservers = [\"127.0.0.1:9\"]\n{more}[database]\nurl = \"postgres://app@db/site\"\n"
        );
        Config::parse(Path::new("headcount.toml"), text, []).expect("a configuration")
    };
    // Without a health path a server that owes answers is asked HEAD /, and HTTP/1.0 has no Host of its own.
    let said = warnings(&site(hosts(&["site.test", ".shop.test"])), &without_path(""));
    assert!(
        said.len() == 1
            && said[0].contains("upstream.health_host = \"site.test\"")
            && said[0].contains("DisallowedHost"),
        "{said:?}"
    );
    for (allowed, host) in [
        (&["SITE.test"][..], "site.test:8443"),
        (&[".shop.test"], "eu.shop.test"),
        (&["*"], "localhost"),
        (&["[::1]"], "[::1]:8000"),
    ] {
        let config = without_path(&format!("health_host = \"{host}\"\n"));
        assert_eq!(warnings(&site(hosts(allowed)), &config), [""; 0], "{host}");
    }
    let config = without_path("health_host = \"my_app:8000\"\n");
    let said = warnings(&site(hosts(&["*"])), &config);
    assert!(said.len() == 1 && said[0].contains("my_app:8000"), "{said:?}");
    // While DEBUG is on, an empty list means the machine itself.
    let debug = |settings: &mut DjangoSettings| {
        settings.debug = true;
        settings.allowed_hosts.clear();
    };
    assert_eq!(warnings(&site(debug), &without_path("")), [""; 0]);
    assert_eq!(
        warnings(&site(debug), &without_path("health_host = \"site.test\"\n")).len(),
        1
    );
}

#[test]
fn d6_settings_that_do_not_go_with_the_configuration_are_sentences() {
    let table = "[schema.session]\ntable = \"user_sessions_session\"\n";
    warns(|_| {}, table, &["session.cookie = \"sessionid\""]);
    warns(
        |settings| {
            settings.use_tz = false;
            settings.time_zone = Some("Europe/Berlin".into());
        },
        "",
        &["database.time_zone = \"Europe/Berlin\""],
    );
    warns(
        |settings| settings.media_url = Some("/files/".into()),
        "",
        &["api.avatar_base = \"/files/\""],
    );
    let mut other = site(|_| {});
    other.database.engine = "django.db.backends.postgresql".into();
    other.database.name = "other".into();
    let warnings = super::warnings(&other, &config(""));
    assert!(
        warnings.len() == 1 && warnings[0].contains("\"other\""),
        "{warnings:?}"
    );
}
