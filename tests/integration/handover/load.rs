//! Clients that send request after request, and accept nothing but the right answer.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora_core::tls::{ClientConfig, RootCertStore, ServerName, TlsConnector};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::member::navigation;
use crate::support::wire::{Answer, Wire, connect, exchange};

/// Upper bound of each client's requests: only a broken test reaches it.
const MOST: usize = 20_000;

/// How clients get to the server.
#[derive(Clone)]
pub(super) struct Way {
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Way {
    pub(super) fn plain(port: u16) -> Self {
        Self { port, tls: None }
    }

    /// With the certificate of `name` believed.
    pub(super) fn tls(port: u16, certificate: PathBuf, name: &'static str) -> Self {
        let mut roots = RootCertStore::empty();
        pingora_core::tls::load_ca_file_into_store(certificate, &mut roots).expect("a certificate");
        pingora_core::tls::install_default_crypto_provider();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name).expect("a name");
        Self {
            port,
            tls: Some((TlsConnector::from(Arc::new(config)), name)),
        }
    }

    pub(super) async fn open(&self) -> Wire {
        self.over(connect(self.port).await).await
    }

    pub(super) async fn over(&self, stream: TcpStream) -> Wire {
        match &self.tls {
            None => Wire::over(stream),
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await.expect("a handshake");
                Wire::over(stream)
            }
        }
    }
}

/// One request, and what makes its answer the right one.
#[derive(Clone)]
pub(super) struct Asked {
    request: String,
    status: u16,
    /// The whole body, or a part that must be in it.
    body: Body,
    is: Is,
}

/// What is counted elsewhere, too.
#[derive(Clone)]
enum Is {
    /// A page view, by path.
    View(String),
    Post,
    Else,
}

#[derive(Clone)]
enum Body {
    Is(String),
    Has(&'static str),
    IsAnything,
}

impl Asked {
    /// A page that a member navigates to. The app itself says how it looks.
    pub(super) async fn page(site: u16, cookie: &str, path: &str) -> Self {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n");
        for (name, value) in &navigation() {
            let value = value.to_str().expect("text");
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request.push_str("\r\n");
        let direct = exchange(site, &request, false).await;
        assert_eq!(direct.status, 200, "{path}");
        Self {
            request,
            status: 200,
            body: Body::Is(direct.text().to_owned()),
            is: Is::View(path.to_owned()),
        }
    }

    /// What the app counts when it arrives.
    pub(super) fn post(path: &str) -> Self {
        let body = "x".repeat(3000);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            request,
            status: 200,
            body: Body::IsAnything,
            is: Is::Post,
        }
    }

    /// Anything else that answers 200.
    pub(super) fn get(path: &str, has: &'static str) -> Self {
        Self {
            request: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            status: 200,
            body: Body::Has(has),
            is: Is::Else,
        }
    }

    fn check(&self, answer: &Answer) {
        let head = self.request.lines().next();
        assert_eq!(answer.status, self.status, "{head:?}: {answer:?}");
        let right = match &self.body {
            Body::Is(body) => answer.text() == body,
            Body::Has(part) => answer.text().contains(part),
            Body::IsAnything => true,
        };
        assert!(right, "{head:?}: {answer:?}");
    }
}

/// What one client has done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Member and path.
    pub(super) views: Vec<(String, String)>,
    pub(super) posts: usize,
    pub(super) requests: usize,
    pub(super) connections: usize,
}

/// Clients at work.
#[derive(Default)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Done>,
}

impl Load {
    /// A client that asks in turns, as `name`. `kept`: on one connection for as long as the server keeps it.
    pub(super) fn client(&mut self, name: &str, way: &Way, kept: bool, asked: Vec<Asked>) {
        let (name, way, stop) = (name.to_owned(), way.clone(), self.stop.clone());
        self.clients.spawn(async move {
            let mut done = Done::default();
            let mut open: Option<Wire> = None;
            for asked in asked.iter().cycle().take(MOST) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut wire = if let Some(wire) = open.take() {
                    wire
                } else {
                    done.connections += 1;
                    way.open().await
                };
                wire.send(&asked.request).await;
                let answer = wire.answer().await;
                asked.check(&answer);
                done.requests += 1;
                match &asked.is {
                    Is::View(path) => done.views.push((name.clone(), path.clone())),
                    Is::Post => done.posts += 1,
                    Is::Else => {}
                }
                if kept && answer.header("connection") != Some("close") {
                    open = Some(wire);
                }
            }
            done
        });
    }

    /// Lets every client finish what it is at. Fails if a single request has failed.
    pub(super) async fn stop(self) -> Vec<Done> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await
    }
}

/// The session cookie with which the site lets `name` in.
pub(super) async fn sign_in(site: u16, name: &str) -> String {
    let form = format!("username={name}&password={name}-pw");
    let request = format!(
        "POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let answer = exchange(site, request, false).await;
    assert_eq!(answer.status, 302, "{answer:?}");
    let cookies = answer.headers.iter().filter(|(header, _)| header == "set-cookie");
    let session = cookies
        .filter_map(|(_, cookie)| cookie.split(';').next())
        .find(|cookie| cookie.starts_with("session_id="));
    session.expect("a session").to_owned()
}
