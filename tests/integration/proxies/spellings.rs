//! The scheme, however a proxy in front spells it, through real nginx to Django under gunicorn.

use super::{echoed, get, https_only, nginx, trusting_sidecar};
use crate::support::wire::exchange;

/// gunicorn refuses headers that contradict each other; Django redirects to https for ever where it is not told.
#[tokio::test]
async fn e10_tls_that_nginx_ended_is_known_to_the_app_in_every_spelling() {
    let world = https_only().await;
    for header in [
        "X-Forwarded-Ssl on",
        "X-Forwarded-Proto https",
        "X-Forwarded-Proto HTTPS",
        "X-Scheme https",
        "X-Url-Scheme https",
        "X-Forwarded-Scheme https",
        "X-Forwarded-Protocol ssl",
        "Front-End-Https on",
        "Forwarded \"for=127.0.0.1;proto=https\"",
    ] {
        let nginx = nginx(&world.sidecar, &format!("proxy_set_header {header};"));
        let answer = exchange(nginx.port(), get("/about/"), false).await;
        assert_eq!(answer.status, 200, "{header}: {}", answer.text());
    }
    // gunicorn would refuse the usual header beside this one; such an app reads this one.
    let nginx = nginx(&world.sidecar, "proxy_set_header X-Forwarded-Protocol https;");
    assert_eq!(exchange(nginx.port(), get("/about/"), false).await.status, 301);
}

#[tokio::test]
async fn e11_a_list_of_chained_proxies_does_not_redirect_for_ever() {
    let world = https_only().await;
    for (header, list) in [
        ("", "https,http"),
        ("X-Forwarded-For: 203.0.113.9\r\n", "https, http"),
        ("X-Forwarded-For: 203.0.113.9\r\n", "HTTPS, http, http"),
        (
            "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.1\r\n",
            "http, https, http, http",
        ),
    ] {
        // The second proxy appends to both, as the first did.
        let nginx = nginx(
            &world.sidecar,
            &format!(
                "proxy_set_header X-Forwarded-Proto \"{list}\";
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
            ),
        );
        let request = format!("GET /about/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{header}\r\n");
        let answer = exchange(nginx.port(), request, false).await;
        assert_eq!(answer.status, 200, "{header}{list}");
    }
}

#[tokio::test]
async fn e10_what_contradicts_is_not_passed_on() {
    let sidecar = trusting_sidecar().await;
    let nginx = nginx(
        &sidecar,
        "proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Ssl off;
         proxy_set_header X-Forwarded-Protocol https;",
    );
    let headers = echoed(nginx.port()).await;
    assert_eq!(headers["HTTP_X_FORWARDED_PROTO"], "https");
    assert!(!headers.contains_key("HTTP_X_FORWARDED_SSL"));
    assert!(!headers.contains_key("HTTP_X_FORWARDED_PROTOCOL"));
}

#[tokio::test]
async fn e11_a_word_that_is_not_understood_is_told_once_and_means_nothing() {
    let sidecar = trusting_sidecar().await;
    let nginx = nginx(&sidecar, "proxy_set_header X-Forwarded-Proto gopher;");
    for _ in 0..2 {
        assert_eq!(echoed(nginx.port()).await["HTTP_X_FORWARDED_PROTO"], "http");
    }
    let log = sidecar.says("is not understood");
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("is not understood"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains("x-forwarded-proto") && lines[0].contains("gopher"),
        "{log}"
    );
}
