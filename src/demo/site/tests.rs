//! Tests of the sample site: sign-in, pages and sessions.

use std::path::PathBuf;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tower::ServiceExt as _;

use super::*;

struct TestSite {
    router: Router,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

struct TestAnswer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl TestSite {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("site.sqlite3");
        let tables = Tables::create(&file).await.unwrap();
        Self {
            router: router(tables),
            file,
            _directory: directory,
        }
    }

    async fn send(&self, method: &str, path: &str, cookie: Option<&str>) -> TestAnswer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, format!("other=1; {cookie}"));
        }
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        TestAnswer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> TestAnswer {
        self.send("GET", path, None).await
    }

    /// Signs in; the cookie as a browser would send it back.
    async fn sign_in(&self, member: &str) -> String {
        let answer = self.send("POST", &format!("/sign-in/{member}"), None).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"));
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn database(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(&self.file).read_only(true);
        SqlitePool::connect_with(options).await.unwrap()
    }
}

#[tokio::test]
async fn every_page_is_there() {
    let site = TestSite::new().await;
    for (path, text) in [
        ("/", "somebody is home"),
        ("/sign-in", "ada"),
        ("/communities/1/", "Slow Sourdough"),
        ("/communities/2/posts/3/", "Clouds again"),
        ("/c/repair-cafe/", "Repair Café"),
    ] {
        let page = site.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(
            page.headers[header::CONTENT_TYPE],
            "text/html; charset=utf-8",
            "{path}"
        );
        assert!(page.text.contains(text), "{path}");
        assert!(!page.text.contains("://"), "{path} refers to somewhere else");
    }
    let data = site.get("/api/communities/2/").await;
    assert_eq!(data.headers[header::CONTENT_TYPE], "application/json");
    assert!(data.text.contains("night-sky"));
    assert_eq!(
        site.get("/static/site.css").await.headers[header::CONTENT_TYPE],
        "text/css; charset=utf-8"
    );
    assert!(site.get("/media/avatars/ada.svg").await.text.starts_with("<svg"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let site = TestSite::new().await;
    for path in [
        "/nothing",
        "/communities/99/",
        "/communities/x/",
        "/communities/1/posts/0/",
        "/communities/1/posts/99/",
        "/c/nothing/",
        "/api/communities/99/",
        "/media/avatars/nobody.svg",
    ] {
        assert_eq!(site.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let answer = site.send("POST", "/sign-in/nobody", None).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_sign_in_is_a_row_and_a_sign_out_ends_it() {
    let site = TestSite::new().await;
    let cookie = site.sign_in("ada").await;
    let token = cookie.strip_prefix("session_id=").unwrap();
    let database = site.database().await;
    let session = || {
        sqlx::query("SELECT * FROM accounts_usersession WHERE session_id = ?")
            .bind(token)
            .fetch_one(&database)
    };

    let row = session().await.unwrap();
    assert_eq!(row.get::<i64, _>("user_id"), 1);
    assert_eq!(row.get::<String, _>("id").len(), 32, "a uuid as Django stores it");
    assert_eq!(row.get::<i64, _>("pages_visited"), 0);
    assert!(row.get::<bool, _>("is_active"));
    assert!(row.get::<String, _>("started_at") < row.get::<String, _>("expires_at"));
    assert!(
        site.send("GET", "/", Some(&cookie))
            .await
            .text
            .contains("Sign out")
    );

    let answer = site.send("POST", "/sign-out", Some(&cookie)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let row = session().await.unwrap();
    assert!(row.get::<bool, _>("is_ended") && !row.get::<bool, _>("is_active"));
    assert!(row.get::<Option<String>, _>("ended_at").is_some());
    assert!(
        !site
            .send("GET", "/", Some(&cookie))
            .await
            .text
            .contains("Sign out")
    );
}

#[tokio::test]
async fn a_second_sign_in_ends_the_first_session() {
    let site = TestSite::new().await;
    let first = site.sign_in("ada").await;
    site.send("POST", "/sign-in/grace", Some(&first)).await;
    assert!(
        !site
            .send("GET", "/", Some(&first))
            .await
            .text
            .contains("Sign out")
    );
}

#[tokio::test]
async fn the_site_itself_records_no_page_views() {
    let site = TestSite::new().await;
    let cookie = site.sign_in("grace").await;
    site.send("GET", "/communities/1/", Some(&cookie)).await;
    let database = site.database().await;
    let events: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM accounts_userevent")
        .fetch_one(&database)
        .await
        .unwrap();
    assert_eq!(events, 0);
}

#[tokio::test]
async fn the_site_answers_on_a_port_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let address = start(&directory.path().join("site.sqlite3")).await.unwrap();
    let answer = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
}
