//! What goes through the sidecar is what goes without it, on every site: the comparisons of `crate::fidelity` as far as a site
//! that was not written for them lets them be made. Django's tokens are new in each answer.

use regex::Regex;

use crate::fidelity::{end_to_end, request};
use crate::support::sidecar::Sidecar;
use crate::support::subject::Subject;
use crate::support::wire::{Answer, Wire, exchange};

const URLENCODED: &str = "Content-Type: application/x-www-form-urlencoded";
const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=border";
/// Methods that browsers, scripts and scanners send.
const METHODS: &[&str] = &[
    "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "PROPFIND", "M-SEARCH",
];
/// Targets that a proxy may be tempted to clean up.
const TARGETS: &[&str] = &[
    "/nowhere/%C3%A9/?q=a%20b&q=c",
    "//double//slashes/",
    "/nowhere/a/../b/./c/..",
    "/nowhere/%2e%2e/%2E/x",
    "/nowhere/;a=1;b/@:!$&'()*+,=~",
    "/nowhere/[brackets]|{braces}^?`q`",
    "/nowhere/%zz?",
    "/?",
    "/?page=%00&next=//elsewhere.test/",
];
/// Headers that change what an answer is.
const HEADERS: &[&[&str]] = &[
    &["Accept: text/html", "Accept-Language: de-DE, de;q=0.8"],
    &["Accept-Encoding: gzip, br"],
    &["X-Requested-With: XMLHttpRequest", "Accept: application/json"],
    &["Authorization: Bearer abc.def.ghi"],
    &["Cookie: a=1; b=\"2\"", "Cookie: sessionid=; c=é"],
    &[
        "Origin: https://elsewhere.test",
        "Referer: https://elsewhere.test/?a=b",
    ],
    &[
        "If-None-Match: \"a\", W/\"b\"",
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    ],
    &["Cache-Control: no-cache", "Pragma: no-cache"],
];
/// Of a file; the last two cannot be satisfied.
const RANGES: &[&str] = &["0-0", "10-100", "-5", "100-", "0-3,8-11", "99999999-", "nonsense"];
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// A site, with and without the sidecar.
struct Compared<'a> {
    subject: &'a Subject,
    sidecar: &'a Sidecar,
    /// Headers of a member who has signed in at the site.
    member: Vec<String>,
    /// The member's token against forgery, where the site has them.
    token: String,
}

/// Sends the same bytes to the site and to the sidecar, of every kind.
pub(super) async fn is_unchanged(subject: &Subject, sidecar: &Sidecar) {
    let member = subject
        .signs_in(format!("http://127.0.0.1:{}", subject.port), "bob")
        .await;
    let cookie = member.cookie();
    let token = cookie
        .split("csrftoken=")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let token = token.unwrap_or_default().to_owned();
    let compared = Compared {
        subject,
        sidecar,
        member: vec![format!("Cookie: {cookie}"), format!("X-CSRFToken: {token}")],
        token,
    };
    compared.requests().await;
    compared.members().await;
    compared.forms().await;
    compared.uploads().await;
    compared.files().await;
    compared.streams().await;
    compared.connections().await;
}

impl Compared<'_> {
    /// The answer, which is the same both ways.
    async fn same(&self, request: impl AsRef<[u8]>) -> Answer {
        let request = request.as_ref();
        let is_bodiless = request.starts_with(b"HEAD ");
        let direct = exchange(self.subject.port, request, is_bodiless).await;
        let through = exchange(self.sidecar.port, request, is_bodiless).await;
        are_same(
            &through,
            &direct,
            &request[..request.len().min(200)].escape_ascii().to_string(),
        );
        through
    }

    async fn get(&self, path: &str) -> Answer {
        self.same(request(&format!("GET {path}"), &[], "")).await
    }

    /// Methods, targets, headers and errors.
    async fn requests(&self) {
        let (form, page, topic) = (
            self.subject.form(),
            self.subject.page("community"),
            self.subject.page("hidden_topic"),
        );
        for target in TARGETS
            .iter()
            .copied()
            .chain(["/", form, topic, "/favicon.ico", "/robots.txt"])
        {
            self.get(target).await;
        }
        // A redirect to the same with a slash, where the site has them.
        self.get(topic.trim_end_matches('/')).await;
        assert_eq!(self.get("/nowhere/").await.status, 404);
        for method in METHODS {
            for path in ["/", page, form] {
                self.same(request(&format!("{method} {path}"), &[], "")).await;
            }
        }
        for headers in HEADERS {
            for path in ["/", form] {
                self.same(request(&format!("GET {path}"), headers, "")).await;
            }
        }
        for version in [
            "HTTP/1.0\r\nHost: site.test\r\n",
            "HTTP/1.1\r\nHost: SITE.test:8000\r\nConnection: close\r\n",
        ] {
            for path in ["/", page, form] {
                self.same(format!("GET {path} {version}\r\n")).await;
            }
        }
    }

    /// Pages and refusals of a member, with cookies that the site sets.
    async fn members(&self) {
        let headers: Vec<_> = self.member.iter().map(String::as_str).collect();
        for page in ["community", "topic", "hidden", "hidden_topic"] {
            for method in ["GET", "HEAD"] {
                let line = format!("{method} {}", self.subject.page(page));
                self.same(request(&line, &headers, "")).await;
            }
        }
        assert_eq!(
            self.same(request(
                &format!("GET {}", self.subject.page("topic")),
                &headers,
                ""
            ))
            .await
            .status,
            200
        );
    }

    /// With and without the token against forgery, with faults in them, and one that signs in: a redirect with cookies.
    async fn forms(&self) {
        let post = format!("POST {}", self.subject.form());
        let without = self
            .same(request(
                &post,
                &[URLENCODED, "Cookie: a=1; b=\"2\""],
                "username=x",
            ))
            .await;
        let is_guarded = without.status == 403 && !self.token.is_empty();
        let guard = format!("Cookie: csrftoken={}", self.token);
        let wrong = format!(
            "csrfmiddlewaretoken={}&username=nobody&password=%C3%A9+%26",
            self.token
        );
        let answer = self.same(request(&post, &[URLENCODED, &guard], &wrong)).await;
        assert!(!is_guarded || answer.status == 200, "{}", answer.status);
        let right = wrong
            .replace("nobody", "bob")
            .replace("%C3%A9+%26", self.subject.password("bob").as_str());
        let answer = self.same(request(&post, &[URLENCODED, &guard], &right)).await;
        assert_eq!(
            (
                answer.status,
                answer.headers.iter().any(|(name, _)| name == "set-cookie")
            ),
            (302, true)
        );
        // From elsewhere: Django compares the origin with the host that it is told.
        self.same(request(
            &post,
            &[URLENCODED, &guard, "Origin: https://elsewhere.test"],
            &right,
        ))
        .await;
        // More fields than Django reads.
        self.same(request(&post, &[URLENCODED, &guard], &"a=1&".repeat(1_100)))
            .await;
        self.same(request("POST /nowhere/", &[URLENCODED], "a=1&b=%C3%A9"))
            .await;
        self.same(request(
            &post,
            &["Content-Type: application/json", &guard],
            "{\"a\": [1, null, \"é\"]}",
        ))
        .await;
    }

    /// Files of a form, small and of a megabyte, of a known length and in chunks.
    async fn uploads(&self) {
        let path = self.subject.upload().unwrap_or(self.subject.form());
        let headers: Vec<_> = self.member.iter().map(String::as_str).collect();
        let head = [&[MULTIPART, "X-Requested-With: XMLHttpRequest"], &*headers].concat();
        let large = GIF.repeat(25_000);
        for file in [GIF, &large] {
            let body = [
                format!("--border\r\nContent-Disposition: form-data; name=\"csrfmiddlewaretoken\"\r\n\r\n{}\r\n", self.token).as_bytes(),
                b"--border\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a b.gif\"\r\nContent-Type: image/gif\r\n\r\n",
                file,
                b"\r\n--border\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xc3\xa9.gif\"\r\n\r\n",
                file,
                b"\r\n--border--\r\n",
            ]
            .concat();
            let line = format!("POST {path}");
            let length = format!("Content-Length: {}", body.len());
            let mut whole = request(&line, &[&*head, &[&length]].concat(), "");
            whole.extend(&body);
            let answer = self.same(whole).await;
            if let Some(url) = stored(&answer) {
                assert_eq!(self.get(&url).await.body, file);
            }
            let mut chunked = request(&line, &[&*head, &["Transfer-Encoding: chunked"]].concat(), "");
            for part in body.chunks(60_000) {
                chunked.extend(format!("{:x}\r\n", part.len()).bytes());
                chunked.extend(part);
                chunked.extend(b"\r\n");
            }
            chunked.extend(b"0\r\n\r\n");
            self.same(chunked).await;
        }
    }

    /// A file as it is, in ranges, and only if it has changed.
    async fn files(&self) {
        let path = self.subject.file();
        let file = self.get(path).await;
        assert_eq!(file.status, 200);
        assert!(file.body.len() > 1_000, "{}", file.body.len());
        self.same(request(&format!("HEAD {path}"), &[], "")).await;
        for range in RANGES {
            self.same(request(
                &format!("GET {path}"),
                &[&format!("Range: bytes={range}")],
                "",
            ))
            .await;
        }
        if let Some(at) = file.header("last-modified") {
            let since = format!("If-Modified-Since: {at}");
            assert_eq!(
                self.same(request(&format!("GET {path}"), &[&since], ""))
                    .await
                    .status,
                304
            );
            let range = [&*format!("If-Range: {at}"), "Range: bytes=0-9"];
            self.same(request(&format!("GET {path}"), &range, "")).await;
        }
        for path in [
            format!("{path}x"),
            format!("{path}/../"),
            path.replacen('/', "//", 1),
        ] {
            self.get(&path).await;
        }
    }

    /// An answer whose length the site does not know.
    async fn streams(&self) {
        if let Some(path) = self.subject.stream() {
            let answer = self.get(path).await;
            assert_eq!(
                (answer.status, answer.header("transfer-encoding")),
                (200, Some("chunked"))
            );
            self.same(request(&format!("HEAD {path}"), &[], "")).await;
            self.same(format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        }
    }

    /// Several requests on one connection, of which some have no body and some are refused.
    async fn connections(&self) {
        let (form, file) = (self.subject.form(), self.subject.file());
        let lines = [
            ("GET", form, ""),
            ("HEAD", file, ""),
            ("POST", "/nowhere/", "a=1"),
            ("GET", file, ""),
            ("DELETE", form, ""),
            ("GET", "/nowhere/", ""),
        ];
        let (mut direct, mut through) = (
            Wire::open(self.subject.port).await,
            Wire::open(self.sidecar.port).await,
        );
        for (method, path, body) in lines {
            let length = body.len();
            let bytes = format!(
                "{method} {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let mut answers = Vec::new();
            for wire in [&mut direct, &mut through] {
                wire.send(&bytes).await;
                answers.push(wire.try_answer(method == "HEAD").await.expect("a response"));
            }
            are_same(&answers[1], &answers[0], &bytes);
        }
    }
}

#[track_caller]
fn are_same(through: &Answer, direct: &Answer, what: &str) {
    assert_eq!(through.status, direct.status, "{what}");
    assert_eq!(headers(through), headers(direct), "{what}");
    let (through, direct) = (body(through), body(direct));
    let differs = through
        .lines()
        .zip(direct.lines())
        .find(|(through, direct)| through != direct);
    assert!(
        through == direct,
        "{what}: of {} and {} bytes differs first {differs:?}",
        through.len(),
        direct.len()
    );
}

/// Where a site says that it keeps an uploaded file.
fn stored(answer: &Answer) -> Option<String> {
    let said: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    said["url"].as_str().map(str::to_owned)
}

/// Headers, of cookies without their values and the second in which they were made.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let new = Regex::new("=[^;]*(; expires=[^;]*)?").expect("a pattern");
    let mut headers = end_to_end(answer);
    for (name, value) in &mut headers {
        // What is never kept expires in the second in which it was made.
        if name == "expires" {
            "…".clone_into(value);
        }
        if name == "set-cookie" {
            *value = new.replace(value, "=…").into_owned();
        }
    }
    headers
}

/// The body without tokens, and without the name that a site gives a file.
fn body(answer: &Answer) -> String {
    // As Django makes them, in forms and scripts alike.
    let new = Regex::new("\"[A-Za-z0-9]{64}\"|\"url\": \"[^\"]*\"").expect("a pattern");
    let text = String::from_utf8_lossy(&answer.body);
    new.replace_all(&text, "\"…\"").into_owned()
}
