//! The key `presence` of a route: things finer than a community, such as posts, in which visitors are counted too.
//!
//! ```toml
//! presence = ["community", "post"]
//! presence = ["community", { capture = "story", path = "stories" }]
//! ```
//!
//! Each entry names a capture of the pattern, the first the community's. `path` is the segment before the thing's key in the
//! API's paths; without it, the capture's name in the plural: `…/communities/42/posts/7/visitors`.

use std::fmt;
use std::sync::Arc;

use regex::{Captures, Regex};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::error::KeyFault;
use crate::ids::Finer;

/// Most finer things that one route names.
pub const MOST_FINER: usize = 3;
/// Most kinds of finer things in all files together.
pub(super) const MOST_KINDS: usize = 32;
/// Longest path segment of a kind, in characters.
const MAX_SEGMENT: usize = 64;

/// The key, as written.
pub(super) struct RawScopes(pub(super) Vec<Spanned<RawScope>>);

/// By hand, for a message that says what is to be written.
impl<'de> Deserialize<'de> for RawScopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfScopes;

        impl<'de> Visitor<'de> for OfScopes {
            type Value = RawScopes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of captures of the pattern, the community's first: [\"community\", \"post\"]",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<RawScopes, A::Error> {
                let mut scopes = Vec::new();
                while let Some(scope) = entries.next_element()? {
                    scopes.push(scope);
                }
                Ok(RawScopes(scopes))
            }
        }

        deserializer.deserialize_seq(OfScopes)
    }
}

/// One entry of `presence`, as written.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an entry of `presence` is the name of a capture, or { capture = \"…\", path = \"…\" }"
)]
pub(super) enum RawScope {
    /// The name of a capture.
    Capture(String),
    /// The same, and the API's path segment.
    Named(RawNamed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamed {
    capture: String,
    path: String,
}

/// A kind of things finer than a community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinerKind {
    /// The name of the capture.
    pub kind: Arc<str>,
    /// What stands before its keys in paths of the API.
    pub segment: Arc<str>,
}

/// A capture that holds a finer thing's key.
#[derive(Debug, Clone)]
pub(super) struct FinerGroup {
    pub(super) kind: FinerKind,
    index: usize,
}

/// Checks the key against the route's pattern; `community` is the name of its community's group.
pub(super) fn check(
    scopes: &[Spanned<RawScope>],
    regex: &Regex,
    community: Option<&str>,
) -> Result<Vec<FinerGroup>, KeyFault> {
    let Some(community) = community else {
        let at = scopes.first().map_or(0, |scope| scope.span().start);
        return Err(KeyFault::new(
            at,
            "`presence` needs a community, and the pattern has no group of one",
            "add (?P<community>…), or remove `presence`",
        ));
    };
    let mut finer: Vec<FinerGroup> = Vec::new();
    for (place, scope) in scopes.iter().enumerate() {
        let at = scope.span().start;
        let refuse = |problem: String, remedy: String| Err(KeyFault::new(at, problem, remedy));
        let (capture, segment) = match scope.get_ref() {
            RawScope::Capture(capture) => (capture, format!("{capture}s")),
            RawScope::Named(named) => (&named.capture, named.path.clone()),
        };
        if place == 0 {
            if capture != community {
                return refuse(
                    format!(
                        "the first of `presence` is \"{capture}\", not the community, which the pattern names by the group \
                         \"{community}\""
                    ),
                    format!("begin with \"{community}\""),
                );
            }
            continue;
        }
        let index = index_of(capture, regex, at)?;
        if capture == community || finer.iter().any(|other| *other.kind.kind == **capture) {
            return refuse(
                format!("`presence` names \"{capture}\" twice"),
                "name each capture once".into(),
            );
        }
        if finer.len() == MOST_FINER {
            return refuse(
                format!("`presence` has more than {MOST_FINER} captures besides the community"),
                "keep those whose visitors are asked for".into(),
            );
        }
        check_segment(&segment, capture, at)?;
        finer.push(FinerGroup {
            kind: FinerKind {
                kind: capture.as_str().into(),
                segment: segment.into(),
            },
            index,
        });
    }
    Ok(finer)
}

/// The group of the pattern that a capture is.
fn index_of(capture: &str, regex: &Regex, at: usize) -> Result<usize, KeyFault> {
    let index = regex.capture_names().position(|name| name == Some(capture));
    index.ok_or_else(|| {
        let names: Vec<_> = regex.capture_names().flatten().collect();
        KeyFault::new(
            at,
            format!("`presence` names \"{capture}\", which is no capture of the pattern"),
            format!(
                "use one of its captures ({}), or add (?P<{capture}>…) to the pattern",
                names.join(", ")
            ),
        )
    })
}

/// Whether the API's paths can have this segment.
fn check_segment(segment: &str, capture: &str, at: usize) -> Result<(), KeyFault> {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=MAX_SEGMENT).contains(&segment.len()) && segment != "visitors" && segment.bytes().all(is_allowed)
    {
        return Ok(());
    }
    Err(KeyFault::new(
        at,
        format!("\"{segment}\" cannot stand in the API's paths for \"{capture}\""),
        format!(
            "write {{ capture = \"{capture}\", path = \"…\" }} with 1 to {MAX_SEGMENT} of a-z, 0-9, `-` and `_`, other than \
             \"visitors\""
        ),
    ))
}

/// Adds a route's kinds to those of the routes before it. In all files together a kind has one segment, and a segment one
/// kind. `at` is the offset of the key, for messages.
pub(super) fn join(kinds: &mut Vec<FinerKind>, of_route: &[FinerGroup], at: usize) -> Result<(), KeyFault> {
    for FinerGroup { kind, .. } in of_route {
        let other = kinds
            .iter()
            .find(|other| other.kind == kind.kind || other.segment == kind.segment);
        match other {
            Some(other) if other == kind => {}
            Some(other) => {
                return Err(KeyFault::new(
                    at,
                    format!(
                        "`presence` has \"{}\" at \"{}\" in the API's paths, another route \"{}\" at \"{}\"",
                        kind.kind, kind.segment, other.kind, other.segment
                    ),
                    "give each capture one `path` of its own in all routes",
                ));
            }
            None if kinds.len() == MOST_KINDS => {
                return Err(KeyFault::new(
                    at,
                    format!("the routes name more than {MOST_KINDS} captures in `presence`"),
                    "keep those whose visitors are asked for",
                ));
            }
            None => kinds.push(kind.clone()),
        }
    }
    Ok(())
}

/// The finer things that a path names. One whose capture is empty, too long or did not take part is left out.
pub(super) fn finer(groups: &[FinerGroup], captures: &Captures<'_>) -> Arc<[Finer]> {
    let named = groups.iter().filter_map(|group| {
        let key = captures.get(group.index)?;
        Finer::new(&group.kind.kind, key.as_str())
    });
    named.collect()
}

#[cfg(test)]
mod tests;
