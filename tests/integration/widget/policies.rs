//! Pages with a Content Security Policy.

use super::{in_front_of, navigation, pages, tag};
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::wire::{Answer, exchange};

const PAGE: &str = "<head></head><p>page";

fn policy(request: &Heard) -> Reply {
    Reply::Keep(match request.target() {
        "GET /communities/1/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: default-src 'self'\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        "GET /communities/2/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: img-src *\r\nContent-Security-Policy: script-src 'strict-dynamic' 'nonce-Zm9v', connect-src 'self'\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        "GET /communities/3/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"v1\"\r\nContent-Security-Policy: default-src 'self'\r\nContent-Security-Policy: script-src https://cdn.test\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        "GET /communities/4/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: script-src 'self'; connect-src https://api.test\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        "GET /communities/5/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy-Report-Only: script-src 'none'\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        "GET /communities/6/" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Security-Policy: script-src site.test; connect-src ws://site.test\r\nContent-Length: 20\r\n\r\n<head></head><p>page"
        }
        _ => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 101\r\n\r\n<head><meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'none'\"></head><p>0123456789abcd"
        }
    })
}

#[tokio::test]
async fn the_tag_keeps_to_the_pages_policies() {
    let server = FakeUpstream::answering(policy).await;
    let sidecar = in_front_of(&server).await;
    let look = async |community: &str| -> Answer {
        exchange(
            sidecar.port,
            navigation(&format!("/communities/{community}/"), &[]),
            false,
        )
        .await
    };
    let with = |tag: &str| PAGE.replace("</head>", &format!("{tag}</head>"));
    assert_eq!(look("1").await.text(), with(&tag("1")));
    assert_eq!(
        look("2").await.text(),
        with(&tag("2").replace("></", " nonce=\"Zm9v\"></"))
    );
    assert_eq!(look("5").await.text(), with(&tag("5")));
    assert_eq!(look("6").await.text(), with(&tag("6")));
    let blocked = look("3").await;
    assert_eq!((blocked.text(), blocked.header("etag")), (PAGE, Some("\"v1\"")));
    assert_eq!(blocked.header("content-length"), Some("20"));
    assert_eq!(look("4").await.text(), PAGE);
    let in_page = look("7").await;
    assert!(in_page.text().ends_with("0123456789abcd") && !in_page.text().contains("<script"));
    assert_eq!(pages(&sidecar, "injected").await, 4);
    assert_eq!(pages(&sidecar, "script_blocked").await, 2);
    assert_eq!(pages(&sidecar, "connection_blocked").await, 1);
}
