//! Who may see a community's visitors where nothing is configured, and what the site's answers withdraw of that: a refusal of
//! any page that grants, something finer that is shown to some members alone, and a session whose cookie is taken back.

use reqwest::{Client, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::live::Socket;
use crate::support::member::{Member, navigation};
use crate::support::postgres::Postgres;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};
use crate::visited::{expels, status, wanted};

/// A club's own page, whose drafts are counted by themselves, and posts whose site checks the community.
const CLUBS: &str = r#"
[[route]]
name = "club"
pattern = '^/club/(?P<community>[0-9]+)/?$'

[[route]]
name = "join"
pattern = '^/club/(?P<community>[0-9]+)/join/$'

[[route]]
name = "draft"
pattern = '^/club/(?P<community>[0-9]+)/drafts/(?P<draft>\d+)/$'
presence = ["community", "draft"]

[[route]]
name = "post"
pattern = '^/communities/(?P<community>[0-9]+)/posts/(?P<post>\d+)/?$'
grants = true

[[route]]
name = "community"
pattern = '^/communities/(?P<community>[0-9]+)/?$'
"#;

/// A site of clubs behind two sidecars.
async fn clubs() -> (World, [Sidecar; 2]) {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        config: "[live]\naccess_check_interval = \"1s\"\n".into(),
        ..wanted()
    };
    let world = wanted.clone().start().await;
    let config = wanted.configuration(&world.site, &world.database);
    let sidecars = [(); 2].map(|()| Sidecar::start_with(&config, CLUBS));
    (world, sidecars)
}

/// Makes the member one of the hidden community again, in the site's own tables.
async fn admits(world: &World, name: &str) {
    let pool = Postgres::shared().pool(world.database.name());
    let sql = format!(
        "INSERT INTO communities_community_members (community_id, userprofile_id) VALUES ({}, {})",
        world.seeded.community("hidden"),
        world.seeded.user(name)
    );
    pool.execute(AssertSqlSafe(sql)).await.expect("it is inserted");
    pool.close().await;
}

/// As by `permission_required`, which redirects to a form, or a club's page that asks to join.
#[tokio::test]
async fn a25_a_redirect_to_another_page_withdraws_what_was_shown_on_every_sidecar() {
    let (world, [first, second]) = clubs().await;
    let alice = world.member("alice").await;
    let (here, there) = (alice.at(first.url("")), alice.at(second.url("")));
    let id = world.seeded.community("hidden");
    let (page, count) = (format!("/club/{id}/"), world.visitors("hidden", "/count"));
    here.sees(&page).await;
    let mut socket = Socket::open(&first, &world.visitors("hidden", "/live"), &here).await;
    socket.count().await;
    assert_eq!(status(&there, &count).await, 200);
    // To the same page by its other spelling.
    assert_eq!(
        there.visits(&format!("/club/{id}")).await,
        StatusCode::MOVED_PERMANENTLY
    );
    assert_eq!(status(&there, &count).await, 200);
    assert_eq!(status(&here, &count).await, 200);
    expels(&world.database, &world.seeded, "alice").await;
    assert_eq!(there.visits(&page).await, StatusCode::FOUND);
    assert_eq!(status(&there, &count).await, 404);
    assert_eq!(socket.close_code().await, 4404);
    assert_eq!(status(&here, &count).await, 404);
    admits(&world, "alice").await;
    here.sees(&page).await;
    assert_eq!(status(&here, &count).await, 200);
}

#[tokio::test]
async fn a25_a_missing_page_of_a_route_that_grants_withdraws_what_it_gave() {
    let (world, [first, _second]) = clubs().await;
    let alice = world.member("alice").await.at(first.url(""));
    let (post, count) = (
        format!("{}posts/1/", world.community("hidden")),
        world.visitors("hidden", "/count"),
    );
    alice.sees(&post).await;
    assert_eq!(status(&alice, &count).await, 200);
    expels(&world.database, &world.seeded, "alice").await;
    assert_eq!(alice.visits(&post).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&alice, &count).await, 404);
    admits(&world, "alice").await;
    alice.sees(&post).await;
    assert_eq!(status(&alice, &count).await, 200);
}

/// A draft is for its author alone, and so is who reads it.
#[tokio::test]
async fn a26_who_is_at_something_hidden_in_a_community_is_shown_to_those_who_may_see_it() {
    let (world, [first, second]) = clubs().await;
    let id = world.seeded.community("rust");
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let (alice, bob) = (alice.at(first.url("")), bob.at(first.url("")));
    let draft = world.seeded.user("alice");
    let page = format!("/club/{id}/drafts/{draft}/");
    for member in [&alice, &bob] {
        member.sees(&format!("/club/{id}/")).await;
    }
    alice.sees(&page).await;
    assert_eq!(bob.visits(&page).await, StatusCode::NOT_FOUND);
    let visitors = |draft: &str| format!("/api/communities/{id}/drafts/{draft}/visitors");
    first.wait_until_idle().await;
    let list = alice.json(&visitors(&draft)).await;
    assert_eq!(list["visitors"][0]["username"], "alice", "{list}");
    assert_eq!(status(&alice.at(second.url("")), &visitors(&draft)).await, 200);
    let live = format!("{}/live", visitors(&draft));
    let mut socket = Socket::open(&first, &live, &alice).await;
    socket.count().await;
    for end in ["", "/count"] {
        for hidden in [&*draft, "999999"] {
            assert_eq!(
                status(&bob, &format!("{}{end}", visitors(hidden))).await,
                404,
                "{hidden}{end}"
            );
        }
    }
    let cookie = bob.cookie();
    let refused = Socket::try_open(&first, &live, &[("cookie", &*cookie)]).await;
    assert_eq!(refused.err(), Some(404));
    // The community itself is bob's to see.
    assert_eq!(status(&bob, &world.visitors("rust", "/count")).await, 200);
}

/// Whoever still has the cookie, such as a script of the page or somebody who copied it.
async fn with_cookie(world: &World, cookie: &str, path: &str) -> StatusCode {
    let client = Client::builder().no_proxy().build().expect("a client");
    let request = client
        .get(world.sidecar.url(path))
        .headers(navigation())
        .header("cookie", cookie);
    request.send().await.expect("an answer").status()
}

/// The sidecar hears nothing of sessions, and remembers them for an hour.
#[tokio::test]
async fn a29_a_session_whose_cookie_the_site_takes_back_is_over() {
    let wanted = Wanted {
        session: "revocation = \"off\"\ncache_ttl = \"1h\"".into(),
        config:
            "[schema.profile.columns]\nis_active = { table = \"auth_user\", key = \"id\", of = \"user_id\", \
                 column = \"is_active\" }\n"
                .into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let site_count = "/api/visitors/count";
    let mut sockets = Vec::new();
    for member in [&alice, &bob] {
        member.sees("/account/").await;
        assert_eq!(status(member, site_count).await, 200);
        let mut socket = Socket::open(&world.sidecar, &world.visitors("rust", "/live"), member).await;
        socket.count().await;
        sockets.push(socket);
    }
    world.wait_for_views(2).await;
    let cookies = [&alice, &bob].map(Member::cookie);
    let pool = Postgres::shared().pool(world.database.name());
    let disabled = pool.execute("UPDATE auth_user SET is_active = false WHERE username = 'alice'");
    assert_eq!(disabled.await.expect("it is updated").rows_affected(), 1);
    pool.close().await;
    world.site.tell("delete-user", &json!({"username": "bob"})).await;
    for cookie in &cookies {
        assert_eq!(with_cookie(&world, cookie, "/account/").await, StatusCode::OK);
        let asked = with_cookie(&world, cookie, site_count).await;
        assert_eq!(asked, StatusCode::UNAUTHORIZED);
    }
    for mut socket in sockets {
        assert_eq!(socket.close_code().await, 4401);
    }
    let ended = "headcount_page_views_not_counted_total{reason=\"session_ended\"}";
    assert_eq!(world.sidecar.metric(ended).await, 2.0);
    let counted = "headcount_page_views_counted_total";
    assert_eq!(world.sidecar.metric(counted).await, 2.0);
}
