//! `record.counted_event_types`: names of event types.

use std::sync::Arc;

use serde::Deserialize;

/// Longest name of an event type, in characters.
const MAX_NAME: usize = 64;
/// Most names.
const MAX_TYPES: usize = 100;

/// What is wrong with the name of an event type, if anything: it stands in statements as it is.
pub fn event_type_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Some("must have 1 to 64 characters");
    }
    let is_unusable = |c: char| c.is_control() || matches!(c, '\'' | '"' | '\\');
    name.chars()
        .any(is_unusable)
        .then_some("must have neither quotes, backslashes nor control characters")
}

/// Event types, each once: at least one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct EventTypes(Vec<String>);

impl TryFrom<Vec<String>> for EventTypes {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        if names.is_empty() || names.len() > MAX_TYPES {
            return Err(format!(
                "must name 1 to {MAX_TYPES} event types, for example [\"page_view\", \"post_view\"]"
            ));
        }
        match names.iter().find_map(|name| Some((name, event_type_fault(name)?))) {
            Some((name, fault)) => Err(format!("the event type {name:?} {fault}")),
            None => Ok(Self(names)),
        }
    }
}

impl EventTypes {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.iter().map(|name| Arc::from(name.as_str()))
    }
}
