//! The commands in the demo's banner. Each works exactly as printed, in this order.

use std::net::SocketAddr;
use std::path::Path;

use super::browser::USER_AGENTS;

/// The member that the commands sign in as.
const MEMBER: &str = "ada";

/// A line to paste into a shell, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoCommand {
    /// What it shows, without a full stop.
    pub title: &'static str,
    /// The line for a POSIX shell; needs `curl` and `grep`.
    pub line: String,
}

/// The commands for a sidecar at `site` with its admin pages at `admin`; the cookie jar is in `directory`.
pub(crate) fn list(site: SocketAddr, admin: SocketAddr, directory: &Path) -> Vec<DemoCommand> {
    let jar = quoted(&directory.join("cookies").to_string_lossy());
    let user_agent = quoted(USER_AGENTS[2]);
    let visitors = format!("http://{site}/api/communities/1/visitors");
    let ask = |path: &str| format!(r"curl -s -w '\n' -b {jar} '{visitors}{path}'");
    vec![
        DemoCommand {
            title: "sign in (303)",
            line: format!(
                "curl -s -o /dev/null -w '%{{http_code}}\\n' -c {jar} -X POST 'http://{site}/sign-in/{MEMBER}'"
            ),
        },
        DemoCommand {
            title: "open a page as a browser does (200)",
            line: format!(
                "curl -s -o /dev/null -w '%{{http_code}}\\n' -b {jar} -A {user_agent} -H 'Accept: text/html' \
                 -H 'Sec-Fetch-Mode: navigate' -H 'Sec-Fetch-Dest: document' 'http://{site}/communities/1/'"
            ),
        },
        DemoCommand {
            title: "who is there now",
            line: ask(""),
        },
        DemoCommand {
            title: "how many",
            line: ask("/count"),
        },
        DemoCommand {
            title: "each time it changes (until Ctrl-C)",
            line: format!(
                "curl -sN -b {jar} -H 'Accept: text/event-stream' '{visitors}/live?heartbeat=false'"
            ),
        },
        DemoCommand {
            title: "the last 30 days",
            line: ask("/stats?days=30"),
        },
        DemoCommand {
            title: "the numbers for Prometheus",
            line: format!("curl -s 'http://{admin}/metrics' | grep '^headcount_page_views.* [1-9]'"),
        },
        DemoCommand {
            title: "not signed in: 401",
            line: format!(r"curl -s -i -w '\n' '{visitors}'"),
        },
    ]
}

/// Quotes a text for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use super::*;

    #[test]
    fn a_quoted_word_is_one_word_to_the_shell() {
        let odd = "a b'c\"d$HOME`e`\\";
        let script = format!("printf %s {}", quoted(odd));
        let output = Process::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), odd);
    }

    #[test]
    fn every_command_is_one_line() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for command in list(address, address, Path::new("/tmp/x")) {
            assert!(!command.line.contains('\n'), "{}", command.line);
        }
    }
}
