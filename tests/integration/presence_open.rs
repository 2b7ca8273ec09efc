//! Opening presence: memory or Redis, what is refused, what is warned of, what the Redis user must be allowed.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::ids::SiteIdentity;
use headcount::presence::Scope;
use headcount::presence::changes::Event;
use headcount::presence::keys::Keys;
use headcount::presence::{self, Presence, PresenceConfigError, PresenceError, Touch};
use headcount::status::{ComponentState, Status};
use headcount::tasks::Tasks;
use redis::AsyncCommands as _;

use crate::support::log::Log;
use crate::support::redis::{self as servers, PERMISSIONS, RedisServer, eventually};
use crate::support::redis_presence::{self, until_it_answers};

const WINDOW: Duration = Duration::from_secs(300);

#[tokio::test]
async fn p10_a_redis_that_may_evict_is_warned_of_once_and_again_when_its_policy_changes() {
    let mut server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let log = Log::default();
    let _listening = log.listen();
    let presence = redis_presence::open(&server.config(), WINDOW);
    until_it_answers(&presence).await;
    server.restart();
    until_it_answers(&presence).await;
    let text = log.text();
    assert_eq!(text.matches("allkeys-lru").count(), 1, "{text}");
    assert_eq!(text.matches("connected to Redis").count(), 2, "{text}");
    server
        .does::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"])
        .await;
    server.does::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    eventually(async || {
        until_it_answers(&presence).await;
        log.text().matches("connected to Redis").count() == 3
    })
    .await;
    let text = log.text();
    assert_eq!(text.matches("allkeys-lru").count(), 1, "{text}");
    assert_eq!(text.matches("volatile-lru").count(), 1, "{text}");
}

#[tokio::test]
async fn p10_a_narrow_acl_suffices_and_is_not_complained_of() {
    let server = RedisServer::start(&[]);
    let mut raw = server.raw().await;
    server.allow("sidecar", PERMISSIONS).await;
    let commands: Vec<_> = PERMISSIONS
        .iter()
        .filter(|word| word.starts_with('+'))
        .copied()
        .collect();
    let manual = include_str!("../../deploy/README.md");
    assert!(
        manual.contains(&commands.join(" ")),
        "the manual tells an operator"
    );
    let config = config::Redis {
        url: Some(config::Secret::new(
            server.url().replace("//", "//sidecar:s3cret@"),
        )),
        key_prefix: "headcount".into(),
        ..server.config()
    };
    let log = Log::default();
    let _listening = log.listen();
    let presence = redis_presence::open(&config, WINDOW);
    let community = Scope::from("42");
    assert_eq!(
        presence
            .touch(&community, &[Touch::now("a")])
            .await
            .unwrap()
            .current,
        1
    );
    assert_eq!(
        presence
            .all_counts(std::slice::from_ref(&community))
            .await
            .unwrap()
            .value[0]
            .current,
        1
    );
    let page = presence.list(&community, None, 1).await.unwrap().value;
    assert!(
        presence
            .list(&community, page.last(), 1)
            .await
            .unwrap()
            .value
            .is_empty()
    );
    let names = Keys::new("headcount", config.partitions)
        .unwrap()
        .scope(&community);
    let _: () = raw.zadd(&names.seen, "a", 1).await.unwrap();
    let _: () = raw.zadd(&names.due, "42", 1).await.unwrap();
    assert_eq!(presence.sweep().await.unwrap().changes.len(), 1);
    let mut changes = presence.subscribe();
    assert_eq!(changes.recv().await.unwrap(), Event::Listening);
    presence
        .touch(&community, &[headcount::presence::Touch::now("b")])
        .await
        .unwrap();
    assert!(matches!(changes.recv().await.unwrap(), Event::Change(_)));
    let text = log.text();
    assert!(!text.contains("WARN") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_wrong_password_is_unavailable_and_not_told() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let log = Log::default();
    let _listening = log.listen();
    let url = server.url().replace("//", "//:wr0ng-s3cret@");
    let presence = redis_presence::open(&servers::config(&url), WINDOW);
    let refused = presence.ping().await;
    assert!(
        matches!(refused, Err(PresenceError::Unavailable(_))),
        "{refused:?}"
    );
    assert!(!format!("{refused:?}").contains("wr0ng-s3cret"), "{refused:?}");
    let text = log.text();
    assert!(
        text.contains("cannot connect to Redis") && !text.contains("wr0ng-s3cret"),
        "{text}"
    );
    for told in [&*server.address(), "redis.password"] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

fn open(redis: &config::Redis, status: &Status) -> Result<Arc<dyn Presence>, PresenceConfigError> {
    let tasks = Tasks::on_current_runtime();
    let patience = Duration::from_secs(1);
    presence::open(
        redis,
        &config::Record::default(),
        &SiteIdentity::default(),
        patience,
        status,
        Arc::default(),
        &tasks,
    )
}

#[tokio::test]
async fn without_a_url_presence_is_in_memory() {
    let status = Status::default();
    let presence = open(&config::Redis::default(), &status).unwrap();
    assert_eq!(status.redis.condition().state, ComponentState::Off);
    assert_eq!(
        presence
            .touch(&"42".into(), &[Touch::now("a")])
            .await
            .unwrap()
            .current,
        1
    );
}

#[tokio::test]
async fn a_bad_url_is_refused_without_telling_its_password() {
    let status = Status::default();
    for url in [
        "",
        "s3cret",
        "http://user:s3cret@localhost/",
        "redis://user:s3cret@/",
        "redis://user:s3cret@localhost:99999/",
        "redis://user:s3cret@localhost/s3cret",
        "redis://user:s3cret@localhost/?protocol=s3cret",
        "rediss://user:s3cret@localhost/#s3cret",
    ] {
        let error = open(&servers::config(url), &status).err();
        let error = error.unwrap_or_else(|| panic!("{url} is taken"));
        assert!(matches!(error, PresenceConfigError::Server(_)), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let braces = config::Redis {
        key_prefix: "site{1}".into(),
        ..servers::config("redis://localhost")
    };
    assert_eq!(open(&braces, &status).err(), Some(PresenceConfigError::KeyPrefix));
}
