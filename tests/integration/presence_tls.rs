//! A Redis that is reached over TLS: who it must be, and who the sidecar must be.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;

use crate::support::presence::{everything, warned_once};
use crate::support::redis::{PERMISSIONS, RedisServer};
use crate::support::redis_presence;
use crate::support::tls::Authority;

const WINDOW: Duration = Duration::from_secs(300);

#[tokio::test]
async fn presence_works_over_tls_as_a_user_of_its_own() {
    let authority = Arc::new(Authority::new());
    let server = RedisServer::start_with(Some(&authority), &[]);
    server.allow("sidecar", PERMISSIONS).await;
    let config = config::Redis {
        username: Some("sidecar".into()),
        password: Some(config::Secret::new("s3cret")),
        key_prefix: "headcount".into(),
        ..server.config_with(&authority)
    };
    let presence = redis_presence::open(&config, WINDOW);
    everything(&presence, &["42".into()]).await;
}

/// What is said, once, of a server that cannot be reached.
async fn is_refused(config: &config::Redis) -> String {
    let text = warned_once(config, WINDOW).await;
    assert_eq!(text.matches("cannot connect to Redis").count(), 1, "{text}");
    text
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let (authority, other) = (Arc::new(Authority::new()), Authority::new());
    let server = RedisServer::start_with(Some(&authority), &[]);
    let config = config::Redis {
        tls_ca_file: Some(other.file("ca.pem")),
        ..server.config_with(&authority)
    };
    let text = is_refused(&config).await;
    assert!(text.contains("certificate"), "{text}");
    // Nor of one that the system knows.
    let config = config::Redis {
        tls_ca_file: None,
        ..config
    };
    let text = is_refused(&config).await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_refuses_without() {
    let authority = Arc::new(Authority::new());
    let server = RedisServer::start_with(Some(&authority), &[]);
    let config = config::Redis {
        tls_cert_file: None,
        tls_key_file: None,
        ..server.config_with(&authority)
    };
    let text = is_refused(&config).await;
    assert!(text.to_lowercase().contains("certificate"), "{text}");
}
