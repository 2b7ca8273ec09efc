//! Format of route files: its keys, its checks, and the message for each fault.
//!
//! [`RawRoute`] has every key; unknown ones are refused. Every message names file, line and route, the fault, and the
//! remedy.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use super::event::{EventForm, MAX_KEY, MAX_METADATA, MAX_TEMPLATE, OWN_KEYS, Template, ValueSource};
use super::presence::{self, FinerGroup, FinerKind, RawScope};
use super::{Route, RouteNames, Track};
use crate::config::{IN_ROUTE_FILE, Misplaced, event_type_fault};

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

/// Why a set of route files was refused. `Display` is one readable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// The file.
    pub file: PathBuf,
    /// Line in the file, from 1.
    pub line: usize,
    /// The route, where the fault is in one and its name is known.
    pub route: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if let Some(route) = &self.route {
            write!(f, "route `{route}`: ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for RouteError {}

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
    /// Whether an answer 200 says that its visitor may see the community. Without the key: where it is the community's own
    /// page, or a lookup found the community.
    grants: Option<bool>,
    /// Type of its events.
    event_type: Option<Spanned<String>>,
    /// Further metadata of its events: a group of the pattern, or a query parameter with `?` before it.
    #[serde(default)]
    metadata: BTreeMap<String, Spanned<String>>,
    /// Template of their description.
    description: Option<Spanned<String>>,
    /// Captures that presence is counted in, the community first.
    presence: Option<Spanned<Vec<Spanned<RawScope>>>>,
}

/// The named group of a pattern that holds the community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommunityGroup {
    Id(usize),
    Slug(usize),
    /// Something that belongs to it: the lookup of the group's name finds the community.
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
    /// `file:line`, for messages.
    pub(super) source: String,
    /// The same of its event type, or else of the route.
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
        let raw: RawFile = toml::from_str(&file.text).map_err(|error| not_the_language(file, &error))?;
        for route in raw.route {
            let check = Check {
                file,
                names,
                name: route.name.get_ref().clone(),
                at: route.name.span().start,
            };
            let presence_at = route.presence.as_ref().map(|presence| presence.span().start);
            let route = check.route(route)?;
            if let Err((problem, remedy)) = presence::join(&mut kinds, &route.finer) {
                return Err(check.refuse_at(presence_at.unwrap_or(check.at), problem, &remedy));
            }
            if let Some(first) = sources.insert(check.name.clone(), route.source.clone()) {
                return Err(check.refuse(
                    format!("the name is already taken at {first}"),
                    "give each route a name of its own, across all files",
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

/// The keys of a route about its events.
struct EventKeys {
    track: Track,
    event_type: Option<Spanned<String>>,
    metadata: BTreeMap<String, Spanned<String>>,
    description: Option<Spanned<String>>,
}

/// The route that is being checked, for messages.
struct Check<'a> {
    file: &'a RouteFile,
    names: &'a RouteNames,
    name: String,
    /// Offset of the name in the file.
    at: usize,
}

impl Check<'_> {
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
        let (event, event_at) = self.event(event, &regex)?;
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
                    "keep one, or make two routes of it",
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
                        "keep the name of the one that the community is found by, and name the others differently",
                    ));
                }
                first
            }
        };
        Ok((regex, group))
    }

    /// The form of the route's events, and the offset of their type.
    fn event(&self, keys: EventKeys, regex: &Regex) -> Result<(EventForm, usize), RouteError> {
        let at = keys.event_type.as_ref().map_or(self.at, |text| text.span().start);
        let is_given = keys.event_type.is_some() || !keys.metadata.is_empty() || keys.description.is_some();
        if keys.track == Track::None && is_given {
            return Err(self.refuse_at(
                at,
                "`track = \"none\"` records nothing, but the route has `event_type`, `metadata` or `description`".into(),
                "remove one of the two",
            ));
        }
        if let Some(fault) = keys
            .event_type
            .as_ref()
            .and_then(|text| event_type_fault(text.get_ref()))
        {
            return Err(self.refuse_at(at, format!("`event_type` {fault}"), "correct it, or leave it out"));
        }
        if keys.metadata.len() > MAX_METADATA {
            return Err(self.refuse(
                format!("`metadata` has more than {MAX_METADATA} keys"),
                "leave out those that nobody reads",
            ));
        }
        let mut form = EventForm {
            event_type: keys.event_type.map(|text| Arc::from(text.into_inner())),
            ..EventForm::default()
        };
        for (key, text) in keys.metadata {
            let at = text.span().start;
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(is_word) {
                return Err(self.refuse_at(
                    at,
                    format!("`metadata` has a key that is not usable: {key:?}"),
                    "use 1 to 64 of a-z, A-Z, 0-9 and `_`",
                ));
            }
            if OWN_KEYS.contains(&&*key) {
                return Err(self.refuse_at(
                    at,
                    format!("`metadata.{key}` is written by the sidecar itself"),
                    "give the key another name",
                ));
            }
            let from = self.value_source(&format!("metadata.{key}"), text.get_ref(), at, regex)?;
            form.metadata.push((Arc::from(key), from));
        }
        if let Some(text) = keys.description {
            let at = text.span().start;
            let template = text.get_ref();
            if template.chars().count() > MAX_TEMPLATE || template.chars().any(char::is_control) {
                return Err(self.refuse_at(
                    at,
                    "`description` is too long or has control characters".into(),
                    "use at most 255 printable characters",
                ));
            }
            let template = Template::parse(template).map_err(|fault| {
                self.refuse_at(
                    at,
                    format!("`description`: {fault}"),
                    "write {path}, {group} or {?parameter}, and `{{` or `}}` for a brace itself",
                )
            })?;
            for place in template.sources() {
                let name = match place {
                    ValueSource::Capture(name) => name.to_string(),
                    ValueSource::Parameter(name) => format!("?{name}"),
                };
                self.value_source("description", &name, at, regex)?;
            }
            form.description = Some(template);
        }
        Ok((form, at))
    }

    /// Where a value comes from: a group that the pattern has, or a parameter that may be recorded.
    fn value_source(
        &self,
        key: &str,
        text: &str,
        at: usize,
        regex: &Regex,
    ) -> Result<ValueSource, RouteError> {
        let from = ValueSource::parse(text);
        match &from {
            ValueSource::Capture(name) => {
                let groups: Vec<&str> = regex.capture_names().flatten().collect();
                if !groups.contains(&&**name) {
                    let there = if groups.is_empty() {
                        "none".to_owned()
                    } else {
                        groups.join(", ")
                    };
                    return Err(self.refuse_at(
                        at,
                        format!("`{key}` names the group {name:?}, which the pattern does not have (it has: {there})"),
                        &format!("add (?P<{name}>…) to the pattern, or write \"?{name}\" if it is a query parameter"),
                    ));
                }
            }
            ValueSource::Parameter(name) => {
                if !self.names.parameters.contains(&name.to_string()) {
                    return Err(self.refuse_at(
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

    /// The captures that presence is counted in besides the community.
    fn presence(
        &self,
        scopes: &Spanned<Vec<Spanned<RawScope>>>,
        regex: &Regex,
        group: Option<&CommunityGroup>,
        track: Track,
    ) -> Result<Vec<FinerGroup>, RouteError> {
        let at = scopes.span().start;
        if scopes.get_ref().is_empty() {
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
        presence::check(scopes.get_ref(), regex, community)
            .map_err(|(at, (problem, remedy))| self.refuse_at(at, problem, &remedy))
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

/// The error for a file that is not TOML, or has unknown keys or values.
fn not_the_language(file: &RouteFile, error: &toml::de::Error) -> RouteError {
    let offset = error.span().map_or(0, |span| span.start);
    let problem = error.message().trim().replace('\n', ", ");
    let remedy = if file.text.parse::<toml::Table>().is_err() {
        "correct the TOML syntax"
    } else if problem.starts_with("missing field") {
        "add it"
    } else {
        "correct or remove it"
    };
    RouteError {
        file: file.path.clone(),
        line: line_of(&file.text, offset),
        route: route_at(&file.text, offset),
        problem,
        remedy: remedy.into(),
    }
}

/// Name of the route whose `[[route]]` is the last one up to the offset, where the file is TOML at all.
fn route_at(text: &str, offset: usize) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let line = line_of(text, offset);
    let is_header = |line: &&str| {
        line.split('#')
            .next()
            .is_some_and(|code| code.trim() == "[[route]]")
    };
    let index = text.lines().take(line).filter(is_header).count().checked_sub(1)?;
    let name = table.get("route")?.get(index)?.get("name")?.as_str()?;
    Some(name.to_owned())
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.split(|&byte| byte == b'\n').count().saturating_sub(1)
}

fn source(file: &Path, line: usize) -> String {
    format!("{}:{line}", file.display())
}
