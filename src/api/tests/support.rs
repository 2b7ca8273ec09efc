//! A site whose store, presence and backend are fakes, and what tests say to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::Value;

use super::fakes::{FakeBackend, FakePresence, FakeStore};
use crate::api::{Api, Body, Caller, Metrics, SiteSettings, Sources};
use crate::auth::{ApiKeys, Authenticator};
use crate::browser_session::BrowserSession;
use crate::communities::Communities;
use crate::config;
use crate::live::{self, Live, Parts};
use crate::metrics::Registry;
use crate::presence::Scope;
use crate::presence::grants::{Grants, News, Verdict};
use crate::presence::moment::Moment;
use crate::recorder::{Intake, ShownPages};
use crate::reload::ApiKeyFile;
use crate::store::Store;

/// The moment at which every test takes place.
pub(super) fn now() -> DateTime<Utc> {
    "2026-11-23T07:39:18.123456Z".parse().unwrap()
}

/// What a site is that configures nothing else.
fn site_settings() -> SiteSettings {
    SiteSettings {
        window: Duration::from_secs(300),
        session_cookie: "session_id".into(),
        jwt: config::Jwt::default(),
        session_facts: config::Schema::default().session_facts(config::SessionKind::Table),
        allowed_origins: Vec::new(),
    }
}

/// A site with community 42 in it.
pub(super) struct Site {
    pub(super) api: Arc<Api>,
    pub(super) store: Arc<FakeStore>,
    pub(super) presence: Arc<FakePresence>,
    pub(super) backend: Arc<FakeBackend>,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) live_metrics: Arc<live::Metrics>,
    live: Option<Live>,
    grants: Grants,
}

impl Site {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(configure: impl FnOnce(&mut config::Api)) -> Self {
        Self::built(configure, None, site_settings())
    }

    /// A site with live connections, which need a runtime.
    pub(super) fn with_live(configure: impl FnOnce(&mut config::Api), settings: config::Live) -> Self {
        let site_settings = SiteSettings {
            allowed_origins: settings.allowed_origins.clone(),
            ..site_settings()
        };
        Self::built(configure, Some(settings), site_settings)
    }

    /// A site that is configured in other sections, too.
    pub(super) fn with_site_settings(configure: impl FnOnce(&mut SiteSettings)) -> Self {
        let mut site_settings = site_settings();
        configure(&mut site_settings);
        Self::built(|_| {}, None, site_settings)
    }

    fn built(
        configure: impl FnOnce(&mut config::Api),
        live: Option<config::Live>,
        site_settings: SiteSettings,
    ) -> Self {
        // Most tests are not about who may see what.
        let mut settings = config::Api {
            access: config::Access::Session,
            ..config::Api::default()
        };
        configure(&mut settings);
        let store = Arc::new(FakeStore::default());
        let presence = Arc::new(FakePresence::default());
        let backend = Arc::new(FakeBackend::default());
        let registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&registry));
        let live_metrics = Arc::<live::Metrics>::default();
        store.community("42");
        let session = config::Session::default();
        let authenticator = Arc::new(Authenticator::new(&session, store.clone(), Arc::default()));
        let api_keys = ApiKeyFile::read(&settings).unwrap();
        let api_keys = api_keys.map(|file| ApiKeys::new(file, Arc::default()));
        let live = live.map(|settings| {
            let parts = Parts {
                presence: presence.clone(),
                touches: None,
                authenticator: authenticator.clone(),
                api_keys: api_keys.clone(),
                clock: Arc::new(now),
                keys: Store::keys(&*store),
                metrics: live_metrics.clone(),
                tasks: crate::tasks::Tasks::on_current_runtime(),
            };
            Live::start(&settings, &config::Record::default(), &session, 1_000, parts)
        });
        let tasks = crate::tasks::Tasks::on_current_runtime();
        let (ttl, patience) = (settings.visited_ttl, Duration::from_millis(1));
        let grants = Grants::start(ttl, patience, presence.clone(), Arc::default(), &tasks);
        let communities = Arc::new(Communities::new(store.clone()));
        let shown = ShownPages::new(
            grants.clone(),
            authenticator.clone(),
            communities.clone(),
            tasks.runtime().clone(),
        );
        let intake = Intake {
            shown: Some(shown),
            ..crate::recorder::testing::intake(store.clone())
        };
        let api = Api::new(
            settings,
            site_settings,
            Sources {
                store: store.clone(),
                authenticator,
                api_keys: api_keys.clone(),
                communities,
                presence: presence.clone(),
                backend_check: backend.clone(),
                live: live.clone(),
                intake: Arc::new(intake),
            },
            metrics.clone(),
            Arc::new(now),
        );
        Self {
            api: Arc::new(api),
            store,
            presence,
            backend,
            registry,
            metrics,
            live_metrics,
            live,
            grants,
        }
    }

    /// The live connections of a site that was made with some.
    pub(super) fn live(&self) -> &Live {
        self.live.as_ref().expect("live connections")
    }

    pub(super) fn with_access(access: config::Access) -> Self {
        Self::with(|settings| settings.access = access)
    }

    /// A signed-in visitor's GET.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, member()).await
    }

    pub(super) async fn get_as(&self, caller: Caller, path: &str) -> Answer {
        self.send(Method::GET, path, caller).await
    }

    pub(super) async fn send(&self, method: Method, path: &str, caller: Caller) -> Answer {
        send(&self.api, method, path, caller).await
    }

    /// The app has answered the user of [`member`] who asked for a community.
    pub(super) fn answered(&self, scope: impl Into<Scope>, verdict: Verdict) {
        self.grants
            .note(&scope.into(), &"7".into(), News::Answer(verdict), Moment::now());
    }

    /// A user with a profile who was just seen in a community.
    pub(super) fn visitor(&self, community: &str, user: &str, seconds_ago: i64) {
        self.store.profile(user);
        self.presence
            .seen(community, user, now() - TimeDelta::seconds(seconds_ago));
    }
}

pub(super) async fn send(api: &Api, method: Method, path: &str, caller: Caller) -> Answer {
    let request = Request::builder().method(method).uri(path);
    call(api, request.body(()).unwrap(), caller).await
}

/// Sends a request as it is, and reads the answer's body.
pub(super) async fn call(api: &Api, request: Request<()>, caller: Caller) -> Answer {
    let (parts, body) = answer(api, request, caller).await.into_parts();
    let Body::Bytes(body) = body else {
        panic!("a live connection");
    };
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Sends a request as it is.
pub(super) async fn answer(api: &Api, request: Request<()>, caller: Caller) -> Response<Body> {
    let (request, ()) = request.into_parts();
    let operation = api.parse(request.uri.path()).expect("a path of the API");
    api.call(&operation, &request, b"", caller).await
}

#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn detail(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// A caller with a valid session.
pub(super) fn member() -> Caller {
    member_called("s1")
}

pub(super) fn member_called(session: &str) -> Caller {
    Caller {
        session: Some(Arc::new(BrowserSession::valid_until(
            session,
            "7",
            now() + TimeDelta::hours(1),
        ))),
        ..Caller::default()
    }
}

pub(super) fn anonymous() -> Caller {
    Caller::default()
}

pub(super) fn with_header(mut caller: Caller, name: &'static str, value: &'static str) -> Caller {
    caller.headers.append(name, value.parse().unwrap());
    caller
}
