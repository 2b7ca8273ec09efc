//! The site of the tour: pages that go from case to case, and a note of each request for a case's page.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which file of which package is served under which name.
const LIBRARIES: [(&str, &str); 5] = [
    ("turbo.js", "@hotwired/turbo/dist/turbo.es2017-umd.js"),
    ("htmx-2.js", "htmx.org/dist/htmx.js"),
    ("htmx-2-preload.js", "htmx-ext-preload/dist/preload.js"),
    ("htmx-4.js", "htmx-4/dist/htmx.js"),
    ("htmx-4-preload.js", "htmx-4/dist/ext/hx-preload.js"),
];

/// A running site. Dropping it closes its port.
pub struct Site {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    port: u16,
    task: JoinHandle<()>,
}

/// How far a browser is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It was asked for so many things.
    Asked(usize),
    /// A page could not do what it was to.
    Trouble(String),
    /// All is done.
    Ended,
}

struct Shared {
    community: String,
    cases: Vec<String>,
    /// By case: requests for its page, and signs of life of one that waits to be shown.
    heard: Mutex<Vec<Vec<HeaderMap>>>,
    waits: Mutex<Vec<usize>>,
    progress: watch::Sender<Progress>,
}

impl Site {
    /// Of a community's pages, one for each case.
    pub async fn start(community: String, cases: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, progress) = watch::channel(Progress::Asked(0));
        let shared = Arc::new(Shared {
            community,
            heard: Mutex::new(vec![Vec::new(); cases.len()]),
            waits: Mutex::new(vec![0; cases.len()]),
            cases,
            progress: sender,
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self {
            shared,
            progress,
            port,
            task,
        }
    }

    /// As it stands in `[upstream] servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until a browser has got on; tells how far.
    pub async fn gets_on(&mut self) -> Progress {
        self.progress.changed().await.expect("the site is there");
        self.progress.borrow_and_update().clone()
    }

    /// Path of a case's page.
    pub fn path(&self, number: usize) -> String {
        format!("/communities/{}/posts/{number}/", self.shared.community)
    }

    /// The headers of all requests for a case's page.
    pub fn heard(&self, number: usize) -> Vec<HeaderMap> {
        self.shared.heard.lock().expect("no panic")[number].clone()
    }

    /// The last case that was begun.
    pub fn at(&self) -> Option<String> {
        let heard = self.shared.heard.lock().expect("no panic");
        let last = heard.iter().rposition(|requests| !requests.is_empty())?;
        Some(self.shared.cases[last].clone())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn answer(&self, path: &str, query: &str, headers: &HeaderMap) -> Option<Response> {
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        Some(match parts[..] {
            ["tour", "enter"] => {
                let cookie = format!("{query}; Path=/");
                ([(SET_COOKIE, cookie)], Redirect::to(&self.start(0))).into_response()
            }
            ["tour", "next", number] => {
                let next = number.parse::<usize>().ok()? + 1;
                if next < self.cases.len() {
                    return Some(Redirect::to(&self.start(next)).into_response());
                }
                self.progress.send_replace(Progress::Ended);
                "done".into_response()
            }
            ["tour", "trouble", text] => {
                let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
                self.progress.send_replace(Progress::Trouble(text.into_owned()));
                ().into_response()
            }
            ["tour", "name", number] => self
                .cases
                .get(number.parse::<usize>().ok()?)?
                .clone()
                .into_response(),
            ["tour", "heard", number] => {
                let heard = self.heard.lock().expect("no panic");
                heard
                    .get(number.parse::<usize>().ok()?)?
                    .len()
                    .to_string()
                    .into_response()
            }
            // Asked by the page that waits, and by the one that waits for it.
            ["tour", "waits", number] => {
                let is_of_page = headers.get("referer")?.to_str().ok()?.ends_with('/');
                let mut waits = self.waits.lock().expect("no panic");
                let waits = waits.get_mut(number.parse::<usize>().ok()?)?;
                *waits += usize::from(is_of_page);
                waits.to_string().into_response()
            }
            ["tour.js"] => script(include_str!("tour.js")),
            ["libraries", name] => library(name)?,
            ["communities", _, "posts", _, "worker.js"] => script(include_str!("worker.js")),
            ["communities", _, "posts", number, role] => self.page(number.parse().ok()?, role, headers)?,
            _ => return None,
        })
    }

    fn start(&self, number: usize) -> String {
        format!("/communities/{}/posts/{number}/start", self.community)
    }

    fn page(&self, number: usize, role: &str, headers: &HeaderMap) -> Option<Response> {
        let name = self.cases.get(number)?;
        let (role, by_hand) = match role {
            // The sidecar puts the script into it.
            "" => ("page", ""),
            "start" => ("start", "<script async src=\"/api/visitors/widget.js\"></script>"),
            "on" => ("on", ""),
            _ => return None,
        };
        if role == "page" {
            self.heard.lock().expect("no panic")[number].push(headers.clone());
        }
        let body = format!(
            "<!doctype html><html><head><title>{role}</title>{by_hand}</head><body><h1>{name}</h1>\
             <turbo-frame id=\"{role}\"></turbo-frame><turbo-frame id=\"f\"></turbo-frame>\
             <script src=\"/tour.js\" data-role=\"{role}\" data-number=\"{number}\" data-community=\"{}\"></script>\
             </body></html>",
            self.community
        );
        // What is fetched ahead is kept; from where one comes back, not.
        let (keep, tag) = match &**name {
            "prefetch-shown" | "cached" => ("private, max-age=600", None),
            "back" => ("no-store", None),
            "revalidated" => ("private, no-cache", Some("\"one\"")),
            _ => ("no-cache", None),
        };
        let mut response =
            if tag.is_some_and(|tag| headers.get(IF_NONE_MATCH).is_some_and(|value| value == tag)) {
                StatusCode::NOT_MODIFIED.into_response()
            } else {
                ([(CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
            };
        let headers = [(CACHE_CONTROL, Some(keep)), (ETAG, tag)];
        for (name, value) in headers {
            response
                .headers_mut()
                .extend(value.map(|value| (name, HeaderValue::from_static(value))));
        }
        Some(response)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let uri = request.uri();
    let answer = shared.answer(uri.path(), uri.query().unwrap_or_default(), request.headers());
    shared.progress.send_if_modified(|progress| match progress {
        Progress::Asked(times) => {
            *times += 1;
            true
        }
        Progress::Trouble(_) | Progress::Ended => false,
    });
    answer.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

fn script(text: impl Into<String>) -> Response {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], text.into()).into_response()
}

fn library(name: &str) -> Option<Response> {
    let (_, file) = LIBRARIES.iter().find(|(known, _)| *known == name)?;
    let folder = std::env::var_os("HEADCOUNT_TEST_SCRIPTS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/headcount/scripts"),
        PathBuf::from,
    );
    let path = folder.join("node_modules").join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/run installs it", path.display()));
    Some(script(text))
}
