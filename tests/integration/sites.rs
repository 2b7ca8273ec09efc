//! Sites that know nothing of the sidecar, each from an empty folder to counted views, list, live counts and widget: `headcount
//! init`, the edits that `config/README.md` shows, `headcount migrate`, and nothing else.

mod advice;
mod fidelity;
mod refusals;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::live::Events;
use crate::support::member::Member;
use crate::support::process::{Told, run};
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::subject::{Foreign, Subject};

/// Texts of the written files, and what an operator puts in their place; each counts its lines.
type Edits = [(&'static str, &'static str)];

/// Most lines that an operator has to edit.
const MOST_EDITS: usize = 10;

/// What makes the pages show the count.
const WIDGET: [(&str, &str); 2] = [("#[widget]", "[widget]"), ("#inject = true", "inject = true")];

/// A site behind a sidecar that init configured.
struct Counted {
    subject: Subject,
    sidecar: Sidecar,
    /// How the API names a community: by key or by slug.
    rust: String,
    hidden: String,
    /// The table with the page views.
    events: &'static str,
}

impl Counted {
    fn start(subject: Subject, edits: &Edits, more: &[(&'static str, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let told = init(&subject, &folder);
        assert_eq!((told.code, &*told.err), (Some(0), ""), "{}", told.out);
        edit(&folder, edits);
        let config = folder.path().join("headcount.toml");
        let config = config.to_str().expect("UTF-8");
        let mut environment = more.to_vec();
        environment.extend([
            ("HEADCOUNT__RECORD__BATCH_AGE", "50ms".to_owned()),
            ("HEADCOUNT__RECORD__COALESCE", "0s".to_owned()),
        ]);
        let borrowed: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        for command in ["migrate", "check"] {
            let told = run(&[command, "--config", config], &borrowed);
            assert_eq!((told.code, &*told.err), (Some(0), ""), "{command}: {}", told.out);
        }
        let (rust, hidden) = (subject.community("rust"), subject.community("hidden"));
        let sidecar = Sidecar::start_in(folder, &environment);
        Self {
            subject,
            sidecar,
            rust,
            hidden,
            events: "headcount.page_view",
        }
    }

    async fn member(&self, name: &str) -> Member {
        self.subject.signs_in(self.sidecar.url(""), name).await
    }

    fn api(community: &str, rest: &str) -> String {
        format!("/api/communities/{community}/visitors{rest}")
    }

    /// The views of a community that are in the database, by page type.
    async fn views(&self, community: &str) -> Vec<String> {
        let sql = format!(
            "SELECT metadata ->> 'page_type' FROM {} WHERE metadata ->> 'community_id' = $1
             AND metadata ->> 'source' = 'headcount' ORDER BY timestamp",
            self.events
        );
        let pool = self.subject.pool();
        let views = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(community)
            .fetch_all(&pool)
            .await;
        pool.close().await;
        views.expect("the table is there")
    }

    /// Waits until so many views are in the database, and none is on its way.
    async fn has_written(&self, views: f64) {
        let applied = "headcount_applied_views_total";
        self.sidecar
            .wait_for_metric(applied, |applied| applied >= views)
            .await;
        self.sidecar.wait_until_idle().await;
    }

    /// Counted views, list, count, live, statistics and widget.
    async fn shows_who_is_here(&self, page_types: [&str; 2]) {
        let (alice, bob) = (self.member("alice").await, self.member("bob").await);
        alice.sees(self.subject.page("community")).await;
        self.has_written(1.0).await;
        bob.sees(self.subject.page("topic")).await;
        self.has_written(2.0).await;
        let key = self.subject.community("rust");
        assert_eq!(self.views(&key).await, page_types);

        let list = alice.json(&Self::api(&self.rust, "")).await;
        let names = list["visitors"].as_array().expect("a list").iter();
        let names: Vec<_> = names.map(|visitor| visitor["username"].clone()).collect();
        assert_eq!(
            (names, &list["current_visitors"]),
            (vec![json!("bob"), json!("alice")], &json!(2))
        );
        let count = alice.json(&Self::api(&self.rust, "/count/")).await;
        assert_eq!(count["current_visitors"], 2);
        let stats = alice.json(&Self::api(&self.rust, "/stats")).await;
        assert_eq!(
            [&stats["page_views"], &stats["total_visitors"]],
            [&json!(2), &json!(2)]
        );
        let mut live = Events::open(&self.sidecar, &Self::api(&self.rust, "/live"), &alice).await;
        live.until(2).await;

        let page = alice
            .navigation(self.subject.page("community"))
            .send()
            .await
            .expect("a page");
        let page = page.text().await.expect("text");
        assert!(
            page.contains("<script async src=\"/api/visitors/widget.js\""),
            "{page}"
        );
    }

    /// The member to whom the app does not show a community learns nothing of it; the others do.
    async fn hides_what_the_site_hides(&self, is_shown_to_alice: bool) {
        let (alice, mallory) = (self.member("alice").await, self.member("mallory").await);
        let status = mallory.visits(self.subject.page("hidden")).await;
        assert_ne!(status, StatusCode::OK);
        if is_shown_to_alice {
            alice.sees(self.subject.page("hidden")).await;
            let list = Self::api(&self.hidden, "");
            eventually(async || alice.json(&list).await["current_visitors"] == 1).await;
        }
        // A page of the community that the app shows to everybody, and that is not its own.
        if let Some(beside) = self.subject.seeded["pages"]["hidden_beside"].as_str() {
            mallory.sees(beside).await;
        }
        for rest in ["", "/count", "/stats", "/live"] {
            let asked = mallory.request(Method::GET, &Self::api(&self.hidden, rest));
            let accepts = if rest == "/live" {
                "text/event-stream"
            } else {
                "*/*"
            };
            let answer = asked.header("accept", accepts).send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{rest}");
        }
    }
}

impl Counted {
    /// The site shows a topic below whichever forum the path names: the view is one of the topic's forum.
    async fn counts_a_topic_where_it_belongs(&self) {
        let [of_rust, of_hidden] = ["community", "hidden"].map(|page| self.subject.page(page));
        let forged = self.subject.page("hidden_topic").replace(of_hidden, of_rust);
        assert_ne!(forged, self.subject.page("hidden_topic"));
        let (rust, hidden) = (self.subject.community("rust"), self.subject.community("hidden"));
        self.sidecar.wait_until_idle().await;
        let before = (self.views(&rust).await, self.views(&hidden).await);
        let applied = self.sidecar.metric("headcount_applied_views_total").await;
        self.member("bob").await.sees(&forged).await;
        self.has_written(applied + 1.0).await;
        let after = (self.views(&rust).await, self.views(&hidden).await);
        assert_eq!(after, (before.0, [before.1, vec!["topic".to_owned()]].concat()));
    }
}

/// Runs `headcount init` for a site, into an empty folder.
fn init(subject: &Subject, folder: &TempDir) -> Told {
    init_with(subject, folder, &[])
}

/// The same with more in the environment.
fn init_with(subject: &Subject, folder: &TempDir, more: &[(&str, &str)]) -> Told {
    let upstream = format!("127.0.0.1:{}", subject.port);
    let [project, python] = [&subject.project, &subject.python].map(|path| path.to_str().expect("UTF-8"));
    let folder = folder.path().to_str().expect("UTF-8");
    let environment = subject.environment.iter().map(|(name, value)| (*name, &**value));
    let environment: Vec<_> = environment.chain(more.iter().copied()).collect();
    run(
        &[
            "init",
            "--django",
            project,
            "--python",
            python,
            "--upstream",
            &upstream,
            folder,
        ],
        &environment,
    )
}

/// Edits the written files as an operator does.
fn edit(folder: &TempDir, edits: &Edits) {
    let lines: usize = edits.iter().map(|(_, to)| to.lines().count()).sum();
    assert!(lines <= MOST_EDITS, "{lines} edited lines");
    let files = ["headcount.toml", "routes.d/communities.toml"].map(|file| folder.path().join(file));
    let mut texts = files
        .clone()
        .map(|file| std::fs::read_to_string(file).expect("a file"));
    for (from, to) in edits {
        let text = texts.iter_mut().find(|text| text.contains(from));
        let text = text.unwrap_or_else(|| panic!("no file has {from}"));
        *text = text.replacen(from, to, 1);
    }
    for (file, text) in files.iter().zip(texts) {
        std::fs::write(file, text).expect("the file is written");
    }
}

#[tokio::test]
async fn d1_the_usual_backend() {
    let mut counted = Counted::start(Subject::usual().await, &WIDGET, &[]);
    counted.events = "accounts_userevent";
    counted.shows_who_is_here(["community", "community-post"]).await;
    counted.hides_what_the_site_hides(true).await;
    fidelity::is_unchanged(&counted.subject, &counted.sidecar).await;
}

#[tokio::test]
async fn d1_a_forum_with_sessions_of_a_package() {
    let counted = Counted::start(Subject::foreign(Foreign::Spirit, false).await, &WIDGET, &[]);
    counted.shows_who_is_here(["category", "topic"]).await;
    counted.hides_what_the_site_hides(false).await;
    fidelity::is_unchanged(&counted.subject, &counted.sidecar).await;
}

#[tokio::test]
async fn d1_a_forum_with_djangos_own_sessions() {
    let counted = Counted::start(Subject::foreign(Foreign::Machina, false).await, &WIDGET, &[]);
    counted.shows_who_is_here(["forum", "topic"]).await;
    counted.hides_what_the_site_hides(true).await;
    counted.counts_a_topic_where_it_belongs().await;
    fidelity::is_unchanged(&counted.subject, &counted.sidecar).await;
}

/// The secret of the site's tokens, as its settings have it.
const JWT: [(&str, &str); 7] = [
    ("#[session.jwt]", "[session.jwt]"),
    ("#algorithms = [\"HS256\"]", "algorithms = [\"HS256\"]"),
    ("#key_file = \"jwt.key\"", "key_file = \"jwt.key\""),
    ("#user_claim = \"user_id\"", "user_claim = \"user_id\""),
    ("#issuer = \"clubs.test\"", "issuer = \"clubs.test\""),
    WIDGET[0],
    WIDGET[1],
];

/// Keys that are uuids, tables in another schema, names in `auth_user`, slugs, hashed tokens, and an API with signed ones.
async fn a_site_of_its_own(is_pooled: bool) {
    let subject = Subject::foreign(Foreign::Clubs, is_pooled).await;
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().join("jwt.key");
    std::fs::write(&key, "a-constant-for-tests-only-of-32-bytes").expect("a key");
    let mut more = vec![("HEADCOUNT__SESSION__JWT__KEY_FILE", key.display().to_string())];
    if is_pooled {
        more.push(("HEADCOUNT__DATABASE__DIRECT_URL", subject.direct_url()));
    }
    let mut counted = Counted::start(subject, &JWT, &more);
    // The API takes slugs.
    (counted.rust, counted.hidden) = ("rust".into(), "hidden".into());
    counted.shows_who_is_here(["club", "meeting"]).await;
    counted.hides_what_the_site_hides(true).await;

    // The single-page app asks with its token.
    let stranger = Member::new(counted.sidecar.url(""));
    let body = json!({"username": "alice", "password": "password"});
    let response = stranger
        .request(Method::POST, "/api/token/")
        .json(&body)
        .send()
        .await;
    let tokens: Value = response.expect("an answer").json().await.expect("JSON");
    let token = format!("Bearer {}", tokens["access"].as_str().expect("a token"));
    let list = stranger.request(Method::GET, &Counted::api("rust", ""));
    let list = list
        .header("authorization", token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(list.status(), StatusCode::OK);
    let list: Value = list.json().await.expect("JSON");
    assert_eq!(list["visitors"].as_array().map(Vec::len), Some(2), "{list}");
    let asked = stranger.get(&Counted::api("rust", "")).await.status();
    assert!(asked.is_client_error(), "{asked}");
    fidelity::is_unchanged(&counted.subject, &counted.sidecar).await;
}

#[tokio::test]
async fn d1_a_site_of_its_own() {
    a_site_of_its_own(false).await;
}

#[tokio::test]
async fn d1_a_site_of_its_own_behind_a_pooler_that_lends_by_the_transaction() {
    a_site_of_its_own(true).await;
}
