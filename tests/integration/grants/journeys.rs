//! The whole journey under exactly the printed role, for sites of several kinds.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Role, command, execute, lacks, parsed};
use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::jwt::{Pair, records_the_feed, with_bearer, with_jwt};
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::sidecar::{ROUTES, Sidecar};
use crate::support::world::{Parts, Wanted, World};

/// What a site is like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OwnEvents,
    Django,
    Joined,
    Jwt,
    Lookups,
}

impl Kind {
    fn variant(self) -> Variant {
        match self {
            Self::Django => Variant::Django,
            _ => Variant::Default,
        }
    }

    /// What the site's owner does to its tables.
    fn tables(self, database: &Database) -> String {
        match self {
            Self::Lookups => "CREATE TABLE forum_topic (id bigint PRIMARY KEY, forum_id bigint);
                              INSERT INTO forum_topic SELECT 7, id FROM communities_community WHERE slug = 'rust'"
                .into(),
            Self::Joined => "ALTER TABLE auth_user ADD hides boolean NOT NULL DEFAULT false;
                             UPDATE auth_user SET hides = true WHERE username = 'carol'"
                .into(),
            _ => format!("COMMENT ON DATABASE {} IS 'as it is'", database.name()),
        }
    }

    /// The configuration; the folder holds the key of JWTs.
    fn wanted(self) -> (Wanted, Option<TempDir>) {
        let usual = Wanted::new(Parts::Production, self.variant());
        match self {
            Self::OwnEvents => {
                let record = "events = \"own\"\nown_partitions = \"month\"".into();
                (Wanted { record, ..usual }, None)
            }
            Self::Django => (usual, None),
            Self::Joined => {
                let joined = |column: &str| {
                    format!(
                        "{{ table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"{column}\" }}"
                    )
                };
                let (name, hides) = (joined("username"), joined("hides"));
                let config = format!("[schema.profile.columns]\nusername = {name}\nis_hidden = {hides}\n");
                (Wanted { config, ..usual }, None)
            }
            Self::Jwt => {
                let (folder, wanted) = with_jwt(usual, "session_claim = \"sid\"");
                (wanted, Some(folder))
            }
            Self::Lookups => {
                let config = "[api]\ncommunity_key = \"slug\"\n\
                              [schema.lookup.topic]\ntable = \"forum_topic\"\ncommunity = \"forum_id\"\n"
                    .into();
                (Wanted { config, ..usual }, None)
            }
        }
    }
}

/// Migrated, a role of exactly the printed rights, of which each is needed, and the sidecar under it.
async fn under_the_printed_role(kind: Kind) -> (World, Option<TempDir>) {
    let (database, seeded) = Database::seeded(Parts::Production, kind.variant()).await;
    execute(&database, &kind.tables(&database)).await;
    let site = Backend::start(kind.variant(), &database.url(), Settings::default());
    let (wanted, keys) = kind.wanted();
    let config = wanted.configuration(&site, &database);
    headcount::store::migrate(&parsed(&config), false)
        .await
        .expect("migrated");
    let role = Role::make(&database, &config).await;
    execute(&database, &role.sql).await;
    let config = role.uses(&config);
    let directory = tempfile::tempdir().expect("a directory");
    let checked = command(directory.path(), &config, &["check"]);
    assert_eq!((checked.code, &*checked.err), (Some(0), ""), "{}", role.sql);
    let as_role = parsed(&config);
    for right in role.rights() {
        execute(&database, &format!("REVOKE {right} FROM {}", role.name)).await;
        assert!(lacks(&as_role).await, "{right} is not needed");
        execute(&database, &format!("GRANT {right} TO {}", role.name)).await;
    }
    let sidecar = Sidecar::start(&config);
    let world = World {
        sidecar,
        site,
        database,
        seeded,
    };
    (world, keys)
}

fn names(list: &Value) -> Vec<String> {
    let visitors = list["visitors"].as_array().expect("a list").iter();
    let mut names: Vec<String> = visitors
        .map(|visitor| visitor["username"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

/// Two members at a community: counted, listed with their names, and in the statistics.
async fn are_counted(world: &World, community: &str, others: &[&str]) {
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    for name in others {
        world.member(name).await.sees("/c/rust/").await;
    }
    let views = others.len() + 1;
    world.wait_for_views(views).await;
    let path = |rest: &str| format!("/api/communities/{community}/visitors{rest}");
    let list = alice.json(&path("")).await;
    assert_eq!(list["current_visitors"], views, "{list}");
    let shown: Vec<&str> = ["alice"]
        .iter()
        .chain(others)
        .copied()
        .filter(|name| *name != "carol")
        .collect();
    assert_eq!(names(&list), shown);
    let stats = alice.json(&path("/stats")).await;
    assert_eq!(
        (&stats["page_views"], &stats["total_visitors"]),
        (&json!(views), &json!(views))
    );
    let log = world.sidecar.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn d9_with_events_of_our_own_in_partitions() {
    let (world, _) = Box::pin(under_the_printed_role(Kind::OwnEvents)).await;
    let rust = world.seeded.community("rust");
    are_counted(&world, &rust, &["bob"]).await;
    let pool = Postgres::shared().pool(world.database.name());
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM headcount.page_view")
        .fetch_one(&pool)
        .await
        .expect("a number");
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn d9_with_djangos_own_sessions() {
    let (world, _) = Box::pin(under_the_printed_role(Kind::Django)).await;
    are_counted(&world, &world.seeded.community("rust"), &["bob"]).await;
}

#[tokio::test]
async fn d9_with_names_in_another_table_that_hides_members() {
    let (world, _) = Box::pin(under_the_printed_role(Kind::Joined)).await;
    are_counted(&world, &world.seeded.community("rust"), &["bob", "carol"]).await;
}

#[tokio::test]
async fn d9_with_jwts_that_name_their_session() {
    let (world, _keys) = Box::pin(under_the_printed_role(Kind::Jwt)).await;
    records_the_feed(&world.sidecar).await;
    let (alice, app) = (Pair::of(&world, "alice").await, world.stranger());
    let asked = async |path: &str| {
        let answer = with_bearer(&app, Method::GET, path, &alice.access).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json::<Value>().await.expect("JSON")
    };
    asked(&format!("/api/feed/{}/", world.seeded.community("rust"))).await;
    world.wait_for_views(1).await;
    let sessions = world.site.ask("oracle/sessions").await;
    assert_eq!(sessions[0]["pages_visited"], 1, "{sessions}");
    assert_eq!(names(&asked(&world.visitors("rust", "")).await), ["alice"]);
    let stats = asked(&world.visitors("rust", "/stats")).await;
    assert_eq!(
        (&stats["page_views"], &stats["total_visitors"]),
        (&json!(1), &json!(1))
    );
}

fn forum(_: &Heard) -> Reply {
    Reply::Keep("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<p>A topic.</p>")
}

#[tokio::test]
async fn d9_with_slugs_and_topics_that_lead_to_their_community() {
    let (world, _) = Box::pin(under_the_printed_role(Kind::Lookups)).await;
    are_counted(&world, "rust", &["bob"]).await;
    // The site has no topics: another server does.
    let server = FakeUpstream::answering(forum).await;
    let config = std::fs::read_to_string(world.sidecar.config()).expect("a configuration");
    let (before, _) = config.split_once("\n[listen]").expect("listeners");
    let site = format!("servers = [\"127.0.0.1:{}\"]", world.site.port());
    let config = before.replace(&site, &format!("servers = [\"{}\"]", server.address()));
    let topics =
        "[[route]]\nname = \"topic\"\npattern = '^/topic/(?P<topic>[^/]+)/$'\npage_type = \"topic\"\n";
    let sidecar = Sidecar::start_with(&config, &format!("{topics}{ROUTES}"));
    let alice = world.member("alice").await;
    let request = Member::new(sidecar.url("")).navigation("/topic/7/");
    let answer = request.header("cookie", alice.cookie()).send().await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    sidecar
        .wait_for_metric("headcount_applied_views_total", |views| views == 1.0)
        .await;
    let views = world.page_views().await;
    let topic = views.iter().find(|view| view["metadata"]["url"] == "/topic/7/");
    let community = topic.expect("it is recorded")["metadata"]["community_id"].to_string();
    assert_eq!(community.trim_matches('"'), world.seeded.community("rust"));
}
