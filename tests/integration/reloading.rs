//! Route files change while the sidecar runs.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use sqlx::Executor as _;

use crate::support::backend::Variant;
use crate::support::postgres::Postgres;
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted};

pub(crate) const LOADED: &str = "headcount_config_reloads_total{outcome=\"success\"}";
const REFUSED: &str = "headcount_config_reloads_total{outcome=\"failure\"}";

/// A sidecar in front of an app at `upstream`, with further configuration.
fn start(upstream: &str, more: &str) -> Sidecar {
    Sidecar::start(&format!(
        "[upstream]\nservers = [\"{upstream}\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n{more}\n"
    ))
}

/// A reload asks the database as a start does: a type that its column does not take keeps the routes that are in use.
#[tokio::test]
async fn v33_a_reload_with_a_type_that_the_column_does_not_take_keeps_the_routes() {
    let world = Wanted::new(Parts::Production, Variant::Default).start().await;
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute("ALTER TABLE accounts_userevent ADD CONSTRAINT no_posts CHECK (event_type <> 'post_view')")
        .await
        .expect("a constraint");
    let sidecar = &world.sidecar;
    let with_type =
        |name: &str, event_type: &str| format!("{}event_type = \"{event_type}\"\n", route(name, "^/posts/$"));
    for (event_type, reason) in [
        ("post_view", "is forbidden by the constraint \"no_posts\""),
        (&*"x".repeat(60), "is longer than its column"),
    ] {
        let refused = sidecar.metric(REFUSED).await;
        sidecar.write_routes("zz.toml", &with_type("posts", event_type));
        sidecar.wait_for_metric(REFUSED, |now| now > refused).await;
        for told in ["zz.toml:4: route `posts`: `event_type`", reason] {
            sidecar.says(told);
        }
        let ready = reqwest::get(sidecar.admin_url("/readyz"))
            .await
            .expect("an answer");
        let ready = ready.text().await.expect("a text");
        assert!(ready.contains("the last good routes stay in use"), "{ready}");
        assert_ne!(sidecar.route_of("/posts/").await, "posts");
    }
    pool.execute("ALTER TABLE accounts_userevent DROP CONSTRAINT no_posts")
        .await
        .expect("dropped");
    sidecar.write_routes("zz.toml", &with_type("posts", "post_view"));
    sidecar.wait_for_route("/posts/", "posts").await;
    pool.close().await;
}

/// A sidecar whose app is not there, because nobody asks for it.
pub(crate) fn lonely(more: &str) -> Sidecar {
    start("127.0.0.1:9", more)
}

const ON_SIGNAL_ONLY: &str = "[routes]\nwatch = false";

pub(crate) fn route(name: &str, pattern: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npattern = '{pattern}'\n")
}

impl Sidecar {
    pub(crate) fn route_file(&self, name: &str) -> PathBuf {
        self.directory().join("routes.d").join(name)
    }

    pub(crate) fn write_routes(&self, name: &str, text: &str) {
        std::fs::write(self.route_file(name), text).expect("a route file");
    }

    /// Name of the route that the running process would use.
    pub(crate) async fn route_of(&self, path: &str) -> String {
        let url = self.admin_url(&format!("/routes/test?url={path}"));
        let text = reqwest::get(url)
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("route "))
            .expect("a route");
        line.split_whitespace().next().expect("a name").to_owned()
    }

    pub(crate) async fn wait_for_route(&self, path: &str, name: &str) {
        in_time(name, async { while self.route_of(path).await != name {} }).await;
    }

    pub(crate) async fn loads(&self, times: f64) {
        self.wait_for_metric(LOADED, |loads| loads >= times).await;
    }
}

#[tokio::test]
async fn a_signal_swaps_the_routes() {
    let sidecar = lonely(ON_SIGNAL_ONLY);
    assert_eq!(sidecar.route_of("/healthz").await, "health");
    for (loads, name) in [(1.0, "first"), (2.0, "second")] {
        sidecar.write_routes("site.toml", &route(name, "^/healthz$"));
        sidecar.signal("HUP");
        sidecar.loads(loads).await;
        assert_eq!(sidecar.route_of("/healthz").await, name);
    }
    assert_eq!(sidecar.metric("headcount_routes").await, 1.0);
}

#[tokio::test]
async fn a_change_swaps_the_routes_without_a_signal() {
    let sidecar = lonely("");
    sidecar.write_routes("site.toml", &route("changed", "^/healthz$"));
    sidecar.wait_for_route("/healthz", "changed").await;
}

#[tokio::test]
async fn a_new_file_is_read_and_a_removed_one_forgotten() {
    let sidecar = lonely("");
    sidecar.wait_for_route("/new", "none").await;
    // In file-name order: the new file's route comes before the old file's.
    sidecar.write_routes("new.toml", &route("new", "^/(new|healthz)$"));
    sidecar.wait_for_route("/new", "new").await;
    sidecar.wait_for_route("/healthz", "new").await;

    std::fs::remove_file(sidecar.route_file("new.toml")).unwrap();
    sidecar.wait_for_route("/new", "none").await;
    sidecar.wait_for_route("/healthz", "health").await;
}

#[tokio::test]
async fn a_file_that_is_moved_into_its_place_is_read() {
    let sidecar = lonely("");
    let aside = sidecar.directory().join("aside");
    std::fs::write(&aside, route("moved", "^/healthz$")).unwrap();
    std::fs::rename(aside, sidecar.route_file("site.toml")).unwrap();
    sidecar.wait_for_route("/healthz", "moved").await;
}

#[tokio::test]
async fn with_watching_off_only_a_signal_reloads() {
    let unwatched = lonely(ON_SIGNAL_ONLY);
    let folder = unwatched.directory().join("routes.d");
    // Tells when the change could have been noticed.
    let watching = lonely(&format!("[routes]\ndir = \"{}\"", folder.display()));
    unwatched.write_routes("site.toml", &route("changed", "^/healthz$"));
    watching.loads(1.0).await;
    assert_eq!(unwatched.metric(LOADED).await, 0.0);
    assert_eq!(unwatched.route_of("/healthz").await, "health");
    unwatched.signal("HUP");
    unwatched.loads(1.0).await;
    assert_eq!(unwatched.route_of("/healthz").await, "changed");
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_routes_and_says_where_it_is_bad() {
    let sidecar = lonely(ON_SIGNAL_ONLY);
    assert_eq!(
        sidecar.metric("headcount_config_last_reload_successful").await,
        1.0
    );
    let text = format!("{}{}", route("good", "^/healthz$"), route("bad", "^/("));
    sidecar.write_routes("site.toml", &text);
    sidecar.signal("HUP");
    sidecar.wait_for_metric(REFUSED, |refused| refused == 1.0).await;
    assert_eq!(sidecar.route_of("/healthz").await, "health");
    assert_eq!(
        sidecar.metric("headcount_config_last_reload_successful").await,
        0.0
    );
    assert_eq!(sidecar.metric(LOADED).await, 0.0);
    let file = sidecar.route_file("site.toml");
    let said = format!(
        "{}:6: route `bad`: the pattern does not compile: unclosed group",
        file.display()
    );
    let log = sidecar.says(&said);
    let line = log.lines().find(|line| line.contains(&said)).expect("a line");
    assert!(
        line.contains("ERROR") && line.contains("the last good ones stay in use"),
        "{line}"
    );

    sidecar.write_routes("site.toml", &route("mended", "^/healthz$"));
    sidecar.signal("HUP");
    sidecar.loads(1.0).await;
    assert_eq!(sidecar.route_of("/healthz").await, "mended");
    assert_eq!(
        sidecar.metric("headcount_config_last_reload_successful").await,
        1.0
    );
}

#[tokio::test]
async fn a_folder_that_is_gone_keeps_the_last_good_routes() {
    let sidecar = lonely(ON_SIGNAL_ONLY);
    std::fs::remove_dir_all(sidecar.directory().join("routes.d")).unwrap();
    sidecar.signal("HUP");
    sidecar.wait_for_metric(REFUSED, |refused| refused == 1.0).await;
    assert_eq!(sidecar.route_of("/healthz").await, "health");
}

/// Takes one request and gives back its connection, unanswered.
async fn one_request(app: &TcpListener) -> tokio::net::TcpStream {
    loop {
        let (mut connection, _) = app.accept().await.expect("a connection");
        let mut head = Vec::new();
        // A health check connects and says nothing.
        while !head.ends_with(b"\r\n\r\n") {
            match connection.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        if head.starts_with(b"GET /slow") {
            return connection;
        }
    }
}

#[tokio::test]
async fn requests_in_flight_are_untouched_and_keep_their_route() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = start(&app.local_addr().unwrap().to_string(), ON_SIGNAL_ONLY);
    sidecar.write_routes("site.toml", &route("before", "^/slow$"));
    sidecar.signal("HUP");
    sidecar.loads(1.0).await;

    let request = tokio::spawn(reqwest::get(sidecar.url("/slow")));
    let mut connection = in_time("the request", one_request(&app)).await;
    sidecar.write_routes("site.toml", &route("after", "^/slow$"));
    for loads in [2.0, 3.0] {
        sidecar.signal("HUP");
        sidecar.loads(loads).await;
    }
    assert_eq!(sidecar.route_of("/slow").await, "after");
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        .await
        .unwrap();
    let response = in_time("the response", request).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "done");
    let counted = "headcount_requests_total{route=\"before\",status=\"2xx\"}";
    in_time("the request to be counted", async {
        while sidecar.metrics().await.get(counted) != Some(&1.0) {}
    })
    .await;
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready_and_ends_with_0_after_the_last_answer() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sidecar = start(
        &app.local_addr().unwrap().to_string(),
        "[limits]\ngrace_period = \"1h\"",
    );
    let request = tokio::spawn(reqwest::get(sidecar.url("/slow")));
    let mut connection = in_time("the request", one_request(&app)).await;
    sidecar.signal("TERM");
    in_time("the end of readiness", async {
        while reqwest::get(sidecar.admin_url("/readyz")).await.unwrap().status() != 503 {}
    })
    .await;
    let alive = reqwest::get(sidecar.admin_url("/livez")).await.unwrap();
    assert_eq!(alive.status(), 200);
    connection
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        .await
        .unwrap();
    let response = in_time("the response", request).await.unwrap().unwrap();
    assert_eq!(response.text().await.unwrap(), "done");
    assert_eq!(sidecar.wait_for_end(), Some(0));
}
