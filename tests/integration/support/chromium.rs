//! A real browser: headless Chromium, driven over `WebDriver`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::member::{FIREFOX, Member};
use super::service::{BETWEEN_LOOKS, Service, in_time, wait_until};

/// One browser with one window, and a profile of its own.
pub struct Chromium {
    client: Client,
    _driver: Service,
    _browser: Service,
    _directory: TempDir,
}

impl Chromium {
    /// Starts Debian's Chromium with an empty window.
    pub async fn start() -> Self {
        let directory = super::cleaner::folder();
        // Started here and not by the driver, so that it ends with the test whatever becomes of the driver.
        let browser = start_browser(directory.path(), &[], "about:blank");
        let debugger = first_line_of(&directory.path().join("profile/DevToolsActivePort"));
        let folder = directory.path().join("driver");
        std::fs::create_dir(&folder).expect("a folder");
        let temporary = ("TMPDIR", folder.to_str().expect("UTF-8").to_owned());
        let driver = Service::start(&folder, "chromedriver", ["--port=0"], &[temporary]);
        let port = driver_port(&folder.join("log"));
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"debuggerAddress": format!("127.0.0.1:{debugger}")},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object")
        };
        let mut client = ClientBuilder::new(HttpConnector::new());
        client.capabilities(Capabilities::from(capabilities));
        let driver_url = format!("http://127.0.0.1:{port}");
        let client = in_time("a session with Chromium", client.connect(&driver_url)).await;
        Self {
            client: client.expect("the driver finds Chromium"),
            _driver: driver,
            _browser: browser,
            _directory: directory,
        }
    }

    /// The same, signed in at 127.0.0.1 with a member's session.
    pub async fn of(member: &Member) -> Self {
        let browser = Self::start().await;
        browser.keep(&member.cookie()).await;
        browser
    }

    /// Puts `name=value` among the browser's cookies of 127.0.0.1.
    pub async fn keep(&self, cookie: &str) {
        let (name, value) = cookie.split_once('=').expect("a cookie");
        let cookie = json!({"name": name, "value": value, "domain": "127.0.0.1", "path": "/"});
        self.tell("Network.setCookie", cookie).await;
    }

    /// Value of a JavaScript expression in the page; `None` where it throws or the page is being left.
    pub async fn evaluate(&self, expression: &str) -> Option<Value> {
        let script = format!("return ({expression})");
        self.client.execute(&script, Vec::new()).await.ok()
    }

    /// Waits until an expression is true, and no longer false, null or an error; returns its value.
    pub async fn wait_for(&self, expression: &str) -> Value {
        in_time(expression, async {
            loop {
                match self.evaluate(expression).await {
                    None | Some(Value::Null | Value::Bool(false)) => tokio::time::sleep(BETWEEN_LOOKS).await,
                    Some(value) => return value,
                }
            }
        })
        .await
    }

    /// Types an address, and waits until the page has come.
    pub async fn open(&self, url: &str) {
        in_time(url, self.client.goto(url)).await.expect("an address");
    }

    /// Clicks on the first element that fits a CSS selector, once it is there, and waits until the page with
    /// this path has come.
    pub async fn click(&self, selector: &str, path: &str) {
        self.press(selector).await;
        self.wait_for(&format!(
            "location.pathname === {path:?} && document.readyState === 'complete'"
        ))
        .await;
    }

    /// Clicks on the first element that fits a CSS selector, once it is there.
    pub async fn press(&self, selector: &str) {
        let element = in_time(selector, self.client.wait().for_element(Locator::Css(selector)));
        let element = element.await.expect("an element");
        element.click().await.expect("it can be clicked");
    }

    /// Keeps a picture of the window, for somebody who wants to look: as `<name>.png` in the folder that the
    /// environment variable `HEADCOUNT_TEST_PICTURES` names. Without it, does nothing.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("HEADCOUNT_TEST_PICTURES") else {
            return;
        };
        let png = self.client.screenshot().await.expect("a picture");
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), png).expect("a file");
    }

    /// Shows pages as for a window of this size, in CSS pixels.
    pub async fn has_size(&self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Shows pages as to somebody who has set this media feature, such as `prefers-color-scheme` to `dark`.
    /// Those set before are what they were without.
    pub async fn prefers(&self, features: &[(&str, &str)]) {
        let features: Vec<_> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.tell("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// Calls a method of the browser's debugging protocol, for what `WebDriver` has no word for.
    pub async fn tell(&self, method: &str, parameters: Value) -> Value {
        let call = Post {
            command: "goog/cdp/execute",
            body: json!({"cmd": method, "params": parameters}),
        };
        self.client.issue_cmd(call).await.expect(method)
    }

    /// What pages, or the browser on their account, have complained of since this was asked last.
    pub async fn complaints(&self) -> Vec<String> {
        let call = Post {
            command: "se/log",
            body: json!({"type": "browser"}),
        };
        let entries = self.client.issue_cmd(call).await.expect("the log");
        let entries = entries.as_array().expect("a list").iter();
        entries
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// Starts Debian's Chromium at an address; `more` are further arguments.
pub fn start_browser(directory: &Path, more: &[&str], url: &str) -> Service {
    // Its own name is that of a robot, which is not counted.
    let user_agent = format!("--user-agent={FIREFOX}");
    let usual = [
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
    ];
    let home = directory.to_str().expect("UTF-8").to_owned();
    Service::start(
        directory,
        "chromium",
        usual.iter().chain(more).chain([&url]),
        // What it leaves in the folder for temporary files goes with its own.
        &[("HOME", home.clone()), ("TMPDIR", home)],
    )
}

/// The port that Chromium has chosen for its debugging protocol.
fn first_line_of(file: &Path) -> u16 {
    let mut text = String::new();
    wait_until("Chromium", || {
        text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains('\n')
    });
    let line = text.lines().next().expect("a line");
    line.parse().expect("a port")
}

/// The port that the driver has chosen, from what it says.
fn driver_port(log: &Path) -> u16 {
    let mut port = None;
    wait_until("the driver", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let said = text.split("started successfully on port ").nth(1);
        port = said.and_then(|said| said.split_once('.')?.0.parse().ok());
        port.is_some()
    });
    port.expect("a port")
}

/// A command of the driver's own.
#[derive(Debug)]
struct Post {
    command: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.command
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
