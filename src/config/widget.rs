//! `[widget]`: live counts in the pages of an unchanged app. The script itself is served with `api.live`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rules::{Checked, Section, ensure};

/// Whether, where and how pages of communities show their count.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Widget {
    /// Put the script into the HTML of each page of a community. Routes may say `widget = false`.
    pub inject: bool,
    /// Where the count is shown: [`Widget::CORNER`], or a CSS selector of the element that it is appended to.
    pub place: String,
    /// Further attributes of the element, by name.
    pub attributes: BTreeMap<String, String>,
}

impl Widget {
    /// The default place, which every page has.
    pub const CORNER: &str = "corner";

    /// Attributes that may be configured. Others, such as the community, are set for each page.
    pub const ATTRIBUTES: [&str; 11] = [
        "avatars",
        "compact",
        "label-few",
        "label-many",
        "label-one",
        "label-other",
        "label-two",
        "label-zero",
        "lang",
        "theme",
        "title",
    ];
}

impl Default for Widget {
    fn default() -> Self {
        Self {
            inject: false,
            place: Self::CORNER.into(),
            attributes: BTreeMap::new(),
        }
    }
}

impl Section for Widget {
    fn check(&self) -> Checked {
        ensure(
            !self.place.trim().is_empty() && !self.place.contains(char::is_control),
            "widget.place",
            "must be \"corner\" or a CSS selector, for example \"header .members\"",
        )?;
        for (name, value) in &self.attributes {
            let key = format!("widget.attributes.{name}");
            ensure(
                Self::ATTRIBUTES.contains(&name.as_str()),
                &key,
                format!("is not known; possible are {}", Self::ATTRIBUTES.join(", ")),
            )?;
            ensure(
                value.len() <= 200 && !value.contains(char::is_control),
                &key,
                "must be a text of at most 200 bytes on one line",
            )?;
        }
        Ok(())
    }
}
