//! Settings that all sidecars on the same keys must share, and the rules where they differ. Pure.
//!
//! Each sidecar records its settings, with the time, in every partition, each time that it touches or sweeps.
//! Settings that were not used for [`KEPT`] no longer count: so a change that is rolled out from
//! sidecar to sidecar is complete when the last of the old ones has gone, and an emptied Redis knows the settings
//! again at once.
//!
//! Where windows differ, the longest holds for all sidecars on the keys: each of them counts, lists, and forgets
//! by it. With any other rule the same question would have as many answers as there are sidecars, and the sidecar
//! with the shorter window would forget users that another one still counts. Other differences cannot be made good
//! here and are only reported.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::millis;
use super::window::{KEPT, Window};
use crate::ids::are_different;

/// Version of the data under the prefix: names of keys, and their contents. Raised by a change that sidecars of
/// the previous version cannot share.
const LAYOUT: u32 = 1;

/// The settings of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    layout: u32,
    partitions: u16,
    /// Milliseconds.
    window: i64,
    /// Whether the sidecar records presence, so that its window counts.
    records: bool,
    /// Whether it touches the whole site and what is finer than communities.
    scopes: bool,
    /// Which site it serves, where that is known.
    site: Option<Arc<str>>,
}

impl Settings {
    /// The settings of this sidecar.
    pub fn new(partitions: u16, window: &Window) -> Self {
        Self {
            layout: LAYOUT,
            partitions,
            window: window.own(),
            records: window.records(),
            scopes: true,
            site: None,
        }
    }

    /// The same, of a site.
    #[must_use]
    pub fn of_site(&self, site: Option<Arc<str>>) -> Self {
        Self { site, ..self.clone() }
    }

    /// Parses recorded settings; `None` if they have another form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut settings = (None, None, None);
        let (mut scopes, mut site) = (false, None);
        for field in text.split(' ') {
            match field.split_once('=')? {
                ("layout", value) => settings.0 = value.parse().ok(),
                ("partitions", value) => settings.1 = value.parse().ok(),
                ("window", value) => settings.2 = value.parse().ok(),
                ("scopes", value) => scopes = value == "1",
                ("site", value) => site = Some(value.into()),
                _ => {}
            }
        }
        Some(Self {
            layout: settings.0?,
            partitions: settings.1?,
            window: settings.2?,
            records: true,
            scopes,
            site,
        })
    }

    /// Differences between others' settings and this sidecar's: one sentence each, in a fixed order.
    pub fn differences(&self, in_use: &[String]) -> Vec<String> {
        let mut differences: Vec<String> = in_use
            .iter()
            .flat_map(|text| match Self::parse(text) {
                Some(other) => self.differences_from(&other),
                None => vec![another_layout()],
            })
            .collect();
        differences.sort();
        differences.dedup();
        // Said of the settings that are known, not of a process that is known to live.
        let kept = shown(millis(KEPT));
        let known =
            |difference| format!("{difference} (a sidecar that has ended is known for another {kept})");
        differences.into_iter().map(known).collect()
    }

    fn differences_from(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if other.layout != self.layout {
            differences.push(another_layout());
        }
        if other.partitions != self.partitions {
            differences.push(format!(
                "another sidecar on the same redis.key_prefix has redis.partitions = {}, this one {}: what one counts \
                 the other misses; give all the same, or another redis.key_prefix",
                other.partitions, self.partitions
            ));
        }
        if let (Some(own), Some(site)) = (&self.site, &other.site)
            && are_different(own, site)
        {
            differences.push(
                "a sidecar of another site, with another database, uses the same redis.key_prefix: visitors of each site are \
                 counted and listed on the other; give each site a redis.key_prefix of its own"
                    .to_owned(),
            );
        }
        if !other.scopes {
            differences.push(
                "a sidecar of an earlier release uses the same redis.key_prefix: whoever passes it is counted in \
                 communities, and neither on the whole site nor in what is finer than a community; run one release \
                 everywhere"
                    .to_owned(),
            );
        }
        if other.window != self.window {
            differences.push(format!(
                "another sidecar on the same redis.key_prefix has record.window = \"{}\", this one \"{}\": {}",
                shown(other.window),
                shown(self.window),
                if self.records {
                    "the longest holds for all until all have the same"
                } else {
                    "this one records no presence, so the longest of the others holds"
                }
            ));
        }
        differences
    }
}

/// The longest window among these settings, in milliseconds; 0 if there are none.
pub fn longest_window(in_use: &[String]) -> i64 {
    let all = in_use.iter().filter_map(|text| Settings::parse(text));
    all.map(|settings| settings.window).max().unwrap_or_default()
}

fn another_layout() -> String {
    "a sidecar of a release that keeps presence in another form uses the same redis.key_prefix: what one counts the \
     other misses; run one release everywhere, or give it another redis.key_prefix"
        .to_owned()
}

fn shown(millis: i64) -> impl fmt::Display {
    humantime_serde::re::humantime::format_duration(Duration::from_millis(millis.unsigned_abs()))
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layout,
            partitions,
            window,
            ..
        } = self;
        write!(
            f,
            "layout={layout} partitions={partitions} window={window} scopes=1"
        )?;
        match &self.site {
            Some(site) => write!(f, " site={site}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SiteIdentity;

    fn settings(partitions: u16, seconds: u64) -> Settings {
        Settings::new(partitions, &Window::new(Duration::from_secs(seconds)))
    }

    #[test]
    fn p17_what_one_wrote_down_another_reads() {
        let text = settings(16, 300).to_string();
        assert_eq!(text, "layout=1 partitions=16 window=300000 scopes=1");
        assert_eq!(Settings::parse(&text), Some(settings(16, 300)));
        let more = format!("{text} added=later");
        assert_eq!(Settings::parse(&more), Some(settings(16, 300)));
        for text in [
            "",
            "16",
            "layout=1 partitions=16",
            "layout=1 partitions=x window=1",
        ] {
            assert_eq!(Settings::parse(text), None, "{text}");
        }
    }

    #[test]
    fn p17_the_longest_window_holds() {
        let in_use = [settings(16, 60), settings(8, 600), settings(16, 300)].map(|one| one.to_string());
        assert_eq!(longest_window(&in_use), 600_000);
        assert_eq!(longest_window(&["of a later form".into()]), 0);
    }

    #[test]
    fn p17_each_difference_is_told_once_and_what_is_the_same_is_not() {
        let mine = settings(16, 300);
        assert_eq!(mine.differences(&[mine.to_string()]), [""; 0]);
        let others = [settings(8, 600), settings(16, 600)].map(|one| one.to_string());
        let told = mine.differences(&others);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[1].contains("redis.partitions = 8, this one 16"),
            "{}",
            told[1]
        );
        assert!(
            told[0].contains("record.window = \"10m\", this one \"5m\""),
            "{}",
            told[0]
        );
        let of_before = mine.differences(&["layout=1 partitions=16 window=300000".to_owned()]);
        assert!(
            of_before.len() == 1 && of_before[0].contains("earlier release"),
            "{of_before:?}"
        );
        let layouts = [
            "layout=2 partitions=16 window=300000 scopes=1".to_owned(),
            "a form of later".to_owned(),
        ];
        let told = mine.differences(&layouts);
        assert_eq!(told.len(), 1, "{told:?}");
        // It may have ended.
        let known = " (a sidecar that has ended is known for another 1m)";
        assert_eq!(told[0], another_layout() + known);
    }

    #[test]
    fn p35_another_site_on_the_same_keys_is_told_and_whoever_knows_no_site_is_not() {
        let of = |way: &str, what: &str| {
            let site = SiteIdentity::default();
            site.learn(way, what);
            settings(16, 300).of_site(site.get())
        };
        let mine = of("server", "7412 16384 site");
        assert_eq!(Settings::parse(&mine.to_string()), Some(mine.clone()));
        let told = mine.differences(&[of("server", "7412 16385 other").to_string()]);
        assert!(
            told.len() == 1
                && told[0].contains("another site")
                && told[0].contains("redis.key_prefix of its own"),
            "{told:?}"
        );
        // One of an earlier release, one that has not asked yet, and one whose role may tell less.
        for other in [settings(16, 300), mine.clone(), of("database", "16385 other")] {
            assert_eq!(mine.differences(&[other.to_string()]), [""; 0]);
            assert_eq!(other.differences(&[mine.to_string()]), [""; 0]);
        }
    }

    #[test]
    fn the_scripts_keep_settings_for_as_long() {
        let script = include_str!("scripts/common.lua");
        let kept = format!("local SETTINGS_KEPT = {}\n", millis(KEPT));
        assert!(script.contains(&kept), "{kept}");
    }
}
