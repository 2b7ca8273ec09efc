//! What goes through the sidecar is what goes without it, on every site: as the tests of `fidelity`, but that Django's tokens
//! are new in each answer.

use regex::Regex;

use crate::fidelity::{end_to_end, request};
use crate::support::sidecar::Sidecar;
use crate::support::subject::Subject;
use crate::support::wire::{Answer, exchange};

/// Sends the same bytes to the site and to the sidecar.
pub(super) async fn is_unchanged(subject: &Subject, sidecar: &Sidecar) {
    let topic = subject.page("hidden_topic");
    let lines = [
        "GET /".to_owned(),
        "HEAD /".to_owned(),
        "GET /nowhere/%C3%A9/?q=a%20b&q=c".to_owned(),
        "GET //double//slashes/".to_owned(),
        "OPTIONS /".to_owned(),
        "DELETE /".to_owned(),
        // A redirect, or the refusal of a page that not everybody may see.
        format!("GET {}", topic.trim_end_matches('/')),
        format!("GET {topic}"),
        format!("HEAD {}", subject.page("community")),
        // A form, with its token against forgery.
        format!("GET {}", subject.form()),
    ];
    let mut requests: Vec<_> = lines.iter().map(|line| request(line, &[], "")).collect();
    let form = [
        "Content-Type: application/x-www-form-urlencoded",
        "Cookie: a=1; b=\"2\"",
    ];
    requests.push(request("POST /nowhere/", &form, "a=1&b=%C3%A9"));
    requests.push(request(&format!("POST {}", subject.form()), &form, "username=x"));
    requests.push(b"GET / HTTP/1.0\r\nHost: site.test\r\n\r\n".to_vec());
    for request in requests {
        let is_bodiless = request.starts_with(b"HEAD ");
        let direct = exchange(subject.port, &request, is_bodiless).await;
        let through = exchange(sidecar.port, &request, is_bodiless).await;
        let what = request.escape_ascii();
        assert_eq!(through.status, direct.status, "{what}");
        assert_eq!(headers(&through), headers(&direct), "{what}");
        assert_eq!(body(&through), body(&direct), "{what}");
    }
}

/// Headers, of cookies without their values and the second in which they were made.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let new = Regex::new("=[^;]*(; expires=[^;]*)?").expect("a pattern");
    let mut headers = end_to_end(answer);
    for (name, value) in &mut headers {
        if name == "set-cookie" {
            *value = new.replace(value, "=…").into_owned();
        }
    }
    headers
}

/// The body without tokens.
fn body(answer: &Answer) -> String {
    // As Django makes them, in forms and scripts alike.
    let token = Regex::new("\"[A-Za-z0-9]{64}\"").expect("a pattern");
    let text = String::from_utf8_lossy(&answer.body);
    token.replace_all(&text, "\"…\"").into_owned()
}
