//! Entity tags of pages with the widget. Pure.
//! They are made from the app's, and converted back when the browser asks whether its copy is still current.
//!
//! A page with the widget differs from the app's, and changes with the widget's configuration. So its tag is the
//! app's with a mark appended, and always weak: what is put in may differ from answer to answer, as a nonce does,
//! and parts of two answers must not be combined.
//!
//! | the app's | the browser gets |
//! |---|---|
//! | `"abc"` | `W/"abc-hcs0a1b2c3d"` |
//! | `W/"abc"` | `W/"abc-hcw0a1b2c3d"` |
//! | none, but `Last-Modified` | `W/"1763884800-hcl0a1b2c3d"`: the time |
//!
//! Tags without the mark, or with that of another configuration, belong to pages without the widget or with
//! another one. They are not passed on, nor is a bare `If-Modified-Since`: the app then sends the page.

use chrono::DateTime;

/// A browser's conditions, converted for the app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    /// `If-None-Match`
    pub(crate) none_match: Option<String>,
    /// `If-Modified-Since`
    pub(crate) modified_since: Option<String>,
}

/// Eight hexadecimal digits: a hash of everything about the widget that changes a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WidgetHash(String);

impl WidgetHash {
    /// The mark of a configuration, given as text.
    pub(crate) fn of(configuration: &str) -> Self {
        Self(format!("{:08x}", crc32fast::hash(configuration.as_bytes())))
    }

    /// The tag of a page with the widget. `None` if the app's answer has neither tag nor date.
    pub(crate) fn tag(&self, etag: Option<&str>, last_modified: Option<&str>) -> Option<String> {
        let mark = &self.0;
        if let Some(etag) = etag {
            let (tag, rest) = EntityTag::read(etag)?;
            let strength = if tag.weak { 'w' } else { 's' };
            return rest
                .trim()
                .is_empty()
                .then(|| format!("W/\"{}-hc{strength}{mark}\"", tag.opaque));
        }
        let time = DateTime::parse_from_rfc2822(last_modified?).ok()?;
        Some(format!("W/\"{}-hcl{mark}\"", time.timestamp()))
    }

    /// The conditions of a browser's `If-None-Match`, for the app.
    pub(crate) fn conditions<'a>(&self, none_match: impl Iterator<Item = &'a str>) -> Conditions {
        let mut tags = Vec::new();
        let mut conditions = Conditions::default();
        for mut list in none_match {
            while let Some((tag, rest)) = EntityTag::read(list.trim_start_matches([' ', '\t', ','])) {
                list = rest;
                match self.original(&tag) {
                    Some(Original::Tag(tag)) => tags.push(tag),
                    Some(Original::Time(time)) => conditions.modified_since = Some(time),
                    None => {}
                }
            }
        }
        conditions.none_match = (!tags.is_empty()).then(|| tags.join(", "));
        conditions
    }

    fn original(&self, tag: &EntityTag<'_>) -> Option<Original> {
        let marked = tag.opaque.strip_suffix(&self.0)?;
        if let Some(strong) = marked.strip_suffix("-hcs") {
            return Some(Original::Tag(format!("\"{strong}\"")));
        }
        if let Some(weak) = marked.strip_suffix("-hcw") {
            return Some(Original::Tag(format!("W/\"{weak}\"")));
        }
        let time = DateTime::from_timestamp(marked.strip_suffix("-hcl")?.parse().ok()?, 0)?;
        Some(Original::Time(
            time.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        ))
    }
}

enum Original {
    Tag(String),
    Time(String),
}

/// One tag of a list.
struct EntityTag<'a> {
    weak: bool,
    opaque: &'a str,
}

impl<'a> EntityTag<'a> {
    /// Parses the tag at the start of a text; returns it and the rest.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let strong = text.strip_prefix("W/");
        let (opaque, rest) = strong.unwrap_or(text).strip_prefix('"')?.split_once('"')?;
        Some((
            Self {
                weak: strong.is_some(),
                opaque,
            },
            rest,
        ))
    }
}

/// Whether one of the tags of an `If-None-Match` is this one, or it is `*`. Weak and strong compare equal.
pub(crate) fn any_is(none_match: &str, opaque: &str) -> bool {
    let mut list = none_match.trim();
    if list == "*" {
        return true;
    }
    while let Some((tag, rest)) = EntityTag::read(list.trim_start_matches([' ', '\t', ','])) {
        if tag.opaque == opaque {
            return true;
        }
        list = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark() -> WidgetHash {
        WidgetHash::of("one")
    }

    fn back(mark: &WidgetHash, sent: &str) -> Conditions {
        mark.conditions([sent].into_iter())
    }

    fn none_match(tag: &str) -> Conditions {
        Conditions {
            none_match: Some(tag.into()),
            modified_since: None,
        }
    }

    #[test]
    fn a_marked_tag_is_weak_and_another_one() {
        let (strong, weak) = (
            mark().tag(Some("\"v1\""), None),
            mark().tag(Some("W/\"v1\""), None),
        );
        let strong = strong.unwrap();
        assert!(strong.starts_with("W/\"v1-hcs"), "{strong}");
        assert_ne!(Some(strong), weak);
        assert_eq!(mark().tag(None, None), None);
        for malformed in ["v1", "\"v1", "\"v1\" \"v2\"", "w/\"v1\"", ""] {
            assert_eq!(mark().tag(Some(malformed), None), None, "{malformed}");
        }
    }

    #[test]
    fn a_last_modified_alone_becomes_a_tag_and_back() {
        let time = "Sun, 23 Nov 2025 08:00:00 GMT";
        let tag = mark().tag(None, Some(time)).unwrap();
        assert!(tag.starts_with("W/\"1763884800-hcl"), "{tag}");
        let expected = Conditions {
            none_match: None,
            modified_since: Some(time.into()),
        };
        assert_eq!(back(&mark(), &tag), expected);
        assert_eq!(mark().tag(None, Some("yesterday")), None);
    }

    #[test]
    fn tags_of_other_pages_are_not_passed_on() {
        let other = WidgetHash::of("two").tag(Some("\"v1\""), None).unwrap();
        for sent in ["\"v1\"", "W/\"v1\"", "*", "v1", "", &other] {
            assert_eq!(back(&mark(), sent), Conditions::default(), "{sent}");
        }
    }

    #[test]
    fn of_several_tags_those_with_the_mark_are_passed_on() {
        let marked = |tag| mark().tag(Some(tag), None).unwrap();
        let sent = format!("\"a,b\" , {},,{} \"c\"", marked("\"x, y\""), marked("W/\"z\""));
        assert_eq!(back(&mark(), &sent), none_match("\"x, y\", W/\"z\""));
    }

    #[test]
    fn a_list_of_tags_is_searched_without_regard_to_strength() {
        assert!(any_is("\"a\"", "a") && any_is("W/\"b\", W/\"a\"", "a") && any_is(" * ", "a"));
        assert!(!any_is("\"ab\"", "a") && !any_is("a", "a") && !any_is("", "a"));
    }

    proptest! {
        #[test]
        fn every_tag_comes_back_as_it_was(weak: bool, opaque in "[!#-~\u{80}-\u{ff}]{0,40}") {
            let tag = format!("{}\"{opaque}\"", if weak { "W/" } else { "" });
            let marked = mark().tag(Some(&tag), None).unwrap();
            prop_assert_eq!(back(&mark(), &marked), none_match(&tag));
        }

        #[test]
        fn any_condition_can_be_read(sent in "(W/|\"|-hc[swl]|[0-9a-f]{8}|[ ,*]|.){0,30}") {
            back(&mark(), &sent);
            any_is(&sent, "a");
        }
    }
}
