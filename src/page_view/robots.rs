//! Robots, by user agent: crawlers, assistants, probes, libraries and tools.
//!
//! Lists of names age, so the rules come first: browsers call themselves `Mozilla/…`, and none has said
//! `compatible;` since Internet Explorer and Konqueror. What pretends to be a browser is found by name: by the
//! library's list, and by `NAMES`.

use std::fmt;
use std::sync::Arc;

use isbot::Bots;

use crate::config::{BotPatterns, Patterns};

/// Robots that look like browsers but for their name, and that the library does not know.
const NAMES: [&str; 8] = [
    "DatadogSynthetics",
    "GoogleOther",
    "Google-Read-Aloud",
    "Playwright",
    "Puppeteer",
    "Cypress/",
    "Checkly",
    "RuxitSynthetic",
];

/// Which user agents are robots. Cheap to clone.
#[derive(Clone)]
pub(super) struct Robots(Arc<RobotLists>);

struct RobotLists {
    known: Bots,
    added: Patterns,
    removed: Patterns,
}

impl Robots {
    /// Compiles the library's list, which takes milliseconds.
    pub(super) fn new(patterns: &BotPatterns) -> Self {
        Self(Arc::new(RobotLists {
            known: Bots::default(),
            added: patterns.add.clone(),
            removed: patterns.remove.clone(),
        }))
    }

    /// Whether this is a robot. An empty user agent is one: every browser sends one.
    pub(super) fn include(&self, user_agent: &str) -> bool {
        let name = user_agent.trim();
        if name.is_empty() {
            return true;
        }
        let lists = &*self.0;
        if lists.removed.is_match(name) {
            return false;
        }
        !calls_itself_a_browser(name)
            || NAMES.iter().any(|known| name.contains(known))
            || lists.added.is_match(name)
            || lists.known.is_bot(name)
    }
}

fn calls_itself_a_browser(name: &str) -> bool {
    let is_old = ["MSIE ", "Konqueror/"].iter().any(|mark| name.contains(mark));
    let is_by_name = ["Mozilla/", "Opera/", "Lynx/", "Links (", "ELinks/", "w3m/"];
    is_by_name.iter().any(|start| name.starts_with(start)) && (is_old || !name.contains("compatible;"))
}

impl fmt::Debug for Robots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Robots")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crawlers, assistants, previews, probes, libraries and tools, one per line.
    const ROBOTS: &str = include_str!("robots/robots.txt");
    /// Browsers on many systems and in apps, one per line.
    const BROWSERS: &str = include_str!("robots/browsers.txt");

    fn robots(add: &[&str], remove: &[&str]) -> Robots {
        let patterns = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().copied().map(String::from).collect();
            Patterns::try_from(texts).unwrap()
        };
        Robots::new(&BotPatterns {
            add: patterns(add),
            remove: patterns(remove),
        })
    }

    #[test]
    fn v4_robots_probes_and_libraries_are_robots_and_browsers_are_not() {
        let robots = robots(&[], &[]);
        for robot in ROBOTS.lines().chain(["", "  ", "my own program"]) {
            assert!(robots.include(robot), "{robot}");
        }
        for browser in BROWSERS.lines() {
            assert!(!robots.include(browser), "{browser}");
        }
    }

    #[test]
    fn v4_an_operator_corrects_the_list() {
        let robots = robots(&["acme-monitor"], &["^AcmeApp/", "Claude-User"]);
        let browser = BROWSERS.lines().next().unwrap();
        assert!(robots.include(&format!("{browser} Acme-Monitor/2")));
        assert!(!robots.include("acmeapp/1.0 (okhttp/4.12.0)"));
        assert!(robots.include("okhttp/4.12.0"));
        let assistant = ROBOTS.lines().find(|name| name.contains("Claude-User")).unwrap();
        assert!(!robots.include(assistant));
    }
}
