//! Who the client is, as proxies say it, and what clients may not say.

use super::{echoed, get, nginx, received, trusting, trusting_sidecar};
use crate::support::fake_upstream::{FakeUpstream, OK};
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

/// nginx' habit: `X-Real-IP` and nothing else.
#[tokio::test]
async fn e12_x_real_ip_alone_is_believed_from_a_trusted_proxy() {
    let sidecar = trusting_sidecar().await;
    let nginx = nginx(&sidecar, "proxy_set_header X-Real-IP 203.0.113.9;");
    let headers = echoed(nginx.port()).await;
    assert_eq!(headers["HTTP_X_REAL_IP"], "203.0.113.9");
    assert_eq!(headers["HTTP_X_FORWARDED_FOR"], "203.0.113.9, 127.0.0.1");
}

/// A client's own `Forwarded` passes through a usual nginx beside the `X-Forwarded-For` that nginx writes.
#[tokio::test]
async fn e12_forwarded_says_what_x_forwarded_for_says() {
    let sidecar = trusting_sidecar().await;
    let nginx = nginx(&sidecar, "proxy_set_header X-Forwarded-For 203.0.113.9;");
    let request = "GET /echo HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\
                   Forwarded: for=198.51.100.1;proto=https;host=evil.test\r\n\r\n";
    let headers = received(&exchange(nginx.port(), request, false).await);
    assert_eq!(headers["HTTP_X_FORWARDED_PROTO"], "http");
    let forwarded = &headers["HTTP_FORWARDED"];
    assert!(
        forwarded.starts_with("for=203.0.113.9;proto=http;host=\"127.0.0.1:"),
        "{forwarded}"
    );
    assert!(forwarded.ends_with("\", for=127.0.0.1"), "{forwarded}");
}

#[tokio::test]
async fn e13_a_bare_address_is_a_network_of_one() {
    let world = World::shared().await;
    for (networks, trusted) in [("[\"127.0.0.1\"]", true), ("[\"::1\", \"127.0.0.2\"]", false)] {
        let mut wanted = Wanted::usual();
        wanted.config = format!("[limits]\ntrusted_proxies = {networks}\nsidecars = {networks}\n");
        let sidecar = world.another_sidecar(&wanted);
        let nginx = nginx(&sidecar, "proxy_set_header X-Forwarded-Proto https;");
        let proto = if trusted { "https" } else { "http" };
        assert_eq!(
            echoed(nginx.port()).await["HTTP_X_FORWARDED_PROTO"],
            proto,
            "{networks}"
        );
    }
}

/// To WSGI apps `X_User` is `X-User`, which a proxy in front may set.
#[tokio::test]
async fn e15_names_with_underscores_are_dropped_unless_that_is_configured() {
    let app = FakeUpstream::answering(|_| OK).await;
    let world = World::shared().await;
    for keeps in [false, true] {
        let mut wanted = Wanted::usual();
        wanted.servers = Some(vec![app.address()]);
        wanted.config = format!("[limits]\nunderscore_headers = {keeps}\n");
        let sidecar = world.another_sidecar(&wanted);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nApi_Key: secret\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n";
        assert_eq!(exchange(sidecar.port, request, false).await.status, 200);
        let head = app.heard().pop().expect("a request").head;
        assert_eq!(head.contains("Api_Key: secret"), keeps, "{head}");
        assert!(!head.contains("6.6.6.6"), "{head}");
        if keeps {
            assert!(!sidecar.log().contains("limits.underscore_headers"));
        } else {
            sidecar.says("limits.underscore_headers");
        }
    }
}

/// Headers with which identity-aware proxies name the user.
const IDENTITY_HEADERS: &str = include_str!("../support/identity_headers.txt");

/// From somebody who is no such proxy.
#[tokio::test]
async fn e15_a_user_is_named_by_trusted_proxies_and_configured_headers_only() {
    let app = FakeUpstream::answering(|_| OK).await;
    let headers = IDENTITY_HEADERS
        .lines()
        .chain(["X-Pomerium-Claim-Email", "X-Staff"]);
    let claims: Vec<_> = headers.map(|name| format!("{name}: mallory\r\n")).collect();
    let claims = claims.concat();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{claims}\r\n");
    for (networks, passes) in [("", false), ("\"127.0.0.1/32\"", true)] {
        let mut wanted = trusting();
        wanted.servers = Some(vec![app.address()]);
        wanted.config = format!(
            "[limits]\ntrusted_proxies = [{networks}]\nidentity_headers = [\"X-Staff\", \"Tailscale-User-Login\"]\n"
        );
        let sidecar = World::shared().await.another_sidecar(&wanted);
        assert_eq!(exchange(sidecar.port, &request, false).await.status, 200);
        let head = app.heard().pop().expect("a request").head;
        let named = head.matches("mallory").count();
        assert_eq!(named, if passes { 2 } else { 0 }, "{head}");
    }
    assert_eq!(exchange(app_port(&app), get("/"), false).await.status, 200);
}

fn app_port(app: &FakeUpstream) -> u16 {
    let address = app.address();
    let (_, port) = address.rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}
