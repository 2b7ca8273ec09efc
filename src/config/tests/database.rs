//! Tests of the database's URL, of tables and columns, and of where page views are written.

use super::*;

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
