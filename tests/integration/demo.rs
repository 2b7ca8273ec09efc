//! The demo as somebody tries it: start it, paste its commands, open its site in a browser, stop it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use reqwest::Method;
use reqwest::header::SET_COOKIE;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::chromium::Chromium;
use crate::support::member::Member;
use crate::support::process;
use crate::support::service::{Service, free_port, in_time, wait_until};

/// A running demo. Its temporary folder is in one of this test's.
struct Demo {
    service: Service,
    directory: TempDir,
    banner: String,
}

impl Demo {
    /// Starts it and waits for its banner.
    fn start() -> Self {
        // Demos that start at one moment would choose the same port for their admin pages; this one is
        // what they would choose.
        static PREFERRED: OnceLock<Option<TcpListener>> = OnceLock::new();
        PREFERRED.get_or_init(|| TcpListener::bind("127.0.0.1:9464").ok());
        let directory = tempfile::tempdir().expect("a directory");
        let temporary = directory.path().join("tmp");
        std::fs::create_dir(&temporary).expect("a folder");
        let temporary = temporary.to_str().expect("UTF-8").to_owned();
        let arguments = ["demo", "--port", &free_port().to_string()];
        let service = Service::start(
            directory.path(),
            &process::binary(),
            arguments,
            &[("TMPDIR", temporary)],
        );
        let log = directory.path().join("log");
        let mut banner = String::new();
        wait_until("the demo's banner", || {
            banner = std::fs::read_to_string(&log).unwrap_or_default();
            banner.contains("Ctrl-C stops it; nothing stays behind.\n")
        });
        Self {
            service,
            directory,
            banner,
        }
    }

    /// Address behind a word of the banner, without the slash at its end.
    fn address(&self, word: &str) -> String {
        let line = self
            .banner
            .lines()
            .find(|line| line.trim_start().starts_with(word));
        let address = line
            .and_then(|line| line.split_whitespace().nth(1))
            .expect("an address");
        address.trim_end_matches('/').to_owned()
    }

    /// The commands to paste: each title, and the line as printed.
    fn commands(&self) -> Vec<(&str, &str)> {
        let lines: Vec<_> = self.banner.lines().collect();
        let pairs = lines.windows(2).filter(|pair| pair[1].starts_with("curl "));
        pairs.map(|pair| (pair[0].trim(), pair[1])).collect()
    }

    /// Somebody who has signed in over HTTP.
    async fn member(&self, name: &str) -> Member {
        let member = Member::new(self.address("site"));
        let response = member
            .request(Method::POST, &format!("/sign-in/{name}"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 303);
        assert!(response.headers().contains_key(SET_COOKIE));
        member
    }

    /// Sends it a signal and waits for its end; then nothing may be left.
    fn ends_on(self, signals: &[&str]) {
        let folders = |directory: &TempDir| std::fs::read_dir(directory.path().join("tmp")).unwrap().count();
        assert_eq!(folders(&self.directory), 1);
        let addresses = [self.address("site"), self.address("dashboard")];
        for signal in signals {
            self.service.signal(signal);
        }
        let Self {
            service, directory, ..
        } = self;
        assert_eq!(service.wait_for_end(), Some(0));
        assert_eq!(folders(&directory), 0);
        for address in addresses {
            let address = address.strip_prefix("http://").unwrap();
            TcpListener::bind(address).expect("the port is free again");
        }
        let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
        assert!(
            !log.contains("WARN") && !log.contains("ERROR") && !log.contains("panicked"),
            "{log}"
        );
    }
}

/// Runs a line as pasted into a shell; what it prints.
fn pasted(line: &str) -> String {
    let output = Command::new("bash")
        .args(["-c", line])
        .current_dir("/")
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{line}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a line that goes on until it is stopped; the data of the first event that it prints.
fn first_event(line: &str) -> String {
    // The shell makes way for the one command, so that it is the command that is stopped.
    let mut running = Command::new("bash")
        .args(["-c", &format!("exec {line}")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let lines = BufReader::new(running.stdout.take().expect("its output")).lines();
    let mut data = lines
        .map_while(Result::ok)
        .filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
    let first = data.next();
    running.kill().expect("it runs still");
    running.wait().expect("it ends");
    first.unwrap_or_else(|| panic!("{line}: no event"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn every_command_of_the_banner_works_as_printed() {
    let demo = Demo::start();
    let commands = demo.commands();
    let titles: Vec<_> = commands.iter().map(|(title, _)| *title).collect();
    assert_eq!(
        titles,
        [
            "sign in (303)",
            "open a page as a browser does (200)",
            "who is there now",
            "how many",
            "how many read one of its posts",
            "each time it changes (until Ctrl-C)",
            "the last 30 days",
            "who was there in these days, most visits first",
            "the numbers for Prometheus",
            "not signed in: 401",
        ]
    );
    let told: Vec<_> = commands
        .iter()
        .map(|(title, line)| {
            if title.contains("Ctrl-C") {
                first_event(line)
            } else {
                pasted(line)
            }
        })
        .collect();
    assert_eq!(told[..2], ["303\n", "200\n"]);

    let list = json(&told[2]);
    for field in ["as_of", "current_visitors", "next", "stale", "visitors"] {
        assert!(list.get(field).is_some(), "{field}: {list}");
    }
    assert_eq!(
        (&list["community_id"], &list["window_seconds"]),
        (&1.into(), &20.into())
    );
    let count = json(&told[3]);
    assert!(
        count["current_visitors"].is_u64() && count["community_id"] == 1,
        "{count}"
    );
    let one_post = json(&told[4]);
    assert_eq!(
        (
            &one_post["scope"],
            &one_post["scope_id"],
            one_post["current_visitors"].is_u64()
        ),
        (&"post".into(), &"1".into(), true)
    );
    let change = json(&told[5]);
    assert_eq!(
        (&change["type"], &change["community_id"]),
        (&"count".into(), &1.into())
    );
    assert!(change["current_visitors"].is_u64(), "{change}");
    let stats = json(&told[6]);
    assert!(
        stats["page_views"].is_u64() && stats["total_visitors"].is_u64(),
        "{stats}"
    );
    let past = json(&told[7]);
    assert_eq!(
        (&past["days"], &past["sort"]),
        (&30.into(), &"visit_count".into()),
        "{past}"
    );
    assert!(
        told[8]
            .lines()
            .all(|line| line.starts_with("headcount_page_views")),
        "{}",
        told[8]
    );
    assert!(
        told[9].starts_with("HTTP/1.1 401 ") && told[9].contains("application/problem+json"),
        "{}",
        told[9]
    );
    has_been_there(&commands).await;
    demo.ends_on(&["INT"]);
}

/// The page that the second command opened is seen, and written, in a moment.
async fn has_been_there(commands: &[(&str, &str)]) {
    in_time("ada to be listed", async {
        loop {
            let list = json(&pasted(commands[2].1));
            let visitors = list["visitors"].as_array().unwrap();
            if let Some(ada) = visitors.iter().find(|visitor| visitor["username"] == "ada") {
                assert_eq!(ada["avatar"], "/media/avatars/ada.svg");
                assert!(list["current_visitors"].as_u64().unwrap() >= 1);
                return;
            }
        }
    })
    .await;
    in_time("ada's view to be written", async {
        while json(&pasted(commands[6].1))["total_visitors"] == 0 {}
    })
    .await;
    in_time("somebody to have been there", async {
        loop {
            let past = json(&pasted(commands[7].1));
            if let Some(visitor) = past["visitors"].as_array().unwrap().first() {
                assert!(visitor["visit_count"].as_i64().unwrap() >= 1, "{past}");
                let page = visitor["pages"][0]["url"].as_str().unwrap();
                assert!(page.starts_with("/communities/1/"), "{past}");
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_count_moves_by_itself() {
    let demo = Demo::start();
    let ada = demo.member("ada").await;
    let mut seen = Vec::new();
    in_time("people to come", async {
        while seen.len() < 3 {
            let answer = ada.json("/api/visitors/counts?communities=1,2,3").await;
            let count = answer.to_string();
            let people: u64 = answer["counts"]
                .as_array()
                .unwrap_or_else(|| panic!("{count}"))
                .iter()
                .map(|count| count["current_visitors"].as_u64().unwrap())
                .sum();
            if !seen.contains(&people) {
                seen.push(people);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn in_a_browser_the_number_of_people_changes_without_a_reload() {
    let demo = Demo::start();
    let browser = Chromium::start().await;
    browser.open(&demo.address("site")).await;
    // Nobody is told who is here before they say who they are.
    browser
        .wait_for("document.querySelector('.count')?.textContent.trim() === 'Sign in to see who is here'")
        .await;
    browser.click("a[href='/sign-in']", "/sign-in").await;
    browser.click("form[action='/sign-in/ada'] button", "/").await;
    browser
        .wait_for("document.querySelector('.who span')?.textContent === 'ada'")
        .await;
    browser
        .click("a[href='/communities/1/']", "/communities/1/")
        .await;

    assert_eq!(browser.complaints().await, [""; 0]);
    let element = "document.querySelector('.here live-visitors')";
    let here = |name: &str| {
        let faces = format!("[...{element}.shadowRoot.querySelectorAll('.avatar')]");
        format!("{faces}.some(face => face.title === '{name}' && face.querySelector('img'))")
    };
    let number = &format!("{element}.count");
    // The visitor sees herself, counted by the page that she has just opened.
    browser.wait_for(&here("ada")).await;
    let first = browser.wait_for(number).await;
    browser.wait_for("window.neverReloaded = true").await;
    assert!(first.as_u64().unwrap() >= 1);

    // Grace comes; the page shows her, and another number.
    let grace = demo.member("grace").await;
    grace.sees("/communities/1/").await;
    browser.wait_for(&here("grace")).await;
    let second = browser
        .wait_for(&format!(
            "(() => {{ const now = {number}; return now !== {first} && now; }})()"
        ))
        .await;
    assert!(second.as_u64().unwrap() >= 1);
    browser.wait_for("window.neverReloaded").await;
    assert_eq!(browser.complaints().await, [""; 0]);

    // On a phone, by night.
    browser.has_size(360, 740).await;
    browser.prefers(&[("prefers-color-scheme", "dark")]).await;
    browser
        .wait_for("innerWidth === 360 && matchMedia('(prefers-color-scheme: dark)').matches")
        .await;
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth").await,
        Some(360.into())
    );
    browser.picture("demo-phone-dark").await;

    // A post's readers are counted by themselves, beside the community's visitors.
    browser
        .click("a[href='/communities/1/posts/1/']", "/communities/1/posts/1/")
        .await;
    let of_post = "document.querySelector('live-visitors[post=\"1\"]')";
    browser.wait_for(&format!("{of_post}?.count >= 1")).await;
    browser
        .wait_for("document.querySelector('live-visitors:not([post])').count >= 1")
        .await;
    grace.sees("/communities/1/posts/1/").await;
    browser
        .wait_for(&format!(
            "[...{of_post}.shadowRoot.querySelectorAll('.avatar')].some(face => face.title === 'grace')"
        ))
        .await;
    demo.ends_on(&["INT"]);
}

#[test]
fn a_closed_terminal_ends_it_and_nothing_stays_behind() {
    // A terminal that is closed may send several.
    Demo::start().ends_on(&["HUP", "TERM", "INT"]);
}

#[test]
fn a_taken_port_is_named_with_the_remedy() {
    let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().to_str().unwrap();
    let told = process::run(&["demo", "--port", &port.to_string()], &[("TMPDIR", temporary)]);
    assert_eq!(
        told.err,
        format!(
            "headcount: cannot listen on 127.0.0.1:{port}; choose another port, for example `headcount demo \
             --port {}`, or let the system choose with `--port 0`: Address already in use (os error 98)\n",
            port + 1
        )
    );
    assert_eq!((told.code, &*told.out), (Some(1), ""));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
