//! What is finer than a community: one post of it, one event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Something finer than a community: a kind of things, and which of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Finer {
    kind: Arc<str>,
    key: Arc<str>,
}

impl Finer {
    /// Longest kind and longest key, in characters.
    pub const MAX_CHARS: usize = 128;

    /// Takes the kind, the name of a capture such as `post`, and the key as the path spells it. `None` for either that
    /// presence does not keep: empty, longer than [`Finer::MAX_CHARS`], or with control characters.
    pub fn new(kind: &str, key: &str) -> Option<Self> {
        let is_kept = |text: &str| {
            (1..=Self::MAX_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        (is_kept(kind) && is_kept(key)).then(|| Self {
            kind: kind.into(),
            key: key.into(),
        })
    }

    /// The kind of things.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which of them.
    pub fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p24_what_is_too_long_or_has_control_characters_is_nothing() {
        for text in ["", "a\u{1f}b", "a\nb", &"x".repeat(Finer::MAX_CHARS + 1)] {
            assert_eq!(Finer::new("post", text), None, "{text:?}");
            assert_eq!(Finer::new(text, "7"), None, "{text:?}");
        }
        let post = Finer::new("post", &"x".repeat(Finer::MAX_CHARS)).unwrap();
        assert_eq!((post.kind(), post.key().len()), ("post", Finer::MAX_CHARS));
    }
}
