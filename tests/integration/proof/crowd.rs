//! Members who look at one page after another, each page with an address of its own, so that every view can
//! be found again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use reqwest::{Client, redirect};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::support::backend::{Backend, Variant};
use crate::support::database::Database;
use crate::support::member::{FIREFOX, navigation};
use crate::support::postgres::Postgres;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World};

/// Views of one member at most.
const MOST: u32 = 1_000_000;
/// Whose sessions they are: some people have two, so that sessions and users are not the same order.
const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "alice", "bob"];

/// Members with a session each, and the pages that they have not seen yet.
pub struct Crowd {
    community: String,
    members: Vec<Member>,
}

#[derive(Clone)]
struct Member {
    number: u32,
    token: String,
    next: Arc<AtomicU32>,
}

/// One look at a page.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Its address, which no other visit has.
    pub path: String,
    pub sent: Instant,
    /// When the answer, or the failure, was complete.
    pub done: Instant,
    /// The status of a complete answer.
    pub status: Option<u16>,
}

impl Crowd {
    /// Members with sessions of `world`.
    pub async fn of(world: &World) -> Self {
        let mut members = Vec::new();
        for (number, name) in (1..).zip(NAMES) {
            let session = world.site.tell("add-session", &json!({"username": name})).await;
            members.push(Member {
                number,
                token: session["session_id"].as_str().expect("a token").to_owned(),
                next: Arc::default(),
            });
        }
        Self {
            community: world.community("rust"),
            members,
        }
    }

    /// The same sessions in a database that is not the site's.
    pub async fn known_to(&self, world: &World, pool: &PgPool) {
        for (member, name) in self.members.iter().zip(NAMES) {
            let user: i64 = world.seeded.user(name).parse().expect("a number");
            sqlx::query(
                "INSERT INTO accounts_usersession
                     (id, user_id, session_id, ip_address, user_agent, device_info, location_data,
                      device_fingerprint, fast_fingerprint, pages_visited, started_at, expires_at, is_active,
                      is_ended, persistent, termination_reason)
                 VALUES (gen_random_uuid(), $1, $2, '127.0.0.1', '', '{}', '{}', '', '', 0, now(),
                         now() + interval '1 day', true, false, false, '')",
            )
            .bind(user)
            .bind(&member.token)
            .execute(pool)
            .await
            .expect("a session");
        }
    }

    /// Session tokens, in the members' order.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| &*member.token)
    }

    /// Whose view an address is: a place in [`Crowd::tokens`].
    pub fn whose(&self, path: &str) -> Option<usize> {
        let page = path.strip_prefix(&format!("{}posts/", self.community))?;
        let page: u32 = page.strip_suffix('/')?.parse().ok()?;
        let place = usize::try_from(page / MOST).ok()?.checked_sub(1)?;
        (place < self.members.len()).then_some(place)
    }

    /// Lets everybody browse, each at one of the addresses in turn, until [`Load::stop`].
    pub fn browses(&self, bases: &[String], pace: Pace, dice: &mut StdRng) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let members = self.members.iter().map(|member| {
            let browser = Browser {
                member: member.clone(),
                bases: bases.to_vec(),
                community: self.community.clone(),
                client: client(),
                pace,
                dice: StdRng::seed_from_u64(dice.next_u64()),
            };
            tokio::spawn(browser.run(Arc::clone(&stop)))
        });
        Load {
            members: members.collect(),
            stop,
        }
    }
}

/// How long a member looks at a page, on average, and what else comes with a request.
#[derive(Clone, Copy)]
pub struct Pace {
    pub pause: Duration,
    /// Least length of the user agent: how much a view takes on disk.
    pub user_agent: usize,
}

impl Pace {
    /// Six members at this pace make some two hundred views a second.
    pub const STEADY: Self = Self {
        pause: Duration::from_millis(25),
        user_agent: 60,
    };
}

struct Browser {
    member: Member,
    bases: Vec<String>,
    community: String,
    client: Client,
    pace: Pace,
    dice: StdRng,
}

impl Browser {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Visit> {
        let mut visits = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let page = self.member.next.fetch_add(1, Ordering::Relaxed);
            assert!(page < MOST, "no pages are left");
            let page = self.member.number * MOST + page;
            let path = format!("{}posts/{page}/", self.community);
            let base = &self.bases[self.dice.random_range(0..self.bases.len())];
            let sent = Instant::now();
            let status = self.look_at(&format!("{base}{path}")).await;
            visits.push(Visit {
                path,
                sent,
                done: Instant::now(),
                status,
            });
            let pause = self.pace.pause.mul_f64(self.dice.random_range(0.5..1.5));
            tokio::time::sleep(pause).await;
        }
        visits
    }

    async fn look_at(&self, url: &str) -> Option<u16> {
        let request = self
            .client
            .get(url)
            .headers(navigation())
            .header(
                "user-agent",
                format!("{FIREFOX:x<length$}", length = self.pace.user_agent),
            )
            .header("cookie", format!("session_id={}", self.member.token));
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        response.bytes().await.ok()?;
        Some(status)
    }
}

/// A browser that keeps its connection and repeats nothing.
fn client() -> Client {
    Client::builder()
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .expect("a client")
}

/// Members at it.
pub struct Load {
    members: Vec<JoinHandle<Vec<Visit>>>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Lets everybody finish; returns what they saw.
    pub async fn stop(self) -> Vec<Visit> {
        self.stop.store(true, Ordering::Relaxed);
        let mut visits = Vec::new();
        for member in self.members {
            visits.extend(member.await.expect("a member who does not panic"));
        }
        visits
    }
}

/// A world whose site has its database to itself: the sidecar's is another, on a server that a test may kill,
/// and is reached through `port` where one is given. The sessions are the same in both.
pub async fn apart(server: &Postgres, wanted: Wanted, port: Option<u16>) -> (World, Crowd) {
    let (sites_own, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let site = Backend::start(Variant::Default, &sites_own.url(), wanted.settings);
    // The site uses it for longer than this function takes.
    sites_own.keep();
    let (database, seeded) = Database::seeded_on(server, Variant::Default).await;
    let wanted = Wanted {
        database_port: Some(port.unwrap_or_else(|| server.port())),
        ..wanted
    };
    let sidecar = Sidecar::start(&wanted.configuration(&site, &database));
    let world = World {
        sidecar,
        site,
        database,
        seeded,
    };
    let crowd = Crowd::of(&world).await;
    let pool = server.pool(world.database.name());
    crowd.known_to(&world, &pool).await;
    pool.close().await;
    (world, crowd)
}
