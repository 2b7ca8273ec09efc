//! Tests of serving the widget's script.

use std::io::Read as _;

use flate2::read::GzDecoder;
use http::{Method, Request, StatusCode};

use super::support::{Site, anonymous, call};
use crate::key_type::KeyType;

const PATH: &str = "/api/visitors/widget.js";

#[tokio::test]
async fn the_script_is_for_everybody_and_may_be_kept() {
    let site = Site::new();
    let answer = site.get_as(anonymous(), PATH).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(
        answer.headers["cache-control"],
        "public, max-age=300, stale-while-revalidate=86400"
    );
    assert_eq!(answer.headers["vary"], "Accept-Encoding");
    assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
    assert!(
        std::str::from_utf8(&answer.body)
            .unwrap()
            .contains("customElements.define(\"live-visitors\"")
    );
    let head = site.send(Method::HEAD, PATH, anonymous()).await;
    assert!(head.body.is_empty());
    assert_eq!(head.headers, answer.headers);
}

#[tokio::test]
async fn whoever_has_the_script_is_told_so() {
    let site = Site::new();
    let etag = site.get(PATH).await.headers["etag"].to_str().unwrap().to_owned();
    for (condition, status) in [
        (etag.clone(), StatusCode::NOT_MODIFIED),
        (format!("\"other\", {etag}"), StatusCode::NOT_MODIFIED),
        (etag.trim_start_matches("W/").to_owned(), StatusCode::NOT_MODIFIED),
        ("*".into(), StatusCode::NOT_MODIFIED),
        ("\"other\"".into(), StatusCode::OK),
    ] {
        let request = Request::get(PATH).header("if-none-match", &condition);
        let answer = call(&site.api, request.body(()).unwrap(), anonymous()).await;
        assert_eq!(answer.status, status, "{condition}");
        assert_eq!(answer.headers["etag"], etag);
        assert_eq!(
            answer.headers["cache-control"],
            "public, max-age=300, stale-while-revalidate=86400"
        );
        assert_eq!(answer.body.is_empty(), status == StatusCode::NOT_MODIFIED);
        assert_eq!(
            answer.headers.contains_key("content-length"),
            status == StatusCode::OK
        );
    }
}

#[tokio::test]
async fn without_live_counts_there_is_no_script() {
    let site = Site::with(|settings| settings.live = false);
    assert!(site.api.parse(PATH).is_none());
}

#[tokio::test]
async fn whoever_takes_gzip_gets_the_script_packed() {
    let site = Site::new();
    let plain = site.get(PATH).await;
    let request = Request::get(PATH).header("accept-encoding", "br, gzip;q=0.5");
    let packed = call(&site.api, request.body(()).unwrap(), anonymous()).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert_eq!(packed.headers["content-length"], packed.body.len().to_string());
    assert_eq!(packed.headers["etag"], plain.headers["etag"]);
    let mut text = Vec::new();
    GzDecoder::new(&*packed.body).read_to_end(&mut text).unwrap();
    assert_eq!(text, plain.body);
}

#[tokio::test]
async fn v20_the_script_takes_keys_that_are_text_as_they_are() {
    for (community, said) in [
        (KeyType::BIGINT, "KEYS_ARE_TEXT = false;"),
        (KeyType::Uuid, "KEYS_ARE_TEXT = false;"),
        (KeyType::Text(None), "KEYS_ARE_TEXT = true;"),
    ] {
        let site = Site::new();
        site.store.keys_are(community, KeyType::BIGINT);
        let script = site.get("/api/visitors/widget.js").await;
        let text = std::str::from_utf8(&script.body).unwrap();
        assert!(text.contains(said), "{community:?}");
    }
}
