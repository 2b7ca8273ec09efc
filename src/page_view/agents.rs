//! User agents, each read once: the robots among them, and the devices of the others.
//!
//! Reading one takes several microseconds, and a site's visitors have few: what was read is remembered.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::device::{Agent, DeviceInfo};
use super::robots::Robots;
use crate::config::BotPatterns;

/// User agents that are remembered; the ones that come often stay.
const CAPACITY: usize = 2048;

/// Browsers that are read once in advance: the parser compiles its patterns when it first needs them, and the first page views
/// of a process are not to wait for that.
const USUAL: [&str; 5] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
];

/// A browser's user agent, as it was read. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ReadAgent {
    /// Its text.
    pub(super) text: Arc<str>,
    /// What the text and the hints tell.
    pub(super) device: Arc<DeviceInfo>,
}

/// An [`Agent`] that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    text: Arc<str>,
    platform: Option<&'static str>,
    mobile: Option<bool>,
}

impl Remembered {
    fn agent(&self) -> Agent<'_> {
        Agent {
            text: &self.text,
            platform: self.platform,
            mobile: self.mobile,
        }
    }
}

impl std::hash::Hash for Remembered {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.agent().hash(state);
    }
}

impl Equivalent<Remembered> for Agent<'_> {
    fn equivalent(&self, key: &Remembered) -> bool {
        *self == key.agent()
    }
}

/// Reads user agents. Clones share what was read.
#[derive(Clone)]
pub struct Agents {
    robots: Robots,
    read: Arc<Cache<Remembered, Option<ReadAgent>>>,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agents")
    }
}

impl Default for Agents {
    fn default() -> Self {
        Self::new(&BotPatterns::default())
    }
}

impl Agents {
    /// With these corrections to the list of robots. Takes milliseconds.
    pub fn new(patterns: &BotPatterns) -> Self {
        Self {
            robots: Robots::new(patterns),
            read: Arc::new(Cache::new(CAPACITY)),
        }
    }

    /// Has the patterns of usual browsers compiled, so that their first visitors do not wait for that. Takes milliseconds.
    pub fn read_usual() {
        for browser in USUAL {
            DeviceInfo::of(&Agent::of(browser, &HeaderMap::new()));
        }
    }

    /// Text and device, or `None` for a robot.
    pub(super) fn read(&self, agent: Agent<'_>) -> Option<ReadAgent> {
        if let Some(known) = self.read.get(&agent) {
            return known;
        }
        let text: Arc<str> = agent.text.into();
        let is_robot = self.robots.include(agent.text);
        let read = (!is_robot).then(|| ReadAgent {
            text: Arc::clone(&text),
            device: Arc::new(DeviceInfo::of(&agent)),
        });
        let key = Remembered {
            text,
            platform: agent.platform,
            mobile: agent.mobile,
        };
        self.read.insert(key, read.clone());
        read
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_read() {
        let agents = Agents::default();
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        let mut phone = HeaderMap::new();
        phone.insert("sec-ch-ua-platform", HeaderValue::from_static("\"Android\""));
        phone.insert("sec-ch-ua-mobile", HeaderValue::from_static("?1"));
        for _ in 0..2 {
            let desktop = agents.read(Agent::of(chrome, &HeaderMap::new())).unwrap();
            assert_eq!((&*desktop.text, &*desktop.device.device), (chrome, "desktop"));
            let mobile = agents.read(Agent::of(chrome, &phone)).unwrap();
            assert_eq!((&*mobile.text, &*mobile.device.device), (chrome, "mobile"));
            assert!(agents.read(Agent::of("curl/8.5.0", &phone)).is_none());
        }
        assert_eq!(agents.read.len(), 3);
    }
}
