//! User agents: whether one is a robot's, and the browser, system and device that it names.

use std::fmt;
use std::sync::Arc;

use isbot::Bots;
use serde::{Deserialize, Serialize};
use woothee::parser::{Parser, WootheeResult};
use woothee::woothee::VALUE_UNKNOWN;

const UNKNOWN: &str = "unknown";
/// Upper bound of browser and operating system, in characters: their versions are the client's text.
const MAX_PART: usize = 64;

/// `device_info` as the app's tables hold it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Browser and version, for example `Firefox 128.0`; `unknown` when not recognised.
    pub browser: String,
    /// Operating system, for example `Windows 10`; `unknown` when not recognised.
    pub os: String,
    /// `desktop`, `mobile`, `tablet` or `unknown`.
    pub device: String,
}

impl DeviceInfo {
    /// Parses a user agent. Never fails: unrecognised parts are `unknown`.
    pub fn parse(user_agent: &str) -> Self {
        match Parser::new().parse(user_agent) {
            Some(parsed) => Self::from_parsed(&parsed, user_agent),
            None => Self::unknown(),
        }
    }

    fn unknown() -> Self {
        Self {
            browser: UNKNOWN.into(),
            os: UNKNOWN.into(),
            device: UNKNOWN.into(),
        }
    }

    fn from_parsed(parsed: &WootheeResult<'_>, user_agent: &str) -> Self {
        // Windows' marketing name includes the version; its own (`NT 10.0`) would repeat it.
        let os_version = if parsed.os.starts_with("Windows") {
            ""
        } else {
            &parsed.os_version
        };
        let device = match parsed.category {
            "smartphone" if is_tablet(parsed.os, user_agent) => "tablet",
            "smartphone" | "mobilephone" => "mobile",
            "pc" => "desktop",
            _ => UNKNOWN,
        };
        Self {
            browser: name_and_version(parsed.name, parsed.version),
            os: name_and_version(parsed.os, os_version),
            device: device.into(),
        }
    }
}

/// Android's user agent contains `Mobile` on phones only.
fn is_tablet(os: &str, user_agent: &str) -> bool {
    os == "iPad" || os == "Android" && !user_agent.contains("Mobile")
}

fn name_and_version(name: &str, version: &str) -> String {
    if name.is_empty() || name == VALUE_UNKNOWN {
        return UNKNOWN.into();
    }
    let text = if version.is_empty() || version == VALUE_UNKNOWN {
        name.to_owned()
    } else {
        format!("{name} {version}")
    };
    match text.char_indices().nth(MAX_PART) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// The user agents that are robots. Cheap to clone.
#[derive(Clone)]
pub struct BotList(Arc<Bots>);

impl Default for BotList {
    /// Compiles the list that comes with the library; takes milliseconds.
    fn default() -> Self {
        Self(Arc::new(Bots::default()))
    }
}

impl fmt::Debug for BotList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotList")
    }
}

impl BotList {
    /// Whether this is a robot, a library or a monitoring probe. An empty user agent counts as one too: every browser
    /// sends one.
    pub fn is_bot(&self, user_agent: &str) -> bool {
        self.examine(user_agent).is_none()
    }

    /// The device, or `None` for a robot; reads the user agent once for both.
    pub fn examine(&self, user_agent: &str) -> Option<DeviceInfo> {
        if user_agent.trim().is_empty() || self.0.is_bot(user_agent) {
            return None;
        }
        let Some(parsed) = Parser::new().parse(user_agent) else {
            return Some(DeviceInfo::unknown());
        };
        (parsed.category != "crawler").then(|| DeviceInfo::from_parsed(&parsed, user_agent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0";
    const MAC: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                       Version/17.4 Safari/605.1.15";
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, \
                          like Gecko) Version/17.4 Mobile/15E148 Safari/604.1";
    const IPAD: &str = "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                        Version/12.1 Mobile/15E148 Safari/604.1";
    const PIXEL: &str = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/126.0.0.0 Mobile Safari/537.36";
    const TABLET: &str = "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) \
                          Chrome/126.0.0.0 Safari/537.36";
    const EDGE: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                        Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0";
    const LINUX: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/126.0.0.0 Safari/537.36";

    #[test]
    fn devices_are_recognised() {
        for (user_agent, browser, os, device) in [
            (WINDOWS, "Firefox 128.0", "Windows 10", "desktop"),
            (EDGE, "Edge 126.0.0.0", "Windows 10", "desktop"),
            (MAC, "Safari 17.4", "Mac OSX 10.15.7", "desktop"),
            (LINUX, "Chrome 126.0.0.0", "Linux", "desktop"),
            (IPHONE, "Safari 17.4", "iPhone 17.4", "mobile"),
            (IPAD, "Safari 12.1", "iPad 12.2", "tablet"),
            (PIXEL, "Chrome 126.0.0.0", "Android 14", "mobile"),
            (TABLET, "Chrome 126.0.0.0", "Android 13", "tablet"),
            ("my own program", "unknown", "unknown", "unknown"),
            ("", "unknown", "unknown", "unknown"),
        ] {
            let info = DeviceInfo::parse(user_agent);
            assert_eq!(
                (&*info.browser, &*info.os, &*info.device),
                (browser, os, device),
                "{user_agent}"
            );
        }
    }

    #[test]
    fn v4_robots_probes_and_libraries_are_bots_and_browsers_are_not() {
        let bots = BotList::default();
        for user_agent in [
            "",
            "  ",
            "curl/8.5.0",
            "python-requests/2.32.0",
            "Go-http-client/2.0",
            "kube-probe/1.30 bot",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; \
             +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             HeadlessChrome/126.0.0.0 Safari/537.36",
            "UptimeRobot/2.0",
        ] {
            assert!(bots.is_bot(user_agent), "{user_agent}");
        }
        for user_agent in [WINDOWS, MAC, IPHONE, IPAD, PIXEL, TABLET, EDGE, LINUX] {
            assert!(!bots.is_bot(user_agent), "{user_agent}");
        }
    }

    #[test]
    fn parts_of_hostile_length_are_cut() {
        let info = DeviceInfo::parse(&format!(
            "Mozilla/5.0 (Windows NT 10.0) Firefox/{}",
            "1".repeat(400)
        ));
        assert_eq!(info.browser.chars().count(), MAX_PART);
    }
}
