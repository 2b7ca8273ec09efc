//! Pages of the real site, which is the same with the widget and without.

use tokio::sync::OnceCell;

use super::{injecting, members_only, navigation, pages, tag};
use crate::support::service::in_time;
use crate::support::wire::{Answer, Wire, exchange};
use crate::support::world::World;

/// A site with the widget in its pages, for tests that neither write nor count.
async fn shared() -> &'static World {
    static SHARED: OnceCell<World> = OnceCell::const_new();
    SHARED.get_or_init(|| injecting("").start()).await
}

/// The same request, with the sidecar and without.
async fn both(world: &World, request: &str) -> (Answer, Answer) {
    let bodiless = request.starts_with("HEAD ");
    let direct = exchange(world.site.port(), request, bodiless).await;
    let through = exchange(world.sidecar.port, request, bodiless).await;
    (direct, through)
}

/// Headers that do not depend on the body's length or on the second.
fn lasting(answer: &Answer) -> Vec<(String, String)> {
    let mut headers = answer.headers.clone();
    let passing = [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "transfer-encoding",
    ];
    headers.retain(|(name, _)| !passing.contains(&name.as_str()));
    headers.sort();
    headers
}

#[tokio::test]
async fn a_page_of_a_community_gets_the_tag_and_nothing_else() {
    let world = shared().await;
    let tag = tag(&world.seeded.community("rust"));
    for page in [
        world.community("rust"),
        format!("{}posts/2/", world.community("rust")),
        format!("{}search/?q=%C3%A9", world.community("rust")),
    ] {
        let (direct, through) = both(world, &navigation(&page, &["Connection: close"])).await;
        assert_eq!(through.status, 200);
        let (direct_text, text) = (direct.text(), through.text());
        assert_eq!(
            text,
            direct_text.replace("</head>", &format!("{tag}</head>")),
            "{page}"
        );
        let mut expected = lasting(&direct);
        expected.insert(0, ("accept-ranges".into(), "none".into()));
        assert_eq!(lasting(&through), expected);
        assert_eq!(through.header("transfer-encoding"), Some("chunked"));
        assert_eq!(through.header("content-length"), None);
    }
}

#[tokio::test]
async fn everything_else_passes_as_the_site_made_it() {
    let world = shared().await;
    let page = world.community("rust");
    let mut requests: Vec<String> = [
        "/",
        "/about/",
        "/attachment",
        "/json-page",
        "/communities/999999/",
        "/communities/999999/posts/1/",
    ]
    .map(|path| navigation(path, &["Connection: close"]))
    .into();
    requests.extend([
        format!("HEAD {page} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n"),
        format!("GET {page} HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nConnection: close\r\n\r\n"),
        navigation(&page, &["Connection: close", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"]),
        navigation(&page, &["Connection: close", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"]),
        navigation(&page, &["Connection: close", "X-Requested-With: XMLHttpRequest"]),
        format!("GET {page} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nCache-Control: no-transform\r\nConnection: close\r\n\r\n"),
    ]);
    for request in requests {
        let (direct, through) = both(world, &request).await;
        assert_eq!(through.status, direct.status, "{request}");
        assert_eq!(lasting(&through), lasting(&direct), "{request}");
        assert_eq!(
            through.header("content-length"),
            direct.header("content-length"),
            "{request}"
        );
        assert!(through.body == direct.body, "{request}");
    }
}

#[tokio::test]
async fn a_kept_connection_goes_on_after_a_page() {
    let world = shared().await;
    let page = navigation(&world.community("rust"), &[]);
    let mut wire = Wire::open(world.sidecar.port).await;
    let mut bodies = Vec::new();
    for request in [&*page, &navigation("/about/", &[]), &page] {
        wire.send(request).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        bodies.push(answer.body);
    }
    assert!(bodies[0] == bodies[2] && bodies[0] != bodies[1]);
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_page_without_chunks() {
    let world = shared().await;
    let page = world.community("rust");
    let request = format!("GET {page} HTTP/1.0\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    let answer = exchange(world.sidecar.port, request, false).await;
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.header("content-length"), None);
    let text = answer.text();
    assert!(text.contains(&tag(&world.seeded.community("rust"))) && text.ends_with("</html>\n"));
}

#[tokio::test]
async fn v1_a_page_with_the_widget_is_one_page_view_like_any_other() {
    let world = injecting("").start().await;
    let alice = world.member("alice").await;
    let page = world.community("rust");
    let text = alice
        .navigation(&page)
        .send()
        .await
        .expect("an answer")
        .text()
        .await;
    assert!(text.expect("a page").contains("data-community"));
    let views = world.wait_for_views(1).await;
    assert_eq!(views.len(), 1);
    assert_eq!(views[0]["metadata"]["url"], page);
    assert_eq!(pages(&world.sidecar, "injected").await, 1);
    // The script, and asking for it, are none.
    let script = alice
        .navigation("/api/visitors/widget.js")
        .send()
        .await
        .expect("an answer");
    assert_eq!(script.status(), 200);
    world.sidecar.wait_until_idle().await;
    assert_eq!(world.page_views().await.len(), 1);
}

#[tokio::test]
async fn a_page_by_slug_gets_the_tag_once_the_slug_is_known() {
    let world = injecting("").start().await;
    let alice = world.member("alice").await;
    let look = async || {
        let answer = alice.navigation("/c/rust/").send().await.expect("an answer");
        answer.text().await.expect("a page")
    };
    // The recorder looks the slug up for the view of this page, and may be done before the page's head is.
    let was_known = look().await.contains("<script");
    world.wait_for_views(1).await;
    assert!(look().await.contains(&tag(&world.seeded.community("rust"))));
    let unknown = pages(&world.sidecar, "unknown_community").await;
    assert_eq!(unknown, usize::from(!was_known));
}

#[tokio::test]
async fn a_page_by_slug_that_only_strangers_look_at_gets_the_tag_too() {
    let world = injecting("").start().await;
    let look = async || {
        let page = navigation("/c/rust/", &["Connection: close"]);
        exchange(world.sidecar.port, page, false).await.text().to_owned()
    };
    assert!(!look().await.contains("<script"));
    let tag = tag(&world.seeded.community("rust"));
    in_time("the slug is known", async {
        while !look().await.contains(&tag) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_route_can_leave_its_pages_out_without_a_restart() {
    let world = injecting("place = \"main\"\nattributes = { avatars = \"5\" }")
        .start()
        .await;
    let page = navigation(&world.community("rust"), &[]);
    let tag = "data-place=\"main\" data-avatars=\"5\" data-community=";
    let has_tag = async || {
        exchange(world.sidecar.port, &page, false)
            .await
            .text()
            .contains(tag)
    };
    assert!(has_tag().await);
    let routes = "[[route]]\nname = 'community'\npattern = '^/communities/(?P<community>[0-9a-f-]+)/?$'\nwidget = false\n";
    let reloads = "headcount_config_reloads_total{outcome=\"success\"}";
    let before = world.sidecar.metric(reloads).await;
    std::fs::write(world.sidecar.directory().join("routes.d/site.toml"), routes).expect("a route file");
    world.sidecar.signal("HUP");
    world.sidecar.wait_for_metric(reloads, |now| now > before).await;
    assert!(!has_tag().await);
}

#[tokio::test]
async fn where_only_members_may_ask_only_their_pages_have_it() {
    let world = members_only("").start().await;
    let page = world.community("rust");
    let alice = world.member("alice").await;
    for (person, expected) in [(&alice, true), (&world.stranger(), false)] {
        let answer = person.navigation(&page).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("a page").contains("<script"), expected);
    }
}

#[tokio::test]
async fn the_script_is_served_to_everybody_and_asked_for_again_for_little() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    let path = "/api/visitors/widget.js";
    wire.send(navigation(path, &[])).await;
    let script = wire.answer().await;
    assert_eq!(script.status, 200);
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(script.header("x-content-type-options"), Some("nosniff"));
    let etag = script.header("etag").expect("a tag");
    wire.send(navigation(path, &[&format!("If-None-Match: {etag}")]))
        .await;
    let known = wire.answer().await;
    assert_eq!((known.status, known.header("etag")), (304, Some(etag)));
    assert_eq!(known.header("content-length"), None);
    wire.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    let head = wire.try_answer(true).await.expect("an answer");
    assert_eq!(
        head.header("content-length"),
        Some(&*script.body.len().to_string())
    );
    // The connection is in order.
    wire.send(navigation("/healthz", &[])).await;
    assert_eq!(wire.answer().await.text(), "ok\n");
}
