//! A real browser: headless Chromium, driven over its debugging protocol as far as the tests need it.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::member::FIREFOX;
use super::service::{Service, in_time, wait_until};

/// One browser with one window, and a profile of its own.
pub struct Chromium {
    socket: WebSocketStream<TcpStream>,
    calls: u64,
    _service: Service,
    _directory: TempDir,
}

impl Chromium {
    /// Starts Debian's Chromium with an empty window.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Its own name is that of a robot, which is not counted.
        let user_agent = format!("--user-agent={FIREFOX}");
        let service = Service::start(
            directory.path(),
            "chromium",
            [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--no-proxy-server",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--user-data-dir=profile",
                "--remote-debugging-port=0",
                &user_agent,
                "about:blank",
            ],
            &[("HOME", directory.path().to_str().expect("UTF-8").to_owned())],
        );
        let chosen = directory.path().join("profile/DevToolsActivePort");
        let mut port = String::new();
        wait_until("Chromium", || {
            port = std::fs::read_to_string(&chosen).unwrap_or_default();
            port.contains('\n')
        });
        let port: u16 = port
            .lines()
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        let url = in_time("Chromium's window", window(port)).await;
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("Chromium answers");
        let (socket, _) = client_async(url, stream).await.expect("a WebSocket");
        Self {
            socket,
            calls: 0,
            _service: service,
            _directory: directory,
        }
    }

    /// Calls a method of the debugging protocol. `None` where Chromium answers with an error, as it does of
    /// a page that is being left.
    async fn call(&mut self, method: &str, parameters: Value) -> Option<Value> {
        self.calls += 1;
        let id = self.calls;
        let call = json!({"id": id, "method": method, "params": parameters});
        self.socket
            .send(Message::text(call.to_string()))
            .await
            .expect("Chromium listens");
        loop {
            let message = in_time(method, self.socket.next())
                .await
                .expect("Chromium runs")
                .expect("a message");
            // Others are of events, or not text.
            if let Message::Text(text) = message
                && let Ok(mut answer) = serde_json::from_str::<Value>(&text)
                && answer["id"] == id
            {
                return answer.get_mut("result").map(Value::take);
            }
        }
    }

    /// Value of a JavaScript expression in the page; `None` where it throws or the page is being left.
    async fn evaluate(&mut self, expression: &str) -> Option<Value> {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", parameters).await?;
        match answer.get("exceptionDetails") {
            Some(_) => None,
            None => Some(answer["result"]["value"].take()),
        }
    }

    /// Waits until an expression is true, and no longer false, null or an error; returns its value.
    pub async fn wait_for(&mut self, expression: &str) -> Value {
        in_time(expression, async {
            loop {
                match self.evaluate(expression).await {
                    None | Some(Value::Null | Value::Bool(false)) => tokio::task::yield_now().await,
                    Some(value) => return value,
                }
            }
        })
        .await
    }

    /// Types an address.
    pub async fn open(&mut self, url: &str) {
        let answer = self
            .call("Page.navigate", json!({"url": url}))
            .await
            .expect("an address");
        assert_eq!(answer.get("errorText"), None, "{url}");
    }

    /// Clicks with the mouse on the first element that fits a CSS selector, once it is there, and waits
    /// until the page with this path has come.
    pub async fn click(&mut self, selector: &str, path: &str) {
        let place = format!(
            "(() => {{ const element = document.querySelector({selector:?});
                if (document.readyState !== 'complete' || !element) return null;
                element.scrollIntoView({{ block: 'center' }});
                const box = element.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let place = self.wait_for(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
        self.wait_for(&format!(
            "location.pathname === {path:?} && document.readyState === 'complete'"
        ))
        .await;
    }
}

/// WebSocket address of the only window.
async fn window(port: u16) -> String {
    loop {
        let targets = reqwest::get(format!("http://127.0.0.1:{port}/json/list")).await;
        let targets: Value = targets.expect("an answer").json().await.expect("JSON");
        let page = targets
            .as_array()
            .expect("a list")
            .iter()
            .find(|target| target["type"] == "page");
        if let Some(url) = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
            return url.to_owned();
        }
    }
}
