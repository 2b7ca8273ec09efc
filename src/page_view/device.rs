//! The browser, system and kind of device that a user agent names. Robots: `robots`.
//!
//! The parser's data is of 2021: what it takes for another browser, or does not know, `APPS` and `system` name.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use woothee::parser::Parser;
use woothee::woothee::VALUE_UNKNOWN;

static PLATFORM: HeaderName = HeaderName::from_static("sec-ch-ua-platform");
static MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");

const UNKNOWN: &str = "unknown";
/// Upper bound of browser and operating system, in characters: their versions are the client's text.
const MAX_PART: usize = 64;

/// Browsers by what stands before their version. Those inside apps, and others that call themselves Chrome or Safari, too.
const APPS: [(&str, &str); 14] = [
    ("Instagram ", "Instagram"),
    ("FBAV/", "Facebook"),
    ("musical_ly_", "TikTok"),
    ("BytedanceWebview/", "TikTok"),
    ("MicroMessenger/", "WeChat"),
    ("Snapchat/", "Snapchat"),
    ("Pinterest/", "Pinterest"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Ddg/", "DuckDuckGo"),
    ("Silk/", "Silk"),
    ("HuaweiBrowser/", "Huawei Browser"),
    ("MiuiBrowser/", "Mi Browser"),
    ("UCBrowser/", "UC Browser"),
    ("Epiphany/", "GNOME Web"),
];

/// What a request says of its browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Agent<'a> {
    /// `User-Agent`, made fit to be stored.
    pub(super) text: &'a str,
    /// `Sec-CH-UA-Platform`, one of those that matter.
    pub(super) platform: Option<&'static str>,
    /// `Sec-CH-UA-Mobile`.
    pub(super) mobile: Option<bool>,
}

impl<'a> Agent<'a> {
    /// With the hints of the request.
    pub(super) fn of(user_agent: &'a str, request: &HeaderMap) -> Self {
        let hint = |name: &HeaderName| request.get(name).map(HeaderValue::as_bytes);
        Self {
            text: user_agent,
            platform: (hint(&PLATFORM) == Some(b"\"Android\"")).then_some("Android"),
            mobile: match hint(&MOBILE) {
                Some(b"?1") => Some(true),
                Some(b"?0") => Some(false),
                _ => None,
            },
        }
    }
}

/// `device_info` as the app's tables hold it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Browser and version, for example `Firefox 128.0`; `unknown` when not recognised.
    pub browser: Arc<str>,
    /// Operating system, for example `Windows 10`; `unknown` when not recognised.
    pub os: Arc<str>,
    /// `desktop`, `mobile`, `tablet` or `unknown`.
    pub device: Arc<str>,
}

impl DeviceInfo {
    /// Reads a user agent and its hints. Never fails: unrecognised parts are `unknown`.
    pub(super) fn of(agent: &Agent<'_>) -> Self {
        let text = agent.text;
        let parsed = Parser::new().parse(text).unwrap_or_default();
        let browser = app(text).unwrap_or_else(|| name_and_version(parsed.name, parsed.version));
        let os = system(agent).unwrap_or_else(|| match parsed.os {
            // Its marketing name has the version; its own (`NT 10.0`) would repeat it.
            os if os.starts_with("Windows") => name_and_version(os, ""),
            // Chrome says so on any version and model.
            "Android" if text.contains("Android 10; K)") => "Android".into(),
            os => name_and_version(os, &parsed.os_version),
        });
        let device = match (agent.mobile, parsed.category) {
            (Some(true), _) => "mobile",
            (Some(false), _) if os.starts_with("Android") => "tablet",
            (_, "smartphone") if is_tablet(parsed.os, text) => "tablet",
            (_, "smartphone" | "mobilephone") => "mobile",
            _ if text.contains("OpenHarmony") && text.contains("Phone;") => "mobile",
            (_, "pc") => "desktop",
            _ => UNKNOWN,
        };
        Self {
            browser: browser.into(),
            os: os.into(),
            device: device.into(),
        }
    }
}

/// The browser, if it is one of `APPS`.
fn app(text: &str) -> Option<String> {
    let found = |(mark, name): &(&str, &'static str)| Some((*name, text.split_once(mark)?.1));
    let (name, after) = APPS.iter().find_map(found)?;
    let end = after.find(|c: char| !c.is_ascii_digit() && c != '.');
    Some(name_and_version(name, &after[..end.unwrap_or(after.len())]))
}

/// The system, where the hint or the text tells more than the parser finds.
fn system(agent: &Agent<'_>) -> Option<String> {
    let text = agent.text;
    if text.contains("OpenHarmony") || text.contains("HarmonyOS") {
        return Some("HarmonyOS".into());
    }
    match agent.platform {
        // "Desktop site" on a phone or a tablet.
        Some("Android") if !text.contains("Android") => Some("Android".into()),
        _ => None,
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

    fn device(user_agent: &str, platform: Option<&'static str>, mobile: Option<bool>) -> DeviceInfo {
        DeviceInfo::of(&Agent {
            text: user_agent,
            platform,
            mobile,
        })
    }

    #[test]
    fn devices_are_recognised() {
        for (user_agent, browser, os, kind) in [
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
            let info = device(user_agent, None, None);
            assert_eq!(
                (&*info.browser, &*info.os, &*info.device),
                (browser, os, kind),
                "{user_agent}"
            );
        }
    }

    #[test]
    fn parts_of_hostile_length_are_cut() {
        let version = "1".repeat(400);
        let info = device(
            &format!("Mozilla/5.0 (Windows NT 10.0) Firefox/{version}"),
            None,
            None,
        );
        assert_eq!(info.browser.chars().count(), MAX_PART);
    }

    #[test]
    fn browsers_inside_apps_and_of_today_are_recognised() {
        let android = "Mozilla/5.0 (Linux; Android 14; SM-S918B; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 \
                       Chrome/126.0.0.0 Mobile Safari/537.36";
        let iphone =
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (user_agent, browser, os, kind) in [
            (format!("{android} Instagram 334.0.0.42.95 Android (34/14)"), "Instagram 334.0.0.42.95", "Android 14", "mobile"),
            (format!("{iphone} Mobile/15E148 [FBAN/FBIOS;FBAV/468.0.0.35.71;FBSN/iOS]"), "Facebook 468.0.0.35.71", "iPhone 17.5", "mobile"),
            (format!("{android} trill_340 BytedanceWebview/d8a21c6"), "TikTok", "Android 14", "mobile"),
            (format!("{iphone} Mobile/15E148 MicroMessenger/8.0.49(0x18003137)"), "WeChat 8.0.49", "iPhone 17.5", "mobile"),
            (format!("{iphone} Version/17.5 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15"), "DuckDuckGo 7", "iPhone 17.5", "mobile"),
            (
                "Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/126.2.1 like \
                 Chrome/126.0.0.0 Safari/537.36".into(),
                "Silk 126.2.1", "Android 9", "tablet",
            ),
            (
                "Mozilla/5.0 (Phone; OpenHarmony 4.1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/114.0.0.0 Safari/537.36 \
                 ArkWeb/4.1.6.1 Mobile HuaweiBrowser/5.0.4.300".into(),
                "Huawei Browser 5.0.4.300", "HarmonyOS", "mobile",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; HarmonyOS; ELS-AN00) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/114.0.5735.196 HuaweiBrowser/14.0.5.303 Mobile Safari/537.36".into(),
                "Huawei Browser 14.0.5.303", "HarmonyOS", "mobile",
            ),
        ] {
            let info = device(&user_agent, None, None);
            let is = (&*info.browser, &*info.os, &*info.device);
            assert_eq!(is, (browser, os, kind), "{user_agent}");
        }
    }

    #[test]
    fn what_chrome_says_on_any_android_is_no_version_and_its_hints_tell_the_rest() {
        let reduced =
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0";
        let phone = device(
            &format!("{reduced} Mobile Safari/537.36"),
            Some("Android"),
            Some(true),
        );
        assert_eq!((&*phone.os, &*phone.device), ("Android", "mobile"));
        let tablet = device(&format!("{reduced} Safari/537.36"), Some("Android"), Some(false));
        assert_eq!((&*tablet.os, &*tablet.device), ("Android", "tablet"));
        // A phone that asks for the desktop's site.
        let phone = device(LINUX, Some("Android"), Some(true));
        assert_eq!((&*phone.os, &*phone.device), ("Android", "mobile"));
        let desktop = device(LINUX, None, Some(false));
        assert_eq!((&*desktop.os, &*desktop.device), ("Linux", "desktop"));
    }
}
