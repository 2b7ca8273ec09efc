//! Format of route files: all keys of a route, and their checks.
//!
//! [`RawRoute`] has every key; unknown ones are refused. The keys about events are checked in `event::keys`, the key
//! `presence` in `presence`; `error` is what a fault becomes: file, line, route, fault and remedy.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use super::error::{KeyFault, RouteError, line_of, unreadable};
use super::event::EventKeys;
use super::presence::{self, FinerGroup, FinerKind, RawScopes};
use super::{Route, RouteHandles, RouteNames, Track};
use crate::config::{IN_ROUTE_FILE, Misplaced};

/// Upper bound of routes in all files together: each is a metric label, and all are matched at once.
const MAX_ROUTES: usize = 500;
/// Longest route name and page type, in characters.
const MAX_NAME: usize = 64;
/// Largest compiled pattern, in bytes. Generous for paths; stops `(\w{1,1000}){1,1000}`.
const MAX_COMPILED: usize = 1 << 20;

/// One route file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFile {
    /// Path of the file, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    route: Vec<RawRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    name: Spanned<String>,
    pattern: Spanned<String>,
    page_type: Option<Spanned<String>>,
    #[serde(default)]
    track: Track,
    search_param: Option<Spanned<String>>,
    /// Whether the pattern must name a community. Without the key: it must where the route has a `page_type` of its own
    /// and is tracked.
    community: Option<bool>,
    /// Whether its pages may show the widget.
    widget: Option<bool>,
    /// Whether a 200 shows that its visitor may see the community. Without the key: on the community's own page, and where a
    /// lookup found the community.
    grants: Option<bool>,
    /// Type of its events.
    event_type: Option<Spanned<String>>,
    /// Further metadata of its events: a group of the pattern, or a query parameter with `?` before it.
    #[serde(default)]
    metadata: BTreeMap<String, Spanned<String>>,
    /// Template of their description.
    description: Option<Spanned<String>>,
    /// Captures that presence is counted in, the community first.
    presence: Option<Spanned<RawScopes>>,
}

/// The named group of a pattern that holds the community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommunityGroup {
    Id(usize),
    Slug(usize),
    /// A row that belongs to it: the lookup with the group's name finds the community.
    Lookup(usize, Arc<str>),
}

impl CommunityGroup {
    fn index(&self) -> usize {
        match self {
            Self::Id(index) | Self::Slug(index) | Self::Lookup(index, _) => *index,
        }
    }
}

/// A route that passed all checks.
#[derive(Debug)]
pub(super) struct CheckedRoute {
    pub(super) route: Arc<Route>,
    /// The pattern as written.
    pub(super) pattern: String,
    /// The pattern compiled, anchored at the start of the path.
    pub(super) regex: Regex,
    pub(super) group: Option<CommunityGroup>,
    /// Captures of what is finer than the community.
    pub(super) finer: Vec<FinerGroup>,
    /// `file:line` of the route, for messages.
    pub(super) source: String,
    /// `file:line` of its event type, else of the route.
    pub(super) event_source: String,
}

/// Reads and checks all files; the order is kept. Also returns the kinds of things that are finer than communities.
pub(super) fn check(
    files: &[RouteFile],
    names: &RouteNames,
) -> Result<(Vec<CheckedRoute>, Vec<FinerKind>), RouteError> {
    let mut checked = Vec::new();
    let mut kinds = Vec::new();
    let mut sources: HashMap<String, String> = HashMap::new();
    for file in files {
        if let Some((line, header, misplaced)) = Misplaced::find(&IN_ROUTE_FILE, &file.text) {
            return Err(RouteError {
                file: file.path.clone(),
                line,
                route: None,
                problem: format!("{header} has no place in this file"),
                remedy: misplaced.remedy.into(),
            });
        }
        let raw: RawFile =
            toml::from_str(&file.text).map_err(|error| unreadable(&file.path, &file.text, &error))?;
        for route in raw.route {
            let check = RouteCheck {
                file,
                names,
                name: route.name.get_ref().clone(),
                at: route.name.span().start,
            };
            let presence_at = route.presence.as_ref().map(|presence| presence.span().start);
            let route = check.route(route)?;
            presence::join(&mut kinds, &route.finer, presence_at.unwrap_or(check.at))
                .map_err(|fault| check.refuse_fault(fault))?;
            if let Some(first) = sources.insert(check.name.clone(), route.source.clone()) {
                return Err(check.refuse(
                    format!("the name is already taken at {first}"),
                    "give each route a name of its own, in all files together",
                ));
            }
            if checked.len() == MAX_ROUTES {
                return Err(check.refuse(
                    format!("there are more than {MAX_ROUTES} routes"),
                    "join routes that need no separate names",
                ));
            }
            checked.push(route);
        }
    }
    Ok((checked, kinds))
}

/// A pattern as the table uses it: anchored at the start, also where it has alternatives (`^/a|/b`).
pub(super) fn anchored(pattern: &str) -> String {
    format!(r"\A(?:{pattern})")
}

/// The route that is being checked, for messages.
struct RouteCheck<'a> {
    file: &'a RouteFile,
    names: &'a RouteNames,
    name: String,
    /// Offset of the name in the file.
    at: usize,
}

impl RouteCheck<'_> {
    fn route(&self, raw: RawRoute) -> Result<CheckedRoute, RouteError> {
        self.name()?;
        let (regex, group) = self.pattern(&raw.pattern)?;
        let own_page_type = raw.page_type.is_some();
        let needs_community = raw.community.unwrap_or(own_page_type && raw.track != Track::None);
        if needs_community && group.is_none() {
            return Err(self.refuse_at(
                raw.pattern.span().start,
                "the pattern has no community group".into(),
                if self.names.lookups.is_empty() {
                    "add (?P<community>…) or (?P<community_slug>…), or say `community = false` if these pages \
                     belong to none"
                } else {
                    "add (?P<community>…) or (?P<community_slug>…), or a group that [schema.lookup] names, or say \
                     `community = false` if these pages belong to none"
                },
            ));
        }
        if raw.community == Some(false) && group.is_some() {
            return Err(self.refuse_at(
                raw.pattern.span().start,
                "the pattern has a community group, but the route says `community = false`".into(),
                "remove one of the two",
            ));
        }
        let finer = match &raw.presence {
            Some(scopes) => self.presence(scopes, &regex, group.as_ref(), raw.track)?,
            None => Vec::new(),
        };
        let page_type = match raw.page_type {
            Some(page_type) => self.short_text("page_type", &page_type)?,
            None => Arc::from(self.name.as_str()),
        };
        let search_param = match raw.search_param {
            Some(param) => Some(self.short_text("search_param", &param)?),
            None => None,
        };
        let event = EventKeys {
            track: raw.track,
            event_type: raw.event_type,
            metadata: raw.metadata,
            description: raw.description,
        };
        let event_at = event.offset().unwrap_or(self.at);
        let event = event
            .check(self.at, &regex, &self.names.parameters)
            .map_err(|fault| self.refuse_fault(fault))?;
        Ok(CheckedRoute {
            event_source: source(&self.file.path, line_of(&self.file.text, event_at)),
            route: Arc::new(Route {
                name: Arc::from(self.name.as_str()),
                page_type,
                track: raw.track,
                search_param,
                widget: raw.widget.unwrap_or(true),
                grants: raw.grants,
                event,
                handles: RouteHandles::default(),
            }),
            pattern: raw.pattern.into_inner(),
            regex,
            group,
            finer,
            source: source(&self.file.path, line_of(&self.file.text, self.at)),
        })
    }

    /// Names are metric labels.
    fn name(&self) -> Result<(), RouteError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.bytes().all(allowed) {
            return Err(self.refuse(
                "the name is not usable as a metric label".into(),
                "use 1 to 64 of a-z, 0-9, `-` and `_`",
            ));
        }
        Ok(())
    }

    fn pattern(&self, pattern: &Spanned<String>) -> Result<(Regex, Option<CommunityGroup>), RouteError> {
        let at = pattern.span().start;
        let text = pattern.get_ref();
        let uncompilable = |error: &regex::Error| {
            self.refuse_at(
                at,
                format!("the pattern does not compile: {}", reason(error)),
                "correct it (syntax of Rust's regex crate: no look-around, no back references)",
            )
        };
        if !text.starts_with('^') {
            return Err(self.refuse_at(
                at,
                "the pattern does not start with `^`".into(),
                "anchor it, as it would match in the middle of other paths too (flags go behind: `^(?i)/…`)",
            ));
        }
        // First as written, so that the message refers to the written pattern.
        compile(text).map_err(|error| uncompilable(&error))?;
        let regex = compile(&anchored(text)).map_err(|error| uncompilable(&error))?;
        let group = |name: &str| regex.capture_names().position(|group| group == Some(name));
        let group = match (group("community"), group("community_slug")) {
            (Some(_), Some(_)) => {
                return Err(self.refuse_at(
                    at,
                    "the pattern has both a community and a community_slug group".into(),
                    "keep one, or write two routes",
                ));
            }
            (Some(id), None) => Some(CommunityGroup::Id(id)),
            (None, Some(slug)) => Some(CommunityGroup::Slug(slug)),
            (None, None) => {
                let looked_up = |(index, name): (usize, Option<&str>)| {
                    let lookup = self
                        .names
                        .lookups
                        .iter()
                        .find(|lookup| Some(&***lookup) == name)?;
                    Some(CommunityGroup::Lookup(index, Arc::clone(lookup)))
                };
                let mut looked_up = regex.capture_names().enumerate().filter_map(looked_up);
                let first = looked_up.next();
                if looked_up.next().is_some() {
                    return Err(self.refuse_at(
                        at,
                        "the pattern has several groups that [schema.lookup] names".into(),
                        "keep the name of the group that leads to the community, and rename the others",
                    ));
                }
                first
            }
        };
        Ok((regex, group))
    }

    /// The captures that presence is counted in besides the community.
    fn presence(
        &self,
        scopes: &Spanned<RawScopes>,
        regex: &Regex,
        group: Option<&CommunityGroup>,
        track: Track,
    ) -> Result<Vec<FinerGroup>, RouteError> {
        let at = scopes.span().start;
        let scopes = &scopes.get_ref().0;
        if scopes.is_empty() {
            return Err(self.refuse_at(
                at,
                "`presence` is empty".into(),
                "name the community's capture and those of finer things, or leave it out",
            ));
        }
        if track == Track::None {
            return Err(self.refuse_at(
                at,
                "`presence` stands on a route that is not tracked".into(),
                "remove it, or `track = \"none\"`",
            ));
        }
        let community = group.and_then(|group| regex.capture_names().nth(group.index()).flatten());
        presence::check(scopes, regex, community).map_err(|fault| self.refuse_fault(fault))
    }

    fn short_text(&self, key: &str, value: &Spanned<String>) -> Result<Arc<str>, RouteError> {
        let text = value.get_ref();
        if text.is_empty() || text.chars().count() > MAX_NAME || text.chars().any(char::is_control) {
            return Err(self.refuse_at(
                value.span().start,
                format!("`{key}` is empty, too long or has control characters"),
                "use 1 to 64 printable characters, or leave it out",
            ));
        }
        Ok(Arc::from(text.as_str()))
    }

    fn refuse(&self, problem: String, remedy: &str) -> RouteError {
        self.refuse_at(self.at, problem, remedy)
    }

    fn refuse_fault(&self, fault: KeyFault) -> RouteError {
        self.refuse_at(fault.at, fault.problem, &fault.remedy)
    }

    fn refuse_at(&self, offset: usize, problem: String, remedy: &str) -> RouteError {
        RouteError {
            file: self.file.path.clone(),
            line: line_of(&self.file.text, offset),
            route: Some(self.name.clone()),
            problem,
            remedy: remedy.into(),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED)
        .nest_limit(50)
        .build()
}

/// The regex crate's explanation without the picture of the pattern.
pub(super) fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large once compiled".into(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

fn source(file: &Path, line: usize) -> String {
    format!("{}:{line}", file.display())
}
