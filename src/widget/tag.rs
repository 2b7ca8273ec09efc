//! The script tag that is put into pages. Pure.
//!
//! It is ASCII only, so it reads the same in every encoding in which HTML is rewritten.

use std::fmt::Write as _;
use std::sync::Arc;

use super::page::Page;
use crate::config;
use crate::ids::CommunityId;

/// The community of a page, as its tag names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagCommunity {
    /// What the script asks the API by.
    pub(crate) key: CommunityId,
    /// Its slug, where the API takes both and it is known: an element of the page's own may name it so.
    pub(crate) slug: Option<Arc<str>>,
}

impl From<CommunityId> for TagCommunity {
    fn from(key: CommunityId) -> Self {
        Self { key, slug: None }
    }
}

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
    pub(crate) fn of(&self, page: &Page, community: &TagCommunity, nonce: Option<&str>) -> String {
        let mut tag = format!(
            "<script async src=\"{}\"{} data-community=\"{}\"",
            Escaped(&page.below(&self.path)),
            self.fixed,
            Escaped(community.key.as_str())
        );
        if let Some(slug) = &community.slug {
            let _ = write!(tag, " data-community-slug=\"{}\"", Escaped(slug));
        }
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

    fn of(community: &str) -> TagCommunity {
        CommunityId::from(community).into()
    }

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
            tag.of(&page(""), &of("42"), Some("bm9uY2U=")),
            "<script async src=\"/api/visitors/widget.js\" data-place=\"header &#62; .who\" data-avatars=\"5\" \
             data-community=\"42\" nonce=\"bm9uY2U=\"></script>"
        );
        assert!(!tag.of(&page(""), &of("42"), None).contains("nonce"));
        let below = tag.of(&page("/shop"), &of("42"), None);
        assert!(below.contains(" src=\"/shop/api/visitors/widget.js\""), "{below}");
        let both = TagCommunity {
            slug: Some("rust".into()),
            ..of("42")
        };
        let both = tag.of(&page(""), &both, None);
        assert!(
            both.contains(" data-community=\"42\" data-community-slug=\"rust\""),
            "{both}"
        );
    }

    #[test]
    fn nothing_gets_out_of_an_attribute_or_out_of_ascii() {
        let tag = Tag::new("/api", &config::Widget::default());
        let text = tag.of(&page(""), &of("\"><script>é'&\u{1f980}"), None);
        assert!(text.is_ascii());
        assert!(
            text.ends_with(
                "data-community=\"&#34;&#62;&#60;script&#62;&#233;&#39;&#38;&#129408;\"></script>"
            ),
            "{text}"
        );
    }
}
