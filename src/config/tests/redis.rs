//! Tests of `[redis]`: three ways to reach it, each with keys of its own.

use super::*;

/// The error for a configuration that is refused, which must name the key.
#[track_caller]
fn says(redis: &str) -> String {
    let message = refused(&format!("{MINIMAL}\n[redis]\n{redis}\n"));
    assert!(!message.contains("s3cret"), "{message}");
    let (place, problem) = message.split_once(": ").unwrap();
    assert!(place.starts_with("etc/headcount.toml"), "{message}");
    problem.to_owned()
}

#[test]
fn each_way_to_reach_redis_is_taken() {
    for (redis, parts) in [
        ("url = \"redis://user:s3cret@host:6379/1\"", 1),
        (
            "url = \"rediss://host\"\nusername = \"a\"\npassword = \"s3cret\"",
            1,
        ),
        (
            "sentinels = [\"a:26379\", \"[::1]:26379\"]\nmaster_name = \"m\"\ndatabase = 2",
            1,
        ),
        (
            "nodes = [\"a:6379\"]\npassword = \"s3cret\"\ntls = true\npartitions = 8",
            8,
        ),
    ] {
        let config = parse(&format!("{MINIMAL}\n[redis]\n{redis}\n")).unwrap();
        assert!(config.redis.is_used(), "{redis}");
        assert_eq!(config.redis.parts().get(), parts, "{redis}");
        assert!(!format!("{config:?}").contains("s3cret"), "{redis}");
    }
    assert!(!parse(MINIMAL).unwrap().redis.is_used());
}

#[test]
fn only_one_way_may_be_given() {
    for (redis, key, first) in [
        (
            "url = \"redis://a\"\nnodes = [\"a:1\"]",
            "redis.nodes",
            "redis.url",
        ),
        (
            "url = \"redis://a\"\nsentinels = [\"a:1\"]",
            "redis.sentinels",
            "redis.url",
        ),
        (
            "sentinels = [\"a:1\"]\nnodes = [\"a:1\"]",
            "redis.nodes",
            "redis.sentinels",
        ),
    ] {
        let problem = says(redis);
        assert!(
            problem.starts_with(&format!(
                "{key}: {first} is set too; keep redis.url for one server"
            )),
            "{problem}"
        );
    }
}

#[test]
fn what_belongs_to_another_way_is_refused_with_the_remedy() {
    for (redis, key, remedy) in [
        ("master_name = \"m\"", "redis.master_name", "redis.sentinels"),
        (
            "sentinel_password = \"s3cret\"",
            "redis.sentinel_password",
            "redis.sentinels",
        ),
        ("password = \"s3cret\"", "redis.password", "redis.url"),
        ("tls = true", "redis.tls", "redis.nodes"),
        ("sentinels = [\"a:1\"]", "redis.master_name", "\"mymaster\""),
        (
            "sentinels = [\"a:1\"]\nmaster_name = \"\"",
            "redis.master_name",
            "\"mymaster\"",
        ),
        ("nodes = [\"a:1\"]\ndatabase = 1", "redis.database", "must be 0"),
        (
            "url = \"redis://a\"\ndatabase = 1",
            "redis.database",
            "end of redis.url",
        ),
        ("url = \"redis://a\"\ntls = true", "redis.tls", "rediss://"),
        (
            "url = \"redis://a\"\ntls_ca_file = \"ca.pem\"",
            "redis.tls_ca_file",
            "rediss://",
        ),
        ("url = \"rediss://a/#insecure\"", "redis.url", "redis.tls_ca_file"),
        (
            "url = \"redis://u:s3cret@a\"\nusername = \"u\"\npassword = \"s3cret\"",
            "redis.username",
            "keep one",
        ),
        (
            "url = \"redis://:s3cret@a\"\npassword = \"s3cret\"",
            "redis.password",
            "keep one",
        ),
        (
            "nodes = [\"a:1\"]\nusername = \"u\"",
            "redis.username",
            "redis.password_file",
        ),
        (
            "sentinels = [\"a:1\"]\nmaster_name = \"m\"\nsentinel_username = \"u\"",
            "redis.sentinel_username",
            "redis.sentinel_password_file",
        ),
        ("nodes = [\"a:1\", \"a\"]", "redis.nodes[1]", "host:port"),
        (
            "nodes = [\"redis://u:s3cret@a:1\"]",
            "redis.nodes[0]",
            "redis.password_file",
        ),
        (
            "sentinels = [\"a:0\"]\nmaster_name = \"m\"",
            "redis.sentinels[0]",
            "host:port",
        ),
        (
            "nodes = [\"a:1\"]\npassword = 12345",
            "redis.password",
            "text in quotes",
        ),
        ("nodes = [\"a:1\"]\ndatabase = -1", "redis.database", ""),
    ] {
        let problem = says(redis);
        assert!(
            problem.starts_with(&format!("{key}: ")) && problem.contains(remedy),
            "{redis}: {problem}"
        );
    }
}

#[test]
fn certificates_are_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let of = |redis: &str| {
        let text = format!("{MINIMAL}\n[redis]\nnodes = [\"a:1\"]\ntls = true\n{redis}\n");
        let parsed = Config::parse(&folder.path().join("headcount.toml"), text, []);
        parsed.map(|config| config.redis)
    };
    std::fs::write(folder.path().join("text.pem"), "no certificate").unwrap();
    for (redis, key, remedy) in [
        (
            "tls_ca_file = \"nowhere.pem\"",
            "redis.tls_ca_file",
            "cannot be read",
        ),
        (
            "tls_ca_file = \"text.pem\"",
            "redis.tls_ca_file",
            "must be a PEM file",
        ),
        (
            "tls_cert_file = \"text.pem\"",
            "redis.tls_cert_file",
            "give redis.tls_key_file too",
        ),
        (
            "tls_key_file = \"text.pem\"",
            "redis.tls_key_file",
            "give redis.tls_cert_file too",
        ),
        (
            "tls_cert_file = \"text.pem\"\ntls_key_file = \"text.pem\"",
            "redis.tls_cert_file",
            "must be PEM files",
        ),
    ] {
        let message = of(redis).unwrap_err().to_string();
        assert!(
            message.contains(&format!(": {key}: ")) && message.contains(remedy),
            "{message}"
        );
    }
}

#[test]
fn passwords_may_come_from_files_and_variables_also_if_they_are_digits() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
    let with = |redis: &str, variables: &[(&str, &str)]| {
        let text = format!("{MINIMAL}\n[redis]\nsentinels = [\"a:1\"]\nmaster_name = \"m\"\n{redis}\n");
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Config::parse(&folder.path().join("headcount.toml"), text, variables)
    };
    let redis = with(
        "password_file = \"password\"",
        &[("HEADCOUNT__REDIS__SENTINEL_PASSWORD", "1_000")],
    );
    let redis = redis.unwrap().redis;
    assert_eq!(redis.password.as_ref().unwrap().expose(), "s3cret");
    assert_eq!(redis.sentinel_password.as_ref().unwrap().expose(), "1_000");
    assert!(!format!("{redis:?}").contains("s3cret"));
    let both = with("password = \"a\"\npassword_file = \"password\"", &[]);
    let message = both.unwrap_err().to_string();
    assert!(
        message.contains("redis.password_file: redis.password is set too; keep one of the two"),
        "{message}"
    );
    std::fs::write(folder.path().join("password"), "\n").unwrap();
    let message = with("sentinel_password_file = \"password\"", &[])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("redis.sentinel_password_file")
            && message.contains("is empty; it must hold the password"),
        "{message}"
    );
}
