//! An exchange that counts as a page view, of which tests change one thing.

use std::sync::LazyLock;

use http::header::{CONTENT_TYPE, HeaderName};

use super::*;
use crate::browser_session::CookieChange;
use crate::presence::grants::News;
use crate::routes::{EventForm, Route, RouteFile, RouteHandles, RouteTable, Track};

pub(super) const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
pub(super) const TOKEN: &str = "a8f5f167f44f4964e6c998dee827110c";

/// Compiling the list of robots takes a while.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let privacy = Privacy {
        query_allow: vec!["q".into()],
        ..Privacy::default()
    };
    Policy::new(&Record::default(), &privacy)
});

/// Where redirects lead.
static ROUTES: LazyLock<RouteTable> = LazyLock::new(|| {
    let file = RouteFile {
        path: "a.toml".into(),
        text: r#"
            [[route]]
            name = "join"
            pattern = '^/communities/(?P<community>\d+)/join/$'
            [[route]]
            name = "community"
            pattern = '^/communities/(?P<community>\d+)(/(?P<slug>[a-z-]+))?/?$'
            [[route]]
            name = "by-slug"
            pattern = '^/c/(?P<community_slug>[a-z-]+)/?$'
            [[route]]
            name = "post"
            pattern = '^/c/(?P<community_slug>[a-z-]+)/posts/(?P<post>\d+)/?$'
            presence = ["community_slug", "post"]
            [[route]]
            name = "checked-post"
            pattern = '^/communities/(?P<community>\d+)/posts/(?P<post>\d+)/?$'
            presence = ["community", "post"]
            grants = true
        "#
        .into(),
    };
    RouteTable::compile(&[file]).expect("routes")
});

/// A navigation of a signed-in member to a community's page, answered with HTML. Tests change one thing.
pub(super) struct Page {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) request: HeaderMap,
    pub(super) status: u16,
    pub(super) response: HeaderMap,
    pub(super) route: Option<RouteMatch>,
    pub(super) is_of_a_file: bool,
    pub(super) has_token: bool,
    pub(super) counted_elsewhere: bool,
    pub(super) duration: Duration,
    pub(super) change: CookieChange,
    pub(super) policy: Policy,
}

pub(super) fn page() -> Page {
    Page {
        method: Method::GET,
        path: "/communities/42/".into(),
        query: None,
        request: HeaderMap::new(),
        status: 200,
        response: HeaderMap::new(),
        route: Some(RouteMatch {
            route: Arc::new(Route {
                name: "community".into(),
                page_type: "home".into(),
                track: Track::Page,
                search_param: None,
                widget: true,
                grants: None,
                event: EventForm::default(),
                handles: RouteHandles::default(),
            }),
            community: Some(CommunityRef::Id(Arc::from("42"))),
            finer: Arc::default(),
            is_communitys_own: true,
            captures: Vec::new(),
        }),
        is_of_a_file: false,
        has_token: true,
        counted_elsewhere: false,
        duration: Duration::from_millis(12),
        change: CookieChange::Kept,
        policy: POLICY.clone(),
    }
    .asks("sec-fetch-mode", "navigate")
    .asks("sec-fetch-dest", "document")
    .asks("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
    .asks("user-agent", FIREFOX)
    .answers("content-type", "text/html; charset=utf-8")
}

/// The same from a browser that sends no fetch metadata, as over plain HTTP.
pub(super) fn old_page() -> Page {
    page().without("sec-fetch-mode").without("sec-fetch-dest")
}

/// A call of a single-page app on a route with `track = "request"`.
pub(super) fn call() -> Page {
    page()
        .asks("sec-fetch-mode", "cors")
        .asks("sec-fetch-dest", "empty")
        .asks("accept", "application/json")
        .answers("content-type", "application/json")
        .tracked(Track::Request)
}

impl Page {
    pub(super) fn asks(mut self, name: &str, value: &str) -> Self {
        self.request
            .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.request.remove(name);
        self
    }

    pub(super) fn answers(mut self, name: &str, value: &str) -> Self {
        self.response
            .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        self
    }

    /// The answer does this to the session cookie.
    pub(super) fn changing(self, change: CookieChange) -> Self {
        Self { change, ..self }
    }

    pub(super) fn at(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    pub(super) fn silent(mut self) -> Self {
        self.response.remove(CONTENT_TYPE);
        self
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn tracked(mut self, track: Track) -> Self {
        let matched = self.route.as_mut().unwrap();
        matched.route = Arc::new(Route {
            track,
            ..(*matched.route).clone()
        });
        self
    }

    pub(super) fn decide(&self) -> Result<PageView, NotCounted> {
        PageView::from_exchange(&self.exchange(), &self.policy)
    }

    /// What it says of the community.
    pub(super) fn says(&self) -> Option<News> {
        self.tells().and_then(|news| news.community)
    }

    /// What it says of access.
    pub(super) fn tells(&self) -> Option<AccessNews> {
        verdict(&self.exchange(), self.change, &ROUTES)
    }

    /// Its path and route as the table has them.
    pub(super) fn of(mut self, path: &str) -> Self {
        self.route = ROUTES.find(path);
        self.at(path)
    }

    pub(super) fn granting(mut self, grants: Option<bool>) -> Self {
        let matched = self.route.as_mut().unwrap();
        matched.route = Arc::new(Route {
            grants,
            ..(*matched.route).clone()
        });
        self
    }

    /// A page below the community's own.
    pub(super) fn below(mut self) -> Self {
        self.route.as_mut().unwrap().is_communitys_own = false;
        self
    }

    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            request: &self.request,
            status: StatusCode::from_u16(self.status).unwrap(),
            response: &self.response,
            route: self.route.as_ref(),
            is_of_a_file: self.is_of_a_file,
            has_token: self.has_token,
            counted_elsewhere: self.counted_elsewhere,
            client_ip: "::ffff:203.0.113.9".parse().ok(),
            started_at: started_at(),
            duration: self.duration,
        }
    }

    pub(super) fn reason(&self) -> NotCounted {
        self.decide().unwrap_err()
    }

    pub(super) fn counts(&self) -> bool {
        self.decide().is_ok()
    }
}

pub(super) fn started_at() -> DateTime<Utc> {
    "2026-01-31T23:59:59.999Z".parse().unwrap()
}
