//! A client that still sends its body when the answer is there gets to read the answer: whoever closes a connection
//! with unread bytes resets it, and many clients do not read before they have sent everything.

use std::process::Command;

use crate::support::backend;
use crate::support::fake_upstream::{FakeUpstream, Reply};
use crate::support::service::free_port;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Certificate;
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World};

/// More than all buffers on the way hold.
const SIZE: usize = 30 * 1024 * 1024;

/// Uploads with Python's `http.client`, which sends everything before it reads; what it makes of the answer.
fn upload(port: u16, method: &str, path: &str, chunked: bool) -> String {
    upload_by("HTTPConnection", port, method, path, chunked)
}

fn upload_by(class: &str, port: u16, method: &str, path: &str, chunked: bool) -> String {
    let script = r#"
import http.client, ssl, sys
name, port, method, path, size, chunked = sys.argv[1:]
piece = b"x" * 65536
body = (piece for _ in range(int(size) // len(piece)))
options = {"context": ssl._create_unverified_context()} if name == "HTTPSConnection" else {}
connection = getattr(http.client, name)("127.0.0.1", int(port), timeout=120, **options)
headers = {} if chunked == "true" else {"Content-Length": size}
connection.request(method, path, body=body, headers=headers, encode_chunked=chunked == "true")
answer = connection.getresponse()
print(answer.status, len(answer.read()) > 0, answer.headers["Connection"])
"#;
    let arguments = [
        class,
        &port.to_string(),
        method,
        path,
        &SIZE.to_string(),
        &chunked.to_string(),
    ];
    backend::python_says(script, &arguments)
}

/// Uploads with Node's `http`, which reads while it sends, and fails where the connection breaks before the answer has
/// ended; what it makes of the answer, and of everything that goes wrong.
fn upload_by_node(port: u16, chunked: bool, keep_alive: bool) -> String {
    let script = r#"
const http = require("http");
const { Readable } = require("stream");
const [port, size, chunked, keepAlive] = process.argv.slice(1).map((argument) => JSON.parse(argument));
const agent = new http.Agent({ keepAlive });
const headers = chunked ? {} : { "Content-Length": size };
const request = http.request({ port, host: "127.0.0.1", path: "/upload", method: "POST", agent, headers });
request.on("error", (error) => console.log(error.code));
request.on("response", (answer) => {
    let length = 0;
    answer.on("data", (data) => (length += data.length));
    answer.on("error", (error) => console.log(error.code));
    answer.on("end", () => console.log(answer.statusCode, length > 0, answer.headers.connection));
});
const piece = Buffer.alloc(65536, "x");
Readable.from((function* () { for (let sent = 0; sent < size; sent += piece.length) yield piece; })()).pipe(request);
"#;
    let arguments = [
        port.to_string(),
        SIZE.to_string(),
        chunked.to_string(),
        keep_alive.to_string(),
    ];
    let output = Command::new("timeout")
        .args(["60", "node", "-e", script])
        .args(arguments)
        .output();
    let output = output.expect("node runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.trim_end().replace('\n', " ")
}

async fn small_limit() -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.config = "[limits]\nmax_body_bytes = \"100KiB\"".into();
    World::shared().await.another_sidecar(&wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_refusal_reaches_a_client_that_uploads() {
    let sidecar = small_limit().await;
    for chunked in [false, true] {
        assert_eq!(
            upload(sidecar.port, "POST", "/upload", chunked),
            "413 True close",
            "{chunked}"
        );
        // Chunks: an announced body above the limit is refused first, whatever the path.
        let answer = upload(sidecar.port, "PUT", "/api/visitors/openapi.json", chunked);
        let status = if chunked { "405" } else { "413" };
        assert_eq!(answer, format!("{status} True close"), "{chunked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_refusal_reaches_a_client_of_node_that_uploads() {
    let sidecar = small_limit().await;
    for (chunked, keep_alive) in [(false, false), (false, true), (true, false), (true, true)] {
        let answer = upload_by_node(sidecar.port, chunked, keep_alive);
        assert_eq!(answer, "413 true close", "chunked: {chunked}, kept: {keep_alive}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_an_early_answer_of_the_app_reaches_a_client_that_uploads() {
    // gunicorn closes a connection on which the app left a large body unread.
    let port = World::shared().await.sidecar.port;
    for chunked in [false, true] {
        assert_eq!(
            upload(port, "POST", "/about/", chunked),
            "200 True close",
            "{chunked}"
        );
    }
}

/// Sends all of a large body before it reads, byte by byte; the answer's status.
async fn sends_everything_first(mut wire: Wire, head: &str) -> u16 {
    wire.send(format!("{head}\r\n")).await;
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..SIZE / piece.len() {
        wire.send(&piece).await;
    }
    let answer = wire.answer().await;
    // The end, and no reset.
    wire.closes().await;
    answer.status
}

#[tokio::test]
async fn e2_every_refusal_reaches_a_client_that_sends_everything_first() {
    let sidecar = small_limit().await;
    let large = "x".repeat(100_000);
    for (head, status) in [
        (
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 31457280\r\n".to_owned(),
            413,
        ),
        (
            "POST /upload HTTP/1.1\r\nContent-Length: 31457280\r\n".to_owned(),
            400,
        ),
        (
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n".to_owned(),
            400,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n".to_owned(), 405),
        (
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nX: {large}\r\n"),
            431,
        ),
    ] {
        let wire = Wire::open(sidecar.port).await;
        let what: String = head.chars().take(80).collect();
        assert_eq!(sends_everything_first(wire, &head).await, status, "{what}");
    }
    // A report that is no chunks.
    let wire = Wire::open(sidecar.port).await;
    let head = "POST /api/visits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    assert!(sends_everything_first(wire, head).await >= 400);
}

#[tokio::test]
async fn e2_an_app_that_answers_early_and_hangs_up_is_heard() {
    let app = FakeUpstream::answering(|_| {
        Reply::Close("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    })
    .await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let mut wire = Wire::open(sidecar.port).await;
    // It does not understand chunks, and answers at once.
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let head = wire.head().await;
    assert_eq!(head.status, 403);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    for _ in 0..SIZE / 65_536 {
        wire.send(&chunk).await;
    }
    assert_eq!(wire.rest().await, b"no");
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_a_refusal_reaches_a_client_that_uploads_over_tls() {
    let certificate = Certificate::of("site.test");
    let port = free_port();
    let mut wanted = Wanted::usual();
    let listener = certificate.listener(port);
    wanted.config = format!("[limits]\nmax_body_bytes = \"100KiB\"\n{listener}");
    let _sidecar = World::shared().await.another_sidecar(&wanted);
    for chunked in [false, true] {
        let answer = upload_by("HTTPSConnection", port, "POST", "/upload", chunked);
        assert_eq!(answer, "413 True close", "{chunked}");
    }
}
