//! Form of the events of a route: their type, further metadata, and the description. Pure. `keys` reads it from a route file.

mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use keys::EventKeys;

/// Most entries of a route's `metadata`.
pub const MAX_METADATA: usize = 16;
/// Longest name of such an entry, in characters.
pub(super) const MAX_KEY: usize = 64;
/// Longest value of such an entry, in characters; longer ones are cut.
pub const MAX_VALUE: usize = 255;
/// Longest template of a description, in characters.
pub(super) const MAX_TEMPLATE: usize = 255;

/// The keys of `metadata` that every event of the sidecar has.
pub const OWN_KEYS: [&str; 9] = [
    "url",
    "community_id",
    "page_type",
    "referrer",
    "search_query",
    "route",
    "status",
    "duration_ms",
    "source",
];

/// The form of a route's events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventForm {
    /// `event_type`; [`PAGE_VIEW`](super::PAGE_VIEW) where it has none.
    pub event_type: Option<Arc<str>>,
    /// Further keys of `metadata`, and where their values come from.
    pub metadata: Vec<(Arc<str>, ValueSource)>,
    /// Template of `description`.
    pub description: Option<Template>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// A named group of the route's pattern.
    Capture(Arc<str>),
    /// A query parameter; its last value.
    Parameter(Arc<str>),
}

impl ValueSource {
    /// From its text in a route file: `post`, `?tab`.
    pub(super) fn parse(text: &str) -> Self {
        match text.strip_prefix('?') {
            Some(parameter) => Self::Parameter(parameter.into()),
            None => Self::Capture(text.into()),
        }
    }
}

/// A text with placeholders: `Post {post} in {path}`. Double braces stand for single ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The recorded URL.
    Path,
    Value(ValueSource),
}

impl Template {
    /// Parses the text; the error is the fault.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            literal.push_str(before);
            if from.starts_with("{{") || from.starts_with("}}") {
                literal.push_str(&from[..1]);
                rest = &from[2..];
                continue;
            }
            let inner = from.strip_prefix('{').ok_or("a `}` closes nothing")?;
            let (name, after) = inner.split_once('}').ok_or("a `{` is not closed")?;
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
            pieces.push(match name {
                "path" => Piece::Path,
                name => Piece::Value(ValueSource::parse(name)),
            });
            rest = after;
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        Ok(Self(pieces))
    }

    /// Where its values come from.
    pub(super) fn sources(&self) -> impl Iterator<Item = &ValueSource> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(source) => Some(source),
            Piece::Text(_) | Piece::Path => None,
        })
    }

    fn fill(&self, path: &str, value: impl Fn(&ValueSource) -> Option<String>) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Path => path.to_owned(),
            Piece::Value(source) => value(source).unwrap_or_default(),
        });
        pieces.collect()
    }
}

impl EventForm {
    /// Where its values come from.
    pub(super) fn sources(&self) -> impl Iterator<Item = &ValueSource> {
        let of_metadata = self.metadata.iter().map(|(_, source)| source);
        of_metadata.chain(self.description.iter().flat_map(Template::sources))
    }

    /// The values of one page view: the further metadata, without those that the request does not have, and the
    /// description. `path` is the recorded URL; `value` gives a value as it may be stored.
    pub fn fill(
        &self,
        path: &str,
        value: impl Fn(&ValueSource) -> Option<String>,
    ) -> (BTreeMap<Arc<str>, String>, Option<String>) {
        let metadata = self.metadata.iter();
        let metadata = metadata.filter_map(|(key, source)| Some((Arc::clone(key), value(source)?)));
        let description = self.description.as_ref();
        (
            metadata.collect(),
            description.map(|template| template.fill(path, &value)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{RouteFile, RouteNames, RouteTable};

    fn compiled(keys: &str) -> Result<RouteTable, String> {
        let text = format!(
            "[[route]]\nname = \"post\"\npattern = '^/c/(?P<community>\\d+)/posts/(?P<post>\\d+)(/(?P<part>\\w+))?'\n{keys}\n"
        );
        let path = "posts.toml".into();
        let names = RouteNames {
            parameters: ["tab".to_owned()].into(),
            ..RouteNames::default()
        };
        RouteTable::compile_with(&[RouteFile { path, text }], &names).map_err(|error| error.to_string())
    }

    #[test]
    fn v31_a_route_names_only_what_a_request_has() {
        let eighteen = (0..17).map(|n| format!("k{n} = \"post\", ")).collect::<Vec<_>>();
        let eighteen = eighteen.concat();
        for (keys, fault) in [
            (
                "metadata = { post_id = \"topic\" }",
                "posts.toml:4: route `post`: `metadata.post_id` names the group \"topic\", which the pattern does not have \
                 (it has: community, post, part); add (?P<topic>…) to the pattern, or write \"?topic\" if it is a query \
                 parameter",
            ),
            (
                "metadata = { tab = \"?token\" }",
                "posts.toml:4: route `post`: `metadata.tab` names the query parameter \"token\", which privacy.query_allow \
                 strips; add it to privacy.query_allow if it may be stored, or remove the key",
            ),
            (
                "description = \"Post {topic}\"",
                "posts.toml:4: route `post`: `description` names the group \"topic\"",
            ),
            (
                "description = \"Post {?token}\"",
                "posts.toml:4: route `post`: `description` names the query parameter \"token\"",
            ),
            ("description = \"Post {\"", "a `{` is not closed"),
            (
                "metadata = { community_id = \"post\" }",
                "`metadata.community_id` is written by the sidecar itself; give the key another name",
            ),
            (
                "metadata = { \"a b\" = \"post\" }",
                "a key that is not usable: \"a b\"",
            ),
            (
                &format!("metadata = {{ {eighteen} last = \"post\" }}"),
                "`metadata` has more than 16 keys",
            ),
            ("event_type = \"\"", "`event_type` must have 1 to 64 characters"),
            ("event_type = \"it's\"", "`event_type` must have neither quotes"),
            (
                "event_type = \"post_view\"\ntrack = \"none\"",
                "`track = \"none\"` records nothing, but the route has",
            ),
            ("events = \"post_view\"", "unknown field"),
        ] {
            let refused = compiled(keys).unwrap_err();
            assert!(refused.contains(fault), "{keys}: {refused}");
        }
    }

    #[test]
    fn v30_a_match_has_the_texts_that_its_events_need() {
        let table =
            compiled("event_type = \"post_view\"\nmetadata = { post_id = \"post\", part = \"part\" }")
                .unwrap();
        let found = table.find("/c/1/posts/7").unwrap();
        assert_eq!((found.capture("post"), found.capture("part")), (Some("7"), None));
        let long = format!("/c/1/posts/{}/a", "9".repeat(400));
        assert_eq!(
            table.find(&long).unwrap().capture("post").unwrap().len(),
            MAX_VALUE
        );
        let written: Vec<_> = table.event_types().collect();
        assert_eq!(
            (&**written[0].event_type, written[0].source),
            ("post_view", "posts.toml:4")
        );
    }

    #[test]
    fn a_template_has_places_and_braces() {
        let filled = |text: &str| {
            let template = Template::parse(text).unwrap();
            template.fill("/c/1/?q=x", |source| match source {
                ValueSource::Capture(name) => Some(format!("<{name}>")),
                ValueSource::Parameter(name) if &**name == "tab" => Some("about".into()),
                ValueSource::Parameter(_) => None,
            })
        };
        for (text, expected) in [
            ("Page view: {path}", "Page view: /c/1/?q=x"),
            ("Post {post}", "Post <post>"),
            ("{?tab}|{?other}|", "about||"),
            ("{{{post}}}", "{<post>}"),
            ("}}{{", "}{"),
            ("", ""),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
        assert!(Template::parse("a { b").is_err());
        assert!(Template::parse("a } b").is_err());
    }
}
