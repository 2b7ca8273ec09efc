//! A person with a browser: signs in, looks at pages, asks the API.

use std::sync::{Arc, Mutex};

use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;

/// A desktop browser's user agent.
pub const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A browser with cookies of its own. Follows no redirects by itself.
#[derive(Clone)]
pub struct Member {
    client: Client,
    base: String,
    /// What the site's sign-in set.
    cookie: Arc<Mutex<String>>,
}

impl Member {
    /// A fresh browser that uses the site at `base`.
    pub fn new(base: String) -> Self {
        let client = Client::builder()
            .cookie_store(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            client,
            base,
            cookie: Arc::default(),
        }
    }

    /// The same browser, at another sidecar of the site.
    pub fn at(&self, base: String) -> Self {
        Self { base, ..self.clone() }
    }

    /// The session cookie as it stands in a request, for clients that are not this browser.
    pub fn cookie(&self) -> String {
        self.cookie.lock().expect("no panic").clone()
    }

    /// Signs in with the site's own form.
    pub async fn sign_in(&self, name: &str) {
        let form = [("username", name), ("password", &format!("{name}-pw"))];
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let response = self
            .request(Method::POST, "/accounts/login/")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::FOUND, "{name} signs in");
        self.keeps_cookies_of(&response);
    }

    /// Keeps what an answer sets, for clients that are not this browser.
    pub fn keeps_cookies_of(&self, response: &Response) {
        let set = response.headers().get_all(SET_COOKIE).iter();
        let pairs: Vec<_> = set
            .filter_map(|set| set.to_str().ok()?.split(';').next())
            .collect();
        assert!(!pairs.is_empty(), "no cookie was set");
        *self.cookie.lock().expect("no panic") = pairs.join("; ");
    }

    /// Signs out with the site's own form.
    pub async fn sign_out(&self) {
        let response = self
            .request(Method::POST, "/accounts/logout/")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::FOUND);
    }

    /// A request with this browser's cookies and nothing else.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A GET with a browser's headers of a navigation.
    pub fn navigation(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path).headers(navigation())
    }

    /// Looks at a page; returns its status.
    pub async fn visits(&self, path: &str) -> StatusCode {
        let response = self.navigation(path).send().await.expect("an answer");
        let status = response.status();
        response.bytes().await.expect("a body");
        status
    }

    /// Looks at a page that must be there.
    pub async fn sees(&self, path: &str) {
        assert_eq!(self.visits(path).await, StatusCode::OK, "{path}");
    }

    /// A plain GET.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    /// JSON from an API that must answer 200.
    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.expect("text");
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The headers with which browsers navigate.
pub fn navigation() -> HeaderMap {
    let fetch = |name| HeaderName::from_static(name);
    HeaderMap::from_iter([
        (
            ACCEPT,
            HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8"),
        ),
        (USER_AGENT, HeaderValue::from_static(FIREFOX)),
        (fetch("sec-fetch-mode"), HeaderValue::from_static("navigate")),
        (fetch("sec-fetch-dest"), HeaderValue::from_static("document")),
        (fetch("sec-fetch-site"), HeaderValue::from_static("same-origin")),
    ])
}
