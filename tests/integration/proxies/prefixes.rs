//! A site that a proxy in front serves under a path of its own.

use super::{get, nginx};
use crate::support::chromium::Chromium;
use crate::support::nginx::Nginx;
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

fn injecting() -> Wanted {
    let mut wanted = Wanted::usual();
    wanted.config =
        "[limits]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[api]\naccess = \"public\"\n[widget]\ninject = true\n"
            .into();
    wanted
}

/// nginx that takes `/shop` off the paths, and tells so.
fn below(world: &World, header: &str) -> Nginx {
    let port = world.sidecar.port;
    Nginx::start(&format!(
        "location /shop/ {{
             proxy_pass http://127.0.0.1:{port}/;
             proxy_http_version 1.1;
             proxy_set_header Host $http_host;
             proxy_set_header Upgrade $http_upgrade;
             proxy_set_header Connection upgrade;
             proxy_set_header {header} /shop;
         }}"
    ))
}

#[tokio::test]
async fn e17_the_widgets_script_is_below_the_prefix_and_asks_there() {
    let world = injecting().start().await;
    let page = world.community("rust");
    for header in ["X-Forwarded-Prefix", "X-Script-Name"] {
        let nginx = below(&world, header);
        let request = format!(
            "GET /shop{page} HTTP/1.1\r\nHost: site.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(nginx.port(), request, false).await;
        let tag = "src=\"/shop/api/visitors/widget.js\"";
        assert!(answer.text().contains(tag), "{header}: {}", answer.text());
        let script = exchange(nginx.port(), get("/shop/api/visitors/widget.js"), false).await;
        assert_eq!(script.status, 200);
    }
    // In a browser: the count comes over a connection below the prefix, too.
    let nginx = below(&world, "X-Forwarded-Prefix");
    let member = world.member("alice").await;
    let browser = Chromium::of(&member).await;
    browser
        .open(&format!("http://127.0.0.1:{}/shop{page}", nginx.port()))
        .await;
    browser
        .wait_for("document.querySelector('live-visitors')?.getAttribute('state') === 'live'")
        .await;
}

/// Nobody else than a trusted proxy says where the script is.
#[tokio::test]
async fn e17_a_clients_prefix_changes_nothing() {
    let mut wanted = injecting();
    wanted.config = wanted.config.replace("\"127.0.0.1/32\"", "");
    let world = wanted.start().await;
    let nginx = nginx(&world.sidecar, "proxy_set_header X-Forwarded-Prefix /evil;");
    let page = world.community("rust");
    let request =
        format!("GET {page} HTTP/1.1\r\nHost: site.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    let answer = exchange(nginx.port(), request, false).await;
    assert!(
        answer.text().contains("src=\"/api/visitors/widget.js\""),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn the_widgets_script_may_be_asked_for_with_a_query() {
    let world = World::shared().await;
    for query in ["?v=2", "?", "?_=1700000000&x"] {
        let path = format!("/api/visitors/widget.js{query}");
        assert_eq!(
            exchange(world.sidecar.port, get(&path), false).await.status,
            200,
            "{query}"
        );
    }
}
