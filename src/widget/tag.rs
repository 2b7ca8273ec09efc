//! The script tag that is put into pages. Pure.
//!
//! It is ASCII only, so it reads the same in every encoding in which HTML is rewritten.

use std::fmt::Write as _;

use super::page::Page;
use crate::config;
use crate::ids::CommunityId;

/// The parts of the tag that are the same in all pages.
#[derive(Debug, Clone)]
pub(crate) struct Tag {
    /// Path of the script.
    path: String,
    /// ` data-place="…"` and the configured attributes.
    fixed: String,
}

impl Tag {
    /// The tag of the script at `path`, on the page's own origin.
    pub(crate) fn new(path: &str, settings: &config::Widget) -> Self {
        let mut fixed = format!(" data-place=\"{}\"", Escaped(&settings.place));
        for (name, value) in &settings.attributes {
            let _ = write!(fixed, " data-{name}=\"{}\"", Escaped(value));
        }
        Self {
            path: path.to_owned(),
            fixed,
        }
    }

    /// The parts that are the same for all pages; they change with the configuration.
    pub(crate) fn fixed(&self) -> String {
        format!("{}{}", self.path, self.fixed)
    }

    /// The tag for a page of this community. The script loads asynchronously.
    pub(crate) fn of(&self, page: &Page, community: &CommunityId, nonce: Option<&str>) -> String {
        let mut tag = format!(
            "<script async src=\"{}\"{} data-community=\"{}\"",
            Escaped(&page.below(&self.path)),
            self.fixed,
            Escaped(community.as_str())
        );
        if let Some(nonce) = nonce {
            let _ = write!(tag, " nonce=\"{}\"", Escaped(nonce));
        }
        tag.push_str("></script>");
        tag
    }
}

/// Text escaped as an attribute's value.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '"' | '&' | '<' | '>' | '\'' => write!(f, "&#{};", u32::from(character))?,
                ' '..='~' => f.write_char(character)?,
                _ => write!(f, "&#{};", u32::from(character))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(prefix: &str) -> Page {
        Page {
            tls: false,
            authority: None,
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn the_tag_has_path_place_attributes_community_and_nonce() {
        let settings = config::Widget {
            place: "header > .who".into(),
            attributes: [("avatars".into(), "5".into())].into(),
            ..config::Widget::default()
        };
        let tag = Tag::new("/api/visitors/widget.js", &settings);
        assert_eq!(
            tag.of(&page(""), &"42".into(), Some("bm9uY2U=")),
            "<script async src=\"/api/visitors/widget.js\" data-place=\"header &#62; .who\" data-avatars=\"5\" \
             data-community=\"42\" nonce=\"bm9uY2U=\"></script>"
        );
        assert!(!tag.of(&page(""), &"42".into(), None).contains("nonce"));
        let below = tag.of(&page("/shop"), &"42".into(), None);
        assert!(below.contains(" src=\"/shop/api/visitors/widget.js\""), "{below}");
    }

    #[test]
    fn nothing_gets_out_of_an_attribute_or_out_of_ascii() {
        let tag = Tag::new("/api", &config::Widget::default());
        let text = tag.of(&page(""), &"\"><script>é'&\u{1f980}".into(), None);
        assert!(text.is_ascii());
        assert!(
            text.ends_with(
                "data-community=\"&#34;&#62;&#60;script&#62;&#233;&#39;&#38;&#129408;\"></script>"
            ),
            "{text}"
        );
    }
}
