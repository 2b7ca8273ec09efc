//! The script as it is served: its sources concatenated, with the API's prefix and limits filled in.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::routes::FinerKind;

/// Wrapped in a function: a page may have the script several times.
const SOURCE: &str = concat!(
    "(() => {\n\"use strict\";\n\n",
    include_str!("script/connection.js"),
    "\n",
    include_str!("script/style.js"),
    "\n",
    include_str!("script/element.js"),
    "\n",
    include_str!("script/views.js"),
    "\n",
    include_str!("script/place.js"),
    "})();\n"
);
/// Placeholder in the source for the API's prefix.
const PREFIX: &str = "\"/api\"";
/// The same for `api.max_limit`.
const MAX_LIMIT: &str = "MAX_LIMIT = 200;";
/// The same for whether the app's keys are text.
const KEYS_ARE_TEXT: &str = "KEYS_ARE_TEXT = false;";

/// The same for what is finer than communities.
const SCOPES: &str = "SCOPES = {};";

/// The script of one sidecar.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    text: Bytes,
    /// The compressed text, if that succeeded.
    packed: Option<Bytes>,
    version: String,
}

impl Script {
    /// The script for an API whose paths begin with `prefix`, which lists at most `max_limit` visitors, and whose
    /// communities have text keys or not, with these kinds of things that are finer than communities.
    pub(crate) fn new(prefix: &str, max_limit: u32, keys_are_text: bool, kinds: &[FinerKind]) -> Self {
        // As a JavaScript string. Text always serialises.
        let prefix = serde_json::to_string(prefix).unwrap_or_default();
        let scopes: BTreeMap<&str, &str> = kinds.iter().map(|kind| (&*kind.kind, &*kind.segment)).collect();
        let scopes = serde_json::to_string(&scopes).unwrap_or_default();
        let text = SOURCE
            .replacen(MAX_LIMIT, &format!("MAX_LIMIT = {max_limit};"), 1)
            .replacen(KEYS_ARE_TEXT, &format!("KEYS_ARE_TEXT = {keys_are_text};"), 1)
            .replacen(SCOPES, &format!("SCOPES = {scopes};"), 1)
            .replacen(PREFIX, &prefix, 1);
        Self {
            version: format!("{:08x}", crc32fast::hash(text.as_bytes())),
            packed: packed(text.as_bytes()),
            text: text.into(),
        }
    }

    /// The script's text.
    pub(crate) fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// The text compressed with gzip.
    pub(crate) fn packed(&self) -> Option<Bytes> {
        self.packed.clone()
    }

    /// The opaque part of an entity tag, which changes with the text.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

fn packed(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_knows_the_configuration_and_its_version_changes_with_it() {
        for configured in [PREFIX, MAX_LIMIT, KEYS_ARE_TEXT, SCOPES] {
            assert_eq!(SOURCE.matches(configured).count(), 1, "{configured}");
        }
        let post = FinerKind {
            kind: "post".into(),
            segment: "posts".into(),
        };
        let usual = Script::new("/api", 200, false, &[]);
        let other = Script::new("/\"here\"", 3, true, &[post]);
        assert_eq!(usual.text(), SOURCE);
        let text = String::from_utf8(other.text().to_vec()).unwrap();
        assert!(text.contains(r#"const API = "/\"here\"";"#), "{text}");
        assert!(text.contains("const MAX_LIMIT = 3;"), "{text}");
        assert!(text.contains("const KEYS_ARE_TEXT = true;"), "{text}");
        assert!(text.contains(r#"const SCOPES = {"post":"posts"};"#), "{text}");
        assert_ne!(usual.version(), other.version());
    }
}
