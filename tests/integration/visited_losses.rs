//! Who may see a community's visitors where nothing is configured, and what stands between the site's answer and that: a
//! Redis that loses its data, and a cache that answers in the site's place.

use reqwest::{Method, StatusCode};

use crate::support::nginx::Nginx;
use crate::support::redis::{RedisServer, eventually};
use crate::support::service::in_time;
use crate::support::world::any_prefix;
use crate::visited::{expels, status, wanted};

/// The grant is in the memory of the sidecar that is asked, the refusal in that of the other.
#[tokio::test]
async fn a18_a_refusal_outlives_redis_data() {
    let redis = RedisServer::start(&[]);
    let mut wanted = wanted();
    wanted.redis = Some(redis.url());
    wanted.key_prefix = Some(any_prefix());
    // A fifth of it is how long a caller waits for what others know.
    wanted.config = "[api]\ntimeout = \"60s\"\n".into();
    let world = wanted.clone().start().await;
    let second = world.another_sidecar(&wanted);
    let alice = world.member("alice").await;
    let elsewhere = alice.at(second.url(""));
    let (page, count) = (world.community("hidden"), world.visitors("hidden", "/count"));
    let noted = async || {
        let keys: Vec<String> = redis.does(&["KEYS", "*granted*"]).await;
        match &*keys {
            [key] => redis
                .does::<Option<String>>(&["GET", key])
                .await
                .unwrap_or_default(),
            _ => String::new(),
        }
    };
    alice.sees(&page).await;
    eventually(async || !noted().await.is_empty()).await;
    expels(&world.database, &world.seeded, "alice").await;
    assert_eq!(elsewhere.visits(&page).await, StatusCode::NOT_FOUND);
    eventually(async || noted().await.starts_with('-')).await;
    redis.flush().await;
    assert_eq!(status(&alice, &count).await, 404);
    assert_eq!(status(&elsewhere, &count).await, 404);
    assert!(noted().await.starts_with('-'), "{}", noted().await);
}

/// Redis has forgotten everything, its connections living on. By the pages that this sidecar has passed on it tells Redis
/// again, after the refusals of others; whoever asks meanwhile may come again.
#[tokio::test]
async fn a9_while_redis_is_told_again_what_it_has_lost_nothing_is_an_error_of_the_servers() {
    let redis = RedisServer::start(&[]);
    let mut wanted = wanted();
    wanted.redis = Some(redis.url());
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("hidden")).await;
    eventually(async || {
        let keys: Vec<String> = redis.does(&["KEYS", "*granted*"]).await;
        !keys.is_empty()
    })
    .await;
    redis.flush().await;
    let (count, live) = (
        world.visitors("hidden", "/count"),
        world.visitors("hidden", "/live"),
    );
    let mut is_refused_once = false;
    eventually(async || {
        let request = alice
            .request(Method::GET, &live)
            .header("accept", "text/event-stream");
        let stream = request.send().await.expect("an answer");
        assert_eq!(
            stream.status(),
            StatusCode::OK,
            "an EventSource comes again by itself"
        );
        let answer = alice.get(&count).await;
        if answer.status() == StatusCode::OK {
            if !is_refused_once {
                // The loss came before the sidecar knew that Redis had it.
                redis.flush().await;
            }
            return is_refused_once;
        }
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        // The first stream may have come before the sidecar knew of the loss.
        if is_refused_once {
            // It has come to its end, with nothing of what is in the community.
            let events = in_time("the end of the stream", stream.text())
                .await
                .expect("a text");
            assert!(
                events.contains("retry:") && !events.contains("current"),
                "{events}"
            );
        }
        is_refused_once = true;
        false
    })
    .await;
}

/// Between the sidecar and the site, and by the address alone: the site is not asked who may see its pages.
#[tokio::test]
async fn a20_a_cache_behind_the_sidecar_lets_nobody_see_who_is_there() {
    let world = wanted().start().await;
    let cache = Nginx::with_cache(&format!(
        "location / {{\n\
             default_type text/html;\n\
             if ($http_if_none_match) {{ return 304; }}\n\
             proxy_pass http://127.0.0.1:{};\n\
             proxy_set_header Host $http_host;\n\
             proxy_cache pages;\n\
             proxy_cache_key $uri;\n\
             proxy_cache_valid 200 1h;\n\
             proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;\n\
             add_header X-Cache-Status $upstream_cache_status;\n\
         }}",
        world.site.port()
    ));
    let mut behind = wanted();
    // Lookups may take a while on a busy machine.
    behind.config = "[api]\ntimeout = \"30s\"\n".into();
    behind.servers = Some(vec![format!("127.0.0.1:{}", cache.port())]);
    let sidecar = world.another_sidecar(&behind);
    let member = async |name| world.member(name).await.at(sidecar.url(""));
    let (alice, mallory, bob) = (
        member("alice").await,
        member("mallory").await,
        member("bob").await,
    );
    let (page, count) = (world.community("hidden"), world.visitors("hidden", "/count"));
    let revalidates = async |member: &crate::support::member::Member| {
        let request = member.navigation(&page).header("if-none-match", "\"a1\"");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
    };
    // As from a browser that has the page of the one who used it before.
    revalidates(&mallory).await;
    assert_eq!(status(&mallory, &count).await, 404);
    alice.sees(&page).await;
    assert_eq!(status(&alice, &count).await, 200, "the site has answered her");
    bob.sees(&page).await;
    assert_eq!(status(&bob, &count).await, 404, "the cache has answered him");
    revalidates(&alice).await;
    assert_eq!(status(&alice, &count).await, 200);
}
