//! Servers that ask with a key, end to end.

mod backend;

use reqwest::Method;
use serde_json::json;

use crate::support::api_keys::{BOTH, COUNTS, KeyFile, ask, key, requests, status, tables};
use crate::support::jwt;
use crate::support::live::{Events, Socket};
use crate::support::member::FIREFOX;
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::proxy::Proxy;
use crate::support::sidecar::write_config;
use crate::support::world::Wanted;

const OK: &str = "headcount_api_keys_last_reload_successful";

/// Beside JWTs, which come in the same header, and the session's cookie, which a key makes nothing of.
#[tokio::test]
async fn a13_keys_jwts_and_the_apps_own_tokens_are_told_apart() {
    let file = KeyFile::new(&[("django", COUNTS), ("celery", BOTH)]);
    let (world, _jwt_key) = jwt::world(file.wanted(Wanted::usual()), "").await;
    let alice = world.member("alice").await;
    let pair = jwt::Pair::of(&world, "alice").await;
    let (count, list) = (world.visitors("rust", "/count"), world.visitors("rust", ""));
    let stranger = world.stranger();
    for (caller, path, token, expected) in [
        (&stranger, &count, &*key("django"), 200),
        (&stranger, &list, &key("celery"), 200),
        (&stranger, &list, &key("django"), 403),
        // The key alone decides: alice's own cookie would do.
        (&alice, &list, &key("django"), 403),
        (&alice, &list, &key("nobody"), 401),
        (&alice, &count, "hc_", 401),
        (&stranger, &list, &pair.access, 200),
        (&alice, &list, &pair.refresh, 401),
    ] {
        assert_eq!(status(caller, path, token).await, expected, "{path} {token}");
    }
    let sidecar = &world.sidecar;
    assert_eq!(sidecar.metric(&requests("django", "answered")).await, 1.0);
    assert_eq!(sidecar.metric(&requests("django", "forbidden")).await, 2.0);
    let refused = |reason| format!("headcount_api_keys_refused_total{{reason=\"{reason}\"}}");
    assert_eq!(sidecar.metric(&refused("unknown")).await, 1.0);
    assert_eq!(sidecar.metric(&refused("malformed")).await, 1.0);
    assert_eq!(
        sidecar.metric(&jwt::refused("malformed")).await,
        0.0,
        "no key is taken for a JWT"
    );

    // On the app's paths such a token is the app's, byte for byte, and a cookie beside it a session's.
    let echoed = ask(&stranger, Method::GET, "/echo", &key("django")).await;
    let echoed: serde_json::Value = echoed.json().await.expect("JSON");
    assert!(
        echoed.to_string().contains(&format!("Bearer {}", key("django"))),
        "{echoed}"
    );
    let community = world.community("rust");
    assert_eq!(status(&stranger, &community, &key("celery")).await, 200);
    // A report is a visitor's.
    let report = alice
        .request(Method::POST, "/api/visits")
        .json(&json!({"url": community}));
    let report = report
        .header("origin", sidecar.url("").trim_end_matches('/'))
        .header("authorization", format!("Bearer {}", key("celery")));
    assert_eq!(report.send().await.expect("an answer").status(), 403);
    world.sidecar.wait_until_idle().await;
    assert_eq!(world.page_views().await.len(), 0, "a key is nobody");
}

#[tokio::test]
async fn a17_the_connections_of_a_key_end_with_it_and_a_faulty_file_ends_nothing() {
    let file = KeyFile::new(&[("django", COUNTS), ("celery", COUNTS)]);
    let world = file.wanted(Wanted::usual()).start().await;
    let sidecar = &world.sidecar;
    let path = world.visitors("rust", "/live");
    let bearer = |name: &str| format!("Bearer {}", key(name));
    let open = async |name: &str| {
        let opened = Socket::try_open(sidecar, &path, &[("authorization", &*bearer(name))]).await;
        let mut socket = opened.expect("a connection");
        let visitors = socket.count().await.1;
        (socket, visitors)
    };
    let (mut django, _) = open("django").await;
    let (mut celery, visitors) = open("celery").await;
    assert_eq!(visitors, 0, "a server is present nowhere");
    let headers = format!(
        "Accept: text/event-stream\r\nUser-Agent: {FIREFOX}\r\nAuthorization: {}\r\n",
        bearer("django")
    );
    let mut events = Events::ask(sidecar, &path, &headers).await;
    assert!(events.head.header("ratelimit").is_some());
    events.count().await;

    file.has("[[key]]\nname = \"django\"\nsha256 = \"hc_a-key-that-is-here-by-mistake\"\n");
    sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
    let log = sidecar.says("API keys refused; the last good ones stay in use");
    assert!(
        log.contains("key[0].sha256: is a key itself") && !log.contains("by-mistake"),
        "{log}"
    );
    let ready = reqwest::get(sidecar.admin_url("/readyz"))
        .await
        .expect("an answer");
    let ready = ready.text().await.expect("text");
    assert!(ready.contains("the file with the API keys is faulty"), "{ready}");

    file.has(&tables(&[("celery", COUNTS)]));
    assert_eq!(django.close_code().await, 4401);
    let end = events.ends().await;
    assert_eq!(end["reason"], "the key is no longer valid, or has changed");
    sidecar.wait_for_metric(OK, |ok| ok == 1.0).await;
    let stranger = world.stranger();
    let count = world.visitors("rust", "/count");
    assert_eq!(status(&stranger, &count, &key("django")).await, 401);
    assert_eq!(status(&stranger, &count, &key("celery")).await, 200);
    let shown = |name: &str| requests(name, "answered");
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains_key(&shown("celery")) && !metrics.contains_key(&shown("django")));

    // The other one hears what happens after all of that.
    world.member("alice").await.sees(&world.community("rust")).await;
    celery.until(1).await;
    file.has(&tables(&[("celery", BOTH)]));
    assert_eq!(celery.close_code().await, 4401, "a key that is changed ends, too");
    assert_eq!(open("celery").await.1, 1);
}

#[tokio::test]
async fn a14_members_whom_the_app_hides_are_in_no_list_of_a_servers() {
    let file = KeyFile::new(&[("django", BOTH)]);
    let (world, pool) = crate::hidden::start_with(|wanted| file.wanted(wanted)).await;
    crate::hidden::hide(&pool, "bob").await;
    for name in ["alice", "bob"] {
        world.member(name).await.sees(&world.community("rust")).await;
    }
    world.wait_for_views(2).await;
    let list = ask(
        &world.stranger(),
        Method::GET,
        &world.visitors("rust", ""),
        &key("django"),
    )
    .await;
    let list: serde_json::Value = list.json().await.expect("JSON");
    assert_eq!(list["current_visitors"], 2);
    let names: Vec<_> = list["visitors"].as_array().expect("a list").iter().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0]["username"], "alice");
    pool.close().await;
}

/// By `check`, at a start, and by a running sidecar that reads the file again.
#[tokio::test]
async fn a24_a_key_for_what_can_be_no_community_is_refused_with_its_line() {
    let file = KeyFile::new(&[("django", COUNTS)]);
    let mut world = file.wanted(Wanted::usual()).start().await;
    let community = world.seeded.community("rust");
    let limited =
        |communities: &str| tables(&[("django", &*format!("{COUNTS}communities = [{communities}]\n"))]);
    let reason =
        "keys.toml:5: key[0].communities: \"rust\" is the primary key of no community: those are integers";
    file.has(&limited(&format!("{community}, \"rust\"")));
    world.sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
    world.sidecar.says("is the primary key of no community");
    let count = world.visitors("rust", "/count");
    assert_eq!(
        status(&world.stranger(), &count, &key("django")).await,
        200,
        "the last good ones"
    );
    let config = world.sidecar.config();
    let tells = |command: &str| run(&[command, "--config", &config], &[]);
    let checked = tells("check");
    assert!(
        checked.code == Some(64) && checked.err.contains(reason),
        "{checked:?}"
    );
    world.sidecar.kill();
    let spool = world.sidecar.directory().join("spool");
    let files = || std::fs::read_dir(&spool).expect("the spool's folder").count();
    let before = files();
    let refused = tells("run");
    assert!(
        refused.code == Some(64) && refused.err.contains(reason),
        "{refused:?}"
    );
    assert_eq!(files(), before, "a spool that nothing was put into");
    file.has(&limited(&community));
    assert_eq!(tells("check").code, Some(0));
    world.sidecar.restart();
    assert_eq!(status(&world.stranger(), &count, &key("django")).await, 200);

    // In the configuration itself, too.
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let without: String = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("key_file"))
        .collect();
    let with = limited("\"rust\"").replace("[[key]]", "[[api.key]]");
    std::fs::write(&config, format!("{without}{with}")).expect("the configuration");
    let checked = tells("check");
    let reason = "api.key[0].communities: \"rust\" is the primary key of no community";
    assert!(
        checked.code == Some(64) && checked.err.contains(reason),
        "{checked:?}"
    );
    assert!(checked.err.contains("headcount.toml:"), "{checked:?}");
}

#[test]
fn a12_what_the_command_prints_is_a_configuration_and_its_key_is_valid() {
    let told = run(
        &[
            "api-key",
            "new",
            "django",
            "--scope",
            "counts",
            "--scope",
            "identities",
        ],
        &[],
    );
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    let printed = told
        .out
        .lines()
        .find_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix("hc_"));
    let key = format!("hc_{}", printed.expect("a key"));
    assert_eq!(told.out.matches(&key).count(), 1);
    let hash = headcount::config::KeyHash::of(key.as_bytes()).to_string();
    assert!(told.out.contains(&format!("sha256 = \"{hash}\"")), "{}", told.out);
    let folder = tempfile::tempdir().expect("a directory");
    let minimal = "[upstream]\nservers = [\"127.0.0.1:1\"]\n[database]\nurl = \"sqlite:///nowhere.db\"\n";
    let config = format!("{minimal}{}", told.out);
    let check = |config: &str| {
        let path = write_config(folder.path(), config, "");
        run(
            &["check", "--offline", "--config", path.to_str().expect("UTF-8")],
            &[],
        )
    };
    let fine = check(&config);
    assert_eq!((fine.code, &*fine.err), (Some(0), ""));
    assert!(!fine.out.contains("API key"), "{}", fine.out);
    let of_no_use = check(&format!(
        "{config}\nnot_after = 2020-01-01\n[api]\nidentities = false\n"
    ));
    assert_eq!((of_no_use.code, &*of_no_use.err), (Some(0), ""));
    for remark in [
        "\"django\" is no longer valid (not_after = 2020-01-01T00:00:00Z)",
        "lists have no names",
    ] {
        assert!(of_no_use.out.contains(remark), "{}", of_no_use.out);
    }
    let twice = check(&format!(
        "{config}\n{}",
        told.out.replace("name = \"django\"", "name = \"celery\"")
    ));
    assert_eq!(twice.code, Some(64));
    assert!(
        twice
            .err
            .contains("api.key[1].sha256: is also that of \"django\""),
        "{}",
        twice.err
    );
    for arguments in [
        &["api-key", "new", "a b"][..],
        &["api-key", "new", "a", "--scope", "all"],
    ] {
        assert_eq!(run(arguments, &[]).code, Some(64), "{arguments:?}");
    }
}

/// The database is away at the start: what the keys name is checked once it says what ids are.
#[tokio::test]
async fn a24_what_a_start_could_not_check_is_checked_when_the_database_is_there() {
    let database = Proxy::refusing(Postgres::shared().port());
    let file = KeyFile::new(&[("django", COUNTS)]);
    let world = Wanted::usual().start().await;
    let wanted = || Wanted {
        database_port: Some(database.port()),
        ..Wanted::usual()
    };
    let named = |name: &str| format!("{COUNTS}communities = [\"{name}\"]\n");
    file.has(&tables(&[("django", &*named("rust"))]));
    let of_a_file = world.another_sidecar(&file.wanted(wanted()));
    let table = tables(&[("celery", &*named("django"))]).replace("[[key]]", "[[api.key]]");
    let of_the_configuration = world.another_sidecar(&Wanted {
        config: table,
        ..wanted()
    });
    let fitting = world.another_sidecar(&Wanted {
        config: tables(&[("celery", &*named(&world.seeded.community("rust")))])
            .replace("[[key]]", "[[api.key]]"),
        ..wanted()
    });
    for sidecar in [&of_a_file, &of_the_configuration, &fitting] {
        assert_eq!(sidecar.metric(OK).await, 1.0, "not known yet");
    }
    database.resume().await;
    for (sidecar, place) in [
        (&of_a_file, "keys.toml:5: key[0].communities: "),
        (&of_the_configuration, "api.key[0].communities: "),
    ] {
        sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
        sidecar.says(place);
        sidecar.says("is the primary key of no community");
    }
    // Its keys were checked, too, and nothing is wrong.
    fitting.says("the communities that API keys name fit the database");
    assert_eq!(fitting.metric(OK).await, 1.0);
    file.has(&tables(&[("django", &*named(&world.seeded.community("rust")))]));
    of_a_file.wait_for_metric(OK, |ok| ok == 1.0).await;
}
