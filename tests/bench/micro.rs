//! Microbenches of what a request passes on the proxy's thread, of presence' queue, and of the spool's rows: `cargo bench
//! --bench micro`. Each works on what a browser sends to a community's page.

use std::cell::Cell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, COOKIE, HOST, REFERER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use pingora_http::RequestHeader;

use headcount::auth::cookie::session_token;
use headcount::batch::RecordedView;
use headcount::config::{Privacy, RecentPrecision, Record};
use headcount::geoip::Location;
use headcount::ids::UserId;
use headcount::metrics::Gauge;
use headcount::page_view::{Exchange, PageView, Policy};
use headcount::presence::memory::InMemory;
use headcount::presence::moment::Moment;
use headcount::presence::{SteadyClock, Whereabouts, worker};
use headcount::proxy::client_ip::client_ip;
use headcount::proxy::headers::{Received, edit_for_app};
use headcount::recent_pages::RecentPages;
use headcount::routes::{RouteFile, RouteMatch, RouteTable, decode_path};
use headcount::status::Status;
use headcount::writer::spool::encode::{decode_recorded, encode_recorded};

const PATH: &str = "/communities/42/posts/1234/";
const COOKIE_NAME: &str = "sessionid";

fn main() {
    divan::main();
}

/// Headers of a navigation by a browser.
fn request() -> HeaderMap {
    let headers = [
        (HOST, "communities.example"),
        (
            USER_AGENT,
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        (
            ACCEPT,
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        ),
        (ACCEPT_LANGUAGE, "en-GB,en;q=0.7"),
        (ACCEPT_ENCODING, "gzip, deflate, br, zstd"),
        (REFERER, "https://communities.example/communities/42/"),
        (
            COOKIE,
            "theme=dark; csrftoken=pq8RkSlnGJ6mnFzJ0vTnKqYd3hJkW9sB; sessionid=a8f5f167f44f4964e6c998dee827110c",
        ),
        (HeaderName::from_static("sec-fetch-dest"), "document"),
        (HeaderName::from_static("sec-fetch-mode"), "navigate"),
        (HeaderName::from_static("sec-fetch-site"), "same-origin"),
        (HeaderName::from_static("sec-fetch-user"), "?1"),
        (
            HeaderName::from_static("x-forwarded-for"),
            "203.0.113.7, 192.0.2.1",
        ),
    ];
    headers
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
}

/// The route files that come with the package.
fn routes() -> RouteTable {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/routes.d/communities.toml");
    let text = std::fs::read_to_string(&path).expect("the package's route file");
    RouteTable::compile(&[RouteFile { path, text }]).expect("a valid route file")
}

/// Step 2: a path to its route and community.
#[divan::bench(name = "match")]
fn find_route(bencher: Bencher<'_, '_>) {
    let table = routes();
    bencher.bench(|| table.find(&decode_path(black_box(PATH.as_bytes()))));
}

/// Step 3: the session's token among the cookies.
#[divan::bench]
fn cookie(bencher: Bencher<'_, '_>) {
    let headers = request();
    bencher.bench(|| session_token(black_box(&headers), COOKIE_NAME, 16, 128));
}

/// Step 1: the client behind one trusted proxy.
#[divan::bench]
fn client_address(bencher: Bencher<'_, '_>) {
    let headers = request();
    let peer: IpAddr = [192, 0, 2, 1].into();
    let trusted = ["192.0.2.0/24".parse().expect("a network")];
    bencher.bench(|| client_ip(Some(peer), black_box(&headers), &trusted, &[]));
}

/// Step 1: the changes to the headers.
#[divan::bench]
fn header_edits(bencher: Bencher<'_, '_>) {
    let headers = request();
    let mut head = RequestHeader::build(Method::GET, PATH.as_bytes(), Some(headers.len())).expect("a head");
    for (name, value) in &headers {
        head.append_header(name, value).expect("a header");
    }
    let client = client_ip(Some([192, 0, 2, 1].into()), &headers, &[], &[]);
    let received = Received {
        client: &client,
        identity_headers: &[],
        underscores: false,
        tls: true,
        hops: &HeaderValue::from_static("5f2c8a1b"),
        recording: true,
        new_request_id: "0b5f0c6e-9f0e-4f8e-9a53-0a4b2a1c7d11",
    };
    bencher
        .with_inputs(|| head.clone())
        .bench_refs(|head| edit_for_app(black_box(&headers), head, black_box(&received)));
}

/// Step 4: whether an exchange is a page view, and what is kept of it.
#[divan::bench]
fn decide(bencher: Bencher<'_, '_>) {
    let exchanged = Exchanged::new();
    let policy = Policy::new(&Record::default(), &Privacy::default());
    bencher.bench(|| PageView::from_exchange(&black_box(&exchanged).exchange(), &policy));
}

/// The same of a browser that was not seen lately, as after a start: its kind is told from its name anew.
#[divan::bench]
fn decide_new_agent(bencher: Bencher<'_, '_>) {
    let policy = Policy::new(&Record::default(), &Privacy::default());
    let version = Cell::new(0);
    let next = || {
        version.set(version.get() + 1);
        let agent = format!(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.{} Safari/537.36",
            version.get()
        );
        let mut exchanged = Exchanged::new();
        exchanged.request.insert(
            USER_AGENT,
            HeaderValue::try_from(agent).expect("a header's value"),
        );
        exchanged
    };
    bencher
        .with_inputs(next)
        .bench_local_refs(|exchanged| PageView::from_exchange(&black_box(exchanged).exchange(), &policy));
}

/// A request for a community's page, and its answer.
struct Exchanged {
    method: Method,
    request: HeaderMap,
    response: HeaderMap,
    route: Option<RouteMatch>,
    started_at: DateTime<Utc>,
}

impl Exchanged {
    fn new() -> Self {
        let mut response = HeaderMap::new();
        response.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        Self {
            method: Method::GET,
            request: request(),
            response,
            route: routes().find(PATH),
            started_at: Utc::now(),
        }
    }

    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            method: &self.method,
            path: PATH,
            query: Some("page=2&utm_source=x"),
            request: &self.request,
            status: StatusCode::OK,
            response: &self.response,
            route: self.route.as_ref(),
            is_of_a_file: false,
            has_token: true,
            counted_elsewhere: false,
            client_ip: Some([203, 0, 113, 7].into()),
            started_at: self.started_at,
            duration: Duration::from_millis(12),
        }
    }
}

/// Views of a usual batch, each of another person.
fn recorded_views() -> Vec<RecordedView> {
    let policy = Policy::new(&Record::default(), &Privacy::default());
    let view = PageView::from_exchange(&Exchanged::new().exchange(), &policy).expect("a page view");
    let recorded = |person: usize| RecordedView {
        view: view.clone(),
        session_id: Some(person.to_string().as_str().into()),
        user_id: person.to_string().as_str().into(),
        community: Some("42".into()),
        location: Location::default(),
    };
    (0..Record::default().batch_views.get()).map(recorded).collect()
}

/// Step 5: the view among the dashboard's recent pages.
#[divan::bench]
fn record_recent(bencher: Bencher<'_, '_>) {
    let policy = Policy::new(&Record::default(), &Privacy::default());
    let view = PageView::from_exchange(&Exchanged::new().exchange(), &policy).expect("a page view");
    let (pages, community) = (RecentPages::new(RecentPrecision::Path), "42".into());
    bencher.bench(|| pages.note(black_box(&view), Some(&community)));
}

/// Step 5b: a row of the spool from the views of a batch.
#[divan::bench]
fn spool_encode(bencher: Bencher<'_, '_>) {
    let views = recorded_views();
    bencher
        .counter(ItemsCount::new(views.len()))
        .bench(|| encode_recorded(black_box(&views)));
}

/// Step 5b: the same back, as after a crash or from a backlog.
#[divan::bench]
fn spool_decode(bencher: Bencher<'_, '_>) {
    let views = recorded_views();
    let bytes = encode_recorded(&views);
    bencher
        .counter(ItemsCount::new(views.len()))
        .bench(|| decode_recorded(black_box(&bytes)));
}

/// Step 5a: a touch handed to presence' worker, which runs beside it.
#[divan::bench]
fn record_touch(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let record = Record::default();
    let store = Arc::new(InMemory::new(record.window, SteadyClock::of_the_machine()));
    let waiting = Gauge::new("waiting", "Touches in the queue").expect("a gauge");
    let (handle, worker) = worker::new(store, &record, &Status::default(), Arc::default(), waiting);
    let _guard = runtime.enter();
    let tasks = headcount::tasks::Tasks::on_current_runtime();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = worker.start(&tasks, stopped);
    let (place, user) = (
        Whereabouts::new(Some("42".into()), [].into()),
        UserId::from("1234"),
    );
    // What does not fit into the queue is refused, as in the proxy.
    bencher.bench(|| handle.touch(place.clone(), user.clone(), Moment::now()));
    let _ = stop.send(true);
    // Otherwise what has ended is started again.
    tasks.end();
    runtime.block_on(async {
        for task in running {
            let _ = task.await;
        }
    });
}
