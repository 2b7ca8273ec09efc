//! Validation of `[redis]`: one way to reach Redis, keys that fit it, and certificates that can be used.

use std::path::Path;

use pingora_core::tls;
use redis::IntoConnectionInfo as _;

use super::upstream::is_host_and_port;
use super::{Problem, ensure, positive, read_key_pair};
use crate::config::{self, Secret};

/// Each partition is swept separately, and in a Cluster remembered separately; far fewer spread the load as well.
const MOST_PARTITIONS: u16 = 1_024;

pub(super) fn redis(redis: &config::Redis) -> Result<(), Problem> {
    one_way(redis)?;
    let url = redis.url.as_ref().map(Secret::expose);
    if let Some(url) = url {
        server(redis, url)?;
    }
    sentinels(redis)?;
    cluster(redis)?;
    for (key, name, password_key, password) in [
        (
            "redis.username",
            &redis.username,
            "redis.password",
            &redis.password,
        ),
        (
            "redis.sentinel_username",
            &redis.sentinel_username,
            "redis.sentinel_password",
            &redis.sentinel_password,
        ),
    ] {
        ensure(
            name.is_none() || password.is_some(),
            key,
            format!("has no password; give {password_key} or {password_key}_file too"),
        )?;
    }
    certificates(redis)?;
    ensure(
        !redis.key_prefix.is_empty() && !redis.key_prefix.contains(['{', '}', ' ']),
        "redis.key_prefix",
        "must not be empty nor contain braces or spaces",
    )?;
    positive(&[
        ("redis.connect_timeout", redis.connect_timeout),
        ("redis.response_timeout", redis.response_timeout),
    ])
}

/// Only one of a server, Sentinels or a Cluster; without any of them, no keys that need one.
fn one_way(redis: &config::Redis) -> Result<(), Problem> {
    let ways = [
        ("redis.url", redis.url.is_some()),
        ("redis.sentinels", !redis.sentinels.is_empty()),
        ("redis.nodes", !redis.nodes.is_empty()),
    ];
    let mut given = ways.iter().filter(|(_, given)| *given).map(|(key, _)| key);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return Err((
            (*second).into(),
            format!(
                "{first} is set too; keep redis.url for one server, redis.sentinels for one that Sentinels name, \
                 or redis.nodes for a Cluster"
            ),
        ));
    }
    ensure(
        redis.partitions.get() <= MOST_PARTITIONS,
        "redis.partitions",
        format!("is {}, must be at most {MOST_PARTITIONS}", redis.partitions),
    )?;
    for (key, is_set) in [
        ("redis.username", redis.username.is_some()),
        ("redis.password", redis.password.is_some()),
        ("redis.tls", redis.tls),
        ("redis.tls_ca_file", redis.tls_ca_file.is_some()),
        ("redis.tls_cert_file", redis.tls_cert_file.is_some()),
        ("redis.tls_key_file", redis.tls_key_file.is_some()),
    ] {
        ensure(
            redis.is_used() || !is_set,
            key,
            "is set, but no Redis is; give redis.url, redis.sentinels or redis.nodes",
        )?;
    }
    Ok(())
}

fn server(redis: &config::Redis, url: &str) -> Result<(), Problem> {
    let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
    ensure(
        schemes.iter().any(|scheme| url.starts_with(scheme)),
        "redis.url",
        "must start with redis://, or with rediss:// for TLS",
    )?;
    ensure(
        !url.contains('#'),
        "redis.url",
        "has a part after #, which would switch off the check of the server's certificate; remove it, and give \
         redis.tls_ca_file for an authority of your own",
    )?;
    // The error itself may quote the URL, which may have a password in it.
    let Ok(info) = url.into_connection_info() else {
        return Err((
            "redis.url".into(),
            "is not a URL of a Redis server; write for example redis://:password@host:6379/0, with %40 for @ in a \
             password"
                .into(),
        ));
    };
    let named = info.redis_settings();
    for (key, is_set, in_url) in [
        ("redis.username", redis.username.is_some(), named.username()),
        ("redis.password", redis.password.is_some(), named.password()),
    ] {
        ensure(
            !is_set || in_url.is_none(),
            key,
            "redis.url has one too; keep one of the two",
        )?;
    }
    ensure(
        redis.database == 0,
        "redis.database",
        "is for Sentinels; write the number at the end of redis.url, for example redis://host:6379/1",
    )?;
    ensure(
        !redis.tls || url.starts_with("rediss://"),
        "redis.tls",
        "is for redis.sentinels and redis.nodes; write rediss:// in redis.url",
    )
}

fn sentinels(redis: &config::Redis) -> Result<(), Problem> {
    addresses("redis.sentinels", &redis.sentinels)?;
    let name = redis.master_name.as_deref();
    if redis.sentinels.is_empty() {
        for (key, is_set) in [
            ("redis.master_name", name.is_some()),
            ("redis.sentinel_username", redis.sentinel_username.is_some()),
            ("redis.sentinel_password", redis.sentinel_password.is_some()),
        ] {
            ensure(
                !is_set,
                key,
                "is set, but no Sentinel is; give their addresses in redis.sentinels",
            )?;
        }
        return Ok(());
    }
    ensure(
        name.is_some_and(|name| !name.trim().is_empty()),
        "redis.master_name",
        "is missing; write what the Sentinels call the server, for example \"mymaster\"",
    )
}

fn cluster(redis: &config::Redis) -> Result<(), Problem> {
    addresses("redis.nodes", &redis.nodes)?;
    ensure(
        redis.nodes.is_empty() || redis.database == 0,
        "redis.database",
        "must be 0: a Cluster has no other databases",
    )
}

fn addresses(key: &str, addresses: &[String]) -> Result<(), Problem> {
    for (index, address) in addresses.iter().enumerate() {
        let problem = if address.contains("://") || address.contains('@') {
            // Not quoted: there may be a password in it.
            "is a URL; write host:port, and user, password and TLS in redis.username, redis.password_file and \
             redis.tls"
                .to_owned()
        } else if is_host_and_port(address) {
            continue;
        } else {
            format!("\"{address}\" is not host:port")
        };
        return Err((format!("{key}[{index}]"), problem));
    }
    Ok(())
}

fn certificates(redis: &config::Redis) -> Result<(), Problem> {
    let files = [
        ("redis.tls_ca_file", &redis.tls_ca_file),
        ("redis.tls_cert_file", &redis.tls_cert_file),
        ("redis.tls_key_file", &redis.tls_key_file),
    ];
    for (key, path) in files {
        let Some(path) = path else { continue };
        ensure(
            redis.uses_tls(),
            key,
            "is set, but TLS is not; write rediss:// in redis.url, or redis.tls = true with redis.sentinels or \
             redis.nodes",
        )?;
        std::fs::read(path)
            .map_err(|error| (key.into(), format!("{} cannot be read ({error})", path.display())))?;
    }
    if let Some(path) = &redis.tls_ca_file {
        ensure(
            has_authorities(path),
            "redis.tls_ca_file",
            format!(
                "{} holds something else than certificate authorities; it must be a PEM file of them",
                path.display()
            ),
        )?;
    }
    let (certificate, key) = match (&redis.tls_cert_file, &redis.tls_key_file) {
        (None, None) => return Ok(()),
        (Some(_), None) => return Err(alone("redis.tls_cert_file", "redis.tls_key_file")),
        (None, Some(_)) => return Err(alone("redis.tls_key_file", "redis.tls_cert_file")),
        (Some(certificate), Some(key)) => (certificate, key),
    };
    read_key_pair(certificate, key)
        .map(drop)
        .map_err(|problem| ("redis.tls_cert_file".into(), problem))
}

fn alone(key: &str, other: &str) -> Problem {
    (key.into(), format!("has no effect alone; give {other} too"))
}

fn has_authorities(path: &Path) -> bool {
    let mut store = tls::RootCertStore::empty();
    tls::load_ca_file_into_store(path, &mut store).is_ok() && !store.is_empty()
}
