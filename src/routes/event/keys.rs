//! Keys of a route about its events (`event_type`, `metadata`, `description`): their checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use toml::Spanned;

use super::{EventForm, MAX_KEY, MAX_METADATA, MAX_TEMPLATE, OWN_KEYS, Template, ValueSource};
use crate::config::event_type_fault;
use crate::routes::Track;
use crate::routes::error::KeyFault;

/// The keys of one route, as written.
pub(in crate::routes) struct EventKeys {
    pub(in crate::routes) track: Track,
    pub(in crate::routes) event_type: Option<Spanned<String>>,
    pub(in crate::routes) metadata: BTreeMap<String, Spanned<String>>,
    pub(in crate::routes) description: Option<Spanned<String>>,
}

/// What values may come from: the pattern's groups, and the query parameters that may be recorded.
struct EventSources<'a> {
    pattern: &'a Regex,
    parameters: &'a [String],
}

impl EventKeys {
    /// Offset of `event_type` in the file, where the route has the key.
    pub(in crate::routes) fn offset(&self) -> Option<usize> {
        self.event_type.as_ref().map(|text| text.span().start)
    }

    /// The form of the route's events. `route_at` is the offset of the route's name, `parameters` is
    /// `privacy.query_allow`.
    pub(in crate::routes) fn check(
        self,
        route_at: usize,
        pattern: &Regex,
        parameters: &[String],
    ) -> Result<EventForm, KeyFault> {
        let at = self.offset().unwrap_or(route_at);
        let is_given = self.event_type.is_some() || !self.metadata.is_empty() || self.description.is_some();
        if self.track == Track::None && is_given {
            return Err(KeyFault::new(
                at,
                "`track = \"none\"` records nothing, but the route has `event_type`, `metadata` or `description`",
                "remove one of the two",
            ));
        }
        if let Some(fault) = self
            .event_type
            .as_ref()
            .and_then(|text| event_type_fault(text.get_ref()))
        {
            let problem = format!("`event_type` {fault}");
            return Err(KeyFault::new(at, problem, "correct it, or leave it out"));
        }
        let sources = EventSources { pattern, parameters };
        Ok(EventForm {
            event_type: self.event_type.map(|text| Arc::from(text.into_inner())),
            metadata: sources.metadata(self.metadata, route_at)?,
            description: match &self.description {
                Some(text) => Some(sources.template(text)?),
                None => None,
            },
        })
    }
}

impl EventSources<'_> {
    fn metadata(
        &self,
        keys: BTreeMap<String, Spanned<String>>,
        route_at: usize,
    ) -> Result<Vec<(Arc<str>, ValueSource)>, KeyFault> {
        if keys.len() > MAX_METADATA {
            return Err(KeyFault::new(
                route_at,
                format!("`metadata` has more than {MAX_METADATA} keys"),
                "remove those that are not used",
            ));
        }
        let mut metadata = Vec::new();
        for (key, text) in keys {
            let at = text.span().start;
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(is_word) {
                return Err(KeyFault::new(
                    at,
                    format!("`metadata` has a key that is not usable: {key:?}"),
                    "use 1 to 64 of a-z, A-Z, 0-9 and `_`",
                ));
            }
            if OWN_KEYS.contains(&&*key) {
                return Err(KeyFault::new(
                    at,
                    format!("`metadata.{key}` is written by the sidecar itself"),
                    "give the key another name",
                ));
            }
            let from = self.value_source(&format!("metadata.{key}"), text.get_ref(), at)?;
            metadata.push((Arc::from(key), from));
        }
        Ok(metadata)
    }

    fn template(&self, text: &Spanned<String>) -> Result<Template, KeyFault> {
        let at = text.span().start;
        let template = text.get_ref();
        if template.chars().count() > MAX_TEMPLATE || template.chars().any(char::is_control) {
            return Err(KeyFault::new(
                at,
                "`description` is too long or has control characters",
                "use at most 255 printable characters",
            ));
        }
        let template = Template::parse(template).map_err(|fault| {
            KeyFault::new(
                at,
                format!("`description`: {fault}"),
                "write {path}, {group} or {?parameter}, and `{{` or `}}` for a brace itself",
            )
        })?;
        for source in template.sources() {
            let name = match source {
                ValueSource::Capture(name) => name.to_string(),
                ValueSource::Parameter(name) => format!("?{name}"),
            };
            self.value_source("description", &name, at)?;
        }
        Ok(template)
    }

    /// Where a value comes from: a group that the pattern has, or a parameter that may be recorded.
    fn value_source(&self, key: &str, text: &str, at: usize) -> Result<ValueSource, KeyFault> {
        let from = ValueSource::parse(text);
        match &from {
            ValueSource::Capture(name) => {
                let groups: Vec<&str> = self.pattern.capture_names().flatten().collect();
                if !groups.contains(&&**name) {
                    let there = if groups.is_empty() {
                        "none".to_owned()
                    } else {
                        groups.join(", ")
                    };
                    return Err(KeyFault::new(
                        at,
                        format!(
                            "`{key}` names the group {name:?}, which the pattern does not have (it has: {there})"
                        ),
                        format!(
                            "add (?P<{name}>…) to the pattern, or write \"?{name}\" if it is a query parameter"
                        ),
                    ));
                }
            }
            ValueSource::Parameter(name) => {
                if !self.parameters.contains(&name.to_string()) {
                    return Err(KeyFault::new(
                        at,
                        format!(
                            "`{key}` names the query parameter {name:?}, which privacy.query_allow strips"
                        ),
                        "add it to privacy.query_allow if it may be stored, or remove the key",
                    ));
                }
            }
        }
        Ok(from)
    }
}
