//! Presence in a Redis that Sentinels name: its server is killed, hangs, and fails over to its replica.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::ids::Finer;
use headcount::presence::{Scope, Touch};

use crate::support::log::Log;
use crate::support::presence::{
    all_show, all_show_at, everything, is_heard, is_listening, is_remembered, is_remembered_at, warned_once,
};
use crate::support::redis::{PERMISSIONS, RedisServer, eventually};
use crate::support::redis_presence::{self, seen};
use crate::support::sentinels::{NAME, Watched};
use crate::support::tls::Authority;

const WINDOW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// Fails within the test's patience where a server hangs.
fn impatient(config: config::Redis) -> config::Redis {
    config::Redis {
        connect_timeout: Duration::from_millis(500),
        response_timeout: Duration::from_millis(300),
        ..config
    }
}

/// Two sidecars; the server is lost in some way, with what its replica has not got. Both show everybody again,
/// and hear of changes.
async fn a_failover(take: impl AsyncFn(&mut RedisServer)) {
    let mut watched = Watched::start_failing_over().await;
    let config = impatient(watched.config());
    let sidecars = [
        redis_presence::mirrored(&config, WINDOW),
        redis_presence::mirrored(&config, WINDOW),
    ];
    let [one, other] = sidecars.each_ref().map(|sidecar| &**sidecar);
    let community = Scope::from("42");
    let post = Finer::new("post", "7").expect("a post");
    let scopes = [
        community.clone(),
        Scope::Finer("42".into(), post.clone()),
        Scope::Site,
    ];
    // As a view is: at the post, which is in its community, and on the site.
    let sees = async |user: &str, age: Duration| {
        let at_post = seen(user, age).in_finer(post.clone());
        one.touch(&community, &[at_post]).await?;
        one.touch(&Scope::Site, &[seen(user, age)]).await
    };
    eventually(async || sees("early", 2 * MINUTE).await.is_ok()).await;
    let mut changes = other.subscribe();
    is_listening(&mut changes).await;
    watched.servers[0].leaves_its_replicas_behind().await;
    eventually(async || sees("late", MINUTE).await.is_ok()).await;
    for scope in &scopes {
        all_show_at(&[one, other], scope, &["late", "early"]).await;
    }

    take(&mut watched.servers[0]).await;
    for scope in &scopes {
        is_remembered_at(one, scope, &["late", "early"]).await;
    }
    for scope in &scopes {
        all_show_at(&[one], scope, &["late", "early"]).await;
    }
    // Live pushes go on: what one sidecar sees, the other hears of.
    for scope in ["43".into(), Scope::Site] {
        is_heard(one, &mut changes, &scope).await;
    }
    let replicated: u64 = watched.servers[1].does(&["DBSIZE"]).await;
    assert!(replicated > 0, "it is the one that was promoted");
}

#[tokio::test]
async fn p8_p14_after_a_failover_of_a_killed_server_everybody_is_there_and_changes_are_heard() {
    a_failover(async |server| server.kill()).await;
}

#[tokio::test]
async fn p8_p9_p14_after_a_failover_of_a_server_that_hangs_everybody_is_there_and_changes_are_heard() {
    a_failover(async |server| server.hang()).await;
}

#[tokio::test]
async fn p14_a_server_that_was_demoted_while_it_hung_is_left() {
    let watched = Watched::start_failing_over().await;
    let config = impatient(watched.config());
    let sidecar = redis_presence::mirrored(&config, WINDOW);
    eventually(async || sidecar.touch(&"42".into(), &[seen("a", MINUTE)]).await.is_ok()).await;
    all_show(&[&*sidecar], "42", &["a"]).await;
    watched.servers[0].hang();
    is_remembered(&*sidecar, "42", &["a"]).await;
    all_show(&[&*sidecar], "42", &["a"]).await;
    watched.servers[0].resume();
    watched.servers[0].is_in_step().await;
    eventually(async || sidecar.touch(&"42".into(), &[Touch::now("b")]).await.is_ok()).await;
    all_show(&[&*sidecar], "42", &["b", "a"]).await;
}

#[tokio::test]
async fn a_failover_by_hand_goes_by_without_a_lost_visitor() {
    let watched = Watched::start().await;
    let config = impatient(watched.config());
    let sidecar = redis_presence::mirrored(&config, WINDOW);
    eventually(async || sidecar.touch(&"42".into(), &[seen("a", MINUTE)]).await.is_ok()).await;
    all_show(&[&*sidecar], "42", &["a"]).await;
    watched.sentinels[0]
        .does::<()>(&["SENTINEL", "FAILOVER", NAME])
        .await;
    watched.servers[0].is_in_step().await;
    eventually(async || sidecar.touch(&"42".into(), &[Touch::now("b")]).await.is_ok()).await;
    all_show(&[&*sidecar], "42", &["b", "a"]).await;
}

#[tokio::test]
async fn p10_narrow_acls_suffice_and_are_not_complained_of() {
    let watched = Watched::start().await;
    let permissions = [PERMISSIONS, &["+role"]].concat();
    for server in &watched.servers {
        server.allow("sidecar", &permissions).await;
    }
    for sentinel in &watched.sentinels {
        let permissions = [">s3cret-too", "+role", "+sentinel|masters"];
        sentinel.allow("guest", &permissions).await;
    }
    let secret = |text: &str| Some(config::Secret::new(text));
    let config = config::Redis {
        username: Some("sidecar".into()),
        password: secret("s3cret"),
        sentinel_username: Some("guest".into()),
        sentinel_password: secret("s3cret-too"),
        key_prefix: "headcount".into(),
        ..watched.config()
    };
    let log = Log::default();
    let _listening = log.listen();
    everything(&redis_presence::open(&config, WINDOW), &["42".into()]).await;
    let text = log.text();
    assert!(text.contains("connected to Redis"), "{text}");
    assert!(!text.contains("WARN") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn sentinels_and_server_are_reached_over_tls_with_client_certificates() {
    let authority = Arc::new(Authority::new());
    let watched = Watched::start_with_tls(&authority).await;
    everything(&redis_presence::open(&watched.config(), WINDOW), &["42".into()]).await;
}

#[tokio::test]
async fn sentinels_that_do_not_know_the_server_are_told_of_once() {
    let watched = Watched::start().await;
    let config = config::Redis {
        master_name: Some("another".into()),
        ..watched.config()
    };
    warned_once(&config, WINDOW).await;
}
