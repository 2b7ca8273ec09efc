//! Fakes of what surrounds live connections in their tests.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::browser_session::BrowserSession;
use crate::communities::AskedCommunity;
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::page_view::Queue;
use crate::presence::memory::InMemory;
use crate::presence::worker;
use crate::presence::{Scope, SteadyClock, Touch};
use crate::status::Status;
use crate::store::fake::Fake;
use crate::store::{Store, StoreError};
use crate::tasks::Tasks;

/// Whose all connections are.
const OWNER: &str = "reader";

/// The id of its only session.
pub(super) const SESSION: &str = "the session";

/// One session, which may end, in a database that may go away.
pub(super) struct OneSession {
    ended: AtomicBool,
    away: AtomicBool,
    /// How long a question waits before it fails.
    hangs: Mutex<Duration>,
    expires_at: Mutex<DateTime<Utc>>,
    user: Mutex<UserId>,
    held: tokio::sync::Mutex<()>,
}

impl OneSession {
    /// While this is kept, nothing is answered but with what was true before.
    pub(super) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.held.lock().await
    }

    pub(super) fn sign_out(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn goes_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Each question fails after this time.
    pub(super) fn hangs(&self, time: Duration) {
        *self.hangs.lock().unwrap() = time;
        self.goes_away();
    }

    /// Until when.
    pub(super) fn lasts(&self, until: DateTime<Utc>) {
        *self.expires_at.lock().unwrap() = until;
    }

    pub(super) fn belongs_to(&self, user: &str) {
        *self.user.lock().unwrap() = user.into();
    }

    pub(super) fn session(&self) -> BrowserSession {
        BrowserSession {
            is_ended: self.ended.load(Ordering::Relaxed),
            ..BrowserSession::valid_until(
                SESSION,
                self.user.lock().unwrap().as_str(),
                *self.expires_at.lock().unwrap(),
            )
        }
    }
}

#[async_trait]
impl Fake for OneSession {
    async fn browser_session(&self, _: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        if self.away.load(Ordering::Relaxed) {
            let time = *self.hangs.lock().unwrap();
            sleep(time).await;
            return Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut));
        }
        let session = self.session();
        let _held = self.held.lock().await;
        Ok(Some(session))
    }
}

/// Who may see what: everything that is a number, unless it was forbidden.
#[derive(Default)]
pub(super) struct Rules {
    forbidden: Mutex<HashSet<String>>,
    forbidden_things: Mutex<Vec<Scope>>,
    slugs: Mutex<HashMap<String, String>>,
    again: AtomicBool,
    only_slugs: AtomicBool,
    held: tokio::sync::Mutex<()>,
}

impl Rules {
    pub(super) fn forbid(&self, community: &str) {
        self.forbidden.lock().unwrap().insert(community.into());
    }

    /// Something in a community, which is not forbidden itself.
    pub(super) fn forbid_thing(&self, thing: Scope) {
        self.forbidden_things.lock().unwrap().push(thing);
    }

    /// Callers name communities by slugs alone.
    pub(super) fn takes_slugs_only(&self) {
        self.only_slugs.store(true, Ordering::Relaxed);
    }

    /// A slug of a community.
    pub(super) fn slug(&self, slug: &str, community: &str) {
        self.slugs.lock().unwrap().insert(slug.into(), community.into());
    }

    /// While this is kept, nothing is answered.
    pub(super) async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.held.lock().await
    }

    pub(super) fn needs_recheck(&self) {
        self.again.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl AccessPolicy for Rules {
    async fn admit(
        &self,
        session: Option<Arc<BrowserSession>>,
        asked: &[String],
    ) -> Result<Vec<Option<AskedCommunity>>, Denied> {
        session.ok_or(Denied::NoSession)?;
        let _held = self.held.lock().await;
        let forbidden = self.forbidden.lock().unwrap();
        let slugs = self.slugs.lock().unwrap();
        let admit = |asked: &String| {
            if let Some(key) = slugs.get(asked).filter(|key| !forbidden.contains(*key)) {
                let slug = Some(asked.as_str().into());
                return Some(AskedCommunity {
                    id: key.as_str().into(),
                    slug,
                });
            }
            let key = asked.parse::<u64>().ok().filter(|_| !forbidden.contains(asked));
            key.map(|key| CommunityId::new(key.to_string()).into())
        };
        Ok(asked.iter().map(admit).collect())
    }

    async fn still_admits(
        &self,
        session: Option<Arc<BrowserSession>>,
        scopes: &[Scope],
        _: Option<&Scope>,
    ) -> Result<Vec<bool>, Denied> {
        session.ok_or(Denied::NoSession)?;
        let _held = self.held.lock().await;
        let forbidden = self.forbidden.lock().unwrap();
        let things = self.forbidden_things.lock().unwrap();
        let may_see = |scope: &Scope| {
            let community = scope.community();
            !things.contains(scope) && community.is_none_or(|id| !forbidden.contains(id.as_str()))
        };
        Ok(scopes.iter().map(may_see).collect())
    }

    fn takes_ids(&self) -> bool {
        !self.only_slugs.load(Ordering::Relaxed)
    }

    fn needs_recheck(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }
}

/// Live connections and all that they need.
pub(super) struct Bench {
    pub(super) live: Live,
    pub(super) settings: config::Live,
    pub(super) window: Duration,
    pub(super) presence: Arc<dyn Presence>,
    pub(super) store: Arc<OneSession>,
    clock: Clock,
    authenticator: Arc<Authenticator>,
    pub(super) rules: Arc<Rules>,
    pub(super) metrics: Arc<Metrics>,
    _stop: tokio::sync::watch::Sender<bool>,
}

pub(super) async fn bench() -> Bench {
    bench_with(|_| {}).await
}

/// With a cache of sessions: what has become of one is found out when somebody tells.
pub(super) async fn bench_that_remembers() -> Bench {
    bench_of(|_| {}, LONG).await
}

pub(super) async fn bench_with(configure: impl FnOnce(&mut config::Live)) -> Bench {
    // Each look is a new one.
    bench_of(configure, Duration::ZERO).await
}

async fn bench_of(configure: impl FnOnce(&mut config::Live), cache_ttl: Duration) -> Bench {
    let mut settings = config::Live::default();
    configure(&mut settings);
    let record = config::Record {
        // What is coalesced goes by another clock than the tests'.
        coalesce: Duration::ZERO,
        ..config::Record::default()
    };
    let session = config::Session {
        cache_ttl,
        ..config::Session::default()
    };
    let metrics = Arc::<Metrics>::default();
    let start = tokio::time::Instant::now();
    let clock = move || DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + start.elapsed();
    let clock: Clock = Arc::new(clock);
    let presence: Arc<dyn Presence> = Arc::new(InMemory::new(
        record.window,
        SteadyClock::steady(Arc::clone(&clock)),
    ));
    let (touches, worker) = worker::new(
        Arc::clone(&presence),
        &record,
        &Status::default(),
        Arc::default(),
        metrics.views.queued[Queue::Presence].clone(),
    );
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let tasks = Tasks::on_current_runtime();
    worker.start(&tasks, stopped);
    let store = Arc::new(OneSession {
        ended: AtomicBool::new(false),
        away: AtomicBool::new(false),
        hangs: Mutex::default(),
        expires_at: Mutex::new(clock() + TimeDelta::days(365)),
        user: Mutex::new(OWNER.into()),
        held: tokio::sync::Mutex::default(),
    });
    let authenticator = Arc::new(Authenticator::new(
        &session,
        Arc::clone(&store) as Arc<dyn Store>,
        Arc::default(),
    ));
    let parts = Parts {
        presence: Arc::clone(&presence),
        touches: Some(touches),
        authenticator: Arc::clone(&authenticator),
        api_keys: None,
        clock: Arc::clone(&clock),
        keys: store.keys(),
        metrics: Arc::clone(&metrics),
        tasks,
    };
    let bench = Bench {
        live: Live::start(&settings, &record, &session, 1_000, parts),
        settings,
        window: record.window,
        presence,
        store,
        clock,
        authenticator,
        rules: Arc::default(),
        metrics,
        _stop: stop,
    };
    // Until everything listens.
    sleep(Duration::from_secs(1)).await;
    bench
}

impl Bench {
    pub(super) async fn touch(&self, community: &str, user: &str) {
        self.presence
            .touch(&community.into(), &[Touch::now(user)])
            .await
            .unwrap();
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The database notifies of its sessions.
    pub(super) fn tell(&self, change: SessionChange) {
        self.authenticator.changed(change);
    }

    /// Who is in a community.
    pub(super) async fn present(&self, community: &str) -> Vec<String> {
        let page = self.presence.list(&community.into(), None, 100).await.unwrap();
        page.value.into_iter().map(|seen| seen.user.to_string()).collect()
    }

    pub(super) fn closed(&self, reason: &str) -> u64 {
        self.metrics.closed.of(reason).get()
    }

    pub(super) fn open(&self) -> i64 {
        let connections = self.metrics.connections.iter();
        connections.map(|(_, connections)| connections.get()).sum()
    }

    pub(super) async fn try_open(
        &self,
        kind: Protocol,
        communities: &[&str],
    ) -> Result<Box<Connection>, Refused> {
        self.open_as(kind, of_communities(communities), false).await
    }

    async fn open_as(
        &self,
        kind: Protocol,
        scopes: Vec<AskedScope>,
        is_page: bool,
    ) -> Result<Box<Connection>, Refused> {
        let wanted = ConnectionRequest {
            kind,
            scopes,
            unknown: Vec::new(),
            is_page,
            owner: Some(Owner::Visitor(
                Arc::new(self.store.session()),
                SessionToken::new("token"),
            )),
            address: None,
            access_policy: Arc::clone(&self.rules) as Arc<dyn AccessPolicy>,
        };
        self.live.open(wanted, LONG).await
    }

    /// The client's end of a connection whose pipe holds so many bytes.
    pub(super) async fn connect(&self, kind: Protocol, communities: &[&str], pipe: usize) -> DuplexStream {
        let connection = self.try_open(kind, communities).await.expect("a place");
        serve(connection, pipe).await
    }

    /// One that belongs to a page.
    pub(super) async fn web_socket_of_a_page(&self, community: &str) -> Socket {
        self.web_socket_of(of_communities(&[community]), true).await
    }

    /// One of something in a community.
    pub(super) async fn web_socket_of_a_thing(&self, thing: Scope) -> Socket {
        self.web_socket_of(vec![thing.into()], false).await
    }

    async fn web_socket_of(&self, scopes: Vec<AskedScope>, is_page: bool) -> Socket {
        let connection = self.open_as(Protocol::WebSocket, scopes, is_page).await;
        let client = serve(connection.expect("a place"), 64 * 1024).await;
        WebSocketStream::from_raw_socket(client, Role::Client, None).await
    }
}

fn of_communities(ids: &[&str]) -> Vec<AskedScope> {
    let communities = ids.iter().map(|id| AskedCommunity::from(CommunityId::from(*id)));
    communities.map(AskedScope::from).collect()
}

async fn serve(connection: Box<Connection>, pipe: usize) -> DuplexStream {
    let (mut client, server) = duplex(pipe);
    let is_web_socket = connection.kind() == Protocol::WebSocket;
    tokio::spawn(connection.run(server, "head ".into(), Vec::new()));
    if is_web_socket {
        client.read_exact(&mut [0; 5]).await.expect("the head");
    }
    client
}
