//! Content Security Policy: whether a page's policies allow the widget's script and its live connection. Pure.
//!
//! A page may have several policies; each must allow both. Where a policy names nonces, the script carries the
//! page's own. What is unclear counts as forbidden: then nothing is put into the page. Report-only policies do not
//! count.

use http::HeaderMap;
use http::header::CONTENT_SECURITY_POLICY;

use super::page::Page;

/// What a policy forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The script.
    Script,
    /// The live connection.
    Connection,
}

/// Most bytes of policies in a page's `<meta>` elements, in total. Sites have a few hundred.
const MAX_META: usize = 64 * 1024;

/// All policies of one page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    all: Vec<CspPolicy>,
    /// Bytes of policies in `<meta>` elements.
    meta: usize,
}

/// A page has more policies than can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Names of directives, in lower case, with their values. The first of each name counts.
#[derive(Debug, Clone)]
struct CspPolicy(Vec<(String, Vec<String>)>);

/// The resource that source expressions are matched with.
struct Target<'a> {
    scheme: &'a str,
    /// Path of the resource, without query.
    path: &'a str,
    page: &'a Page,
}

impl Policies {
    /// The policies of a response's head.
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let mut policies = Self::default();
        for value in response.get_all(CONTENT_SECURITY_POLICY) {
            for policy in String::from_utf8_lossy(value.as_bytes()).split(',') {
                policies.all.push(CspPolicy::parse(policy));
            }
        }
        policies
    }

    /// Adds a policy from a `<meta>`. Some directives have no effect there.
    ///
    /// # Errors
    /// There are too many. They are not kept, so nothing may be put into the page.
    pub(crate) fn add_from_meta(&mut self, content: &str) -> Result<(), TooMany> {
        // An element without content needs memory, too.
        self.meta = self.meta.saturating_add(content.len().max(64));
        if self.meta > MAX_META {
            self.all = Vec::new();
            return Err(TooMany);
        }
        for policy in content.split(',') {
            let mut policy = CspPolicy::parse(policy);
            policy.0.retain(|(name, _)| name != "sandbox");
            self.all.push(policy);
        }
        Ok(())
    }

    /// The nonce that the script must carry, if there is one; or what is forbidden.
    pub(crate) fn verdict(&self, page: &Page, script: &str, live: &str) -> Result<Option<String>, Blocked> {
        let (script, live) = (&*page.below(script), &*page.below(live));
        let nonces = self.all.iter().flat_map(CspPolicy::nonces).map(Some);
        let nonce = nonces
            .chain([None])
            .find(|nonce| {
                let allows = |policy: &CspPolicy| policy.allows_script(page, script, *nonce);
                self.all.iter().all(allows)
            })
            .ok_or(Blocked::Script)?;
        if self.all.iter().all(|policy| policy.allows_connection(page, live)) {
            Ok(nonce.map(str::to_owned))
        } else {
            Err(Blocked::Connection)
        }
    }
}

impl CspPolicy {
    fn parse(text: &str) -> Self {
        let mut directives: Vec<(String, Vec<String>)> = Vec::new();
        for directive in text.split(';') {
            let mut words = directive.split_ascii_whitespace().map(str::to_owned);
            if let Some(name) = words.next().map(|name| name.to_ascii_lowercase())
                && !directives.iter().any(|(known, _)| *known == name)
            {
                directives.push((name, words.collect()));
            }
        }
        Self(directives)
    }

    /// The sources of the first directive of these that exists.
    fn sources(&self, names: &[&str]) -> Option<&[String]> {
        names.iter().find_map(|name| {
            let found = self.0.iter().find(|(directive, _)| directive == name);
            found.map(|(_, sources)| &**sources)
        })
    }

    fn scripts(&self) -> Option<&[String]> {
        self.sources(&["script-src-elem", "script-src", "default-src"])
    }

    fn nonces(&self) -> impl Iterator<Item = &str> {
        self.scripts()
            .unwrap_or_default()
            .iter()
            .filter_map(|source| nonce(source))
    }

    fn allows_script(&self, page: &Page, path: &str, nonce_carried: Option<&str>) -> bool {
        if let Some(sandbox) = self.sources(&["sandbox"]) {
            // Without its origin the page's requests to the API would be cross-origin.
            let allows = |what| sandbox.iter().any(|flag| flag.eq_ignore_ascii_case(what));
            if !allows("allow-scripts") || !allows("allow-same-origin") {
                return false;
            }
        }
        let Some(sources) = self.scripts() else {
            return true;
        };
        if nonce_carried.is_some() && sources.iter().any(|source| nonce(source) == nonce_carried) {
            return true;
        }
        // Then host sources are ignored.
        let is_strict = |source: &String| source.eq_ignore_ascii_case("'strict-dynamic'");
        let scheme = page.scheme();
        !sources.iter().any(is_strict) && any_matches(sources, &Target { scheme, path, page })
    }

    fn allows_connection(&self, page: &Page, path: &str) -> bool {
        let scheme = if page.tls { "wss" } else { "ws" };
        let target = Target { scheme, path, page };
        self.sources(&["connect-src", "default-src"])
            .is_none_or(|sources| any_matches(sources, &target))
    }
}

/// The nonce of a source expression; `None` if it is not base64.
fn nonce(source: &str) -> Option<&str> {
    let (kind, value) = source
        .strip_prefix('\'')?
        .strip_suffix('\'')?
        .split_at_checked(6)?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    let is_nonce = kind.eq_ignore_ascii_case("nonce-") && !value.is_empty() && value.bytes().all(allowed);
    is_nonce.then_some(value)
}

fn any_matches(sources: &[String], target: &Target<'_>) -> bool {
    sources.iter().any(|source| matches(source, target))
}

/// Whether a source expression matches a resource of the page's own origin.
fn matches(source: &str, target: &Target<'_>) -> bool {
    let lower = source.to_ascii_lowercase();
    if lower == "*" || lower == "'self'" {
        return true;
    }
    if lower.starts_with('\'') {
        return false;
    }
    if let Some(scheme) = lower.strip_suffix(':') {
        return scheme_matches(scheme, target.scheme);
    }
    let (scheme, rest) = match source.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (target.page.scheme().to_owned(), source),
    };
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    scheme_matches(&scheme, target.scheme)
        && target
            .page
            .authority
            .as_deref()
            .is_some_and(|page| host_matches(authority, page, target.page.tls))
        && path_matches(path, target.path)
}

/// A scheme matches itself and its secure variants.
fn scheme_matches(allowed: &str, scheme: &str) -> bool {
    allowed == scheme
        || matches!(
            (allowed, scheme),
            ("http" | "wss", "https") | ("ws", "wss" | "http" | "https")
        )
}

fn host_matches(allowed: &str, page: &str, tls: bool) -> bool {
    let default = if tls { "443" } else { "80" };
    let (allowed_name, allowed_port) = name_and_port(allowed);
    let (name, port) = name_and_port(page);
    let name_matches = match allowed_name.strip_prefix("*.") {
        Some(parent) => name
            .to_ascii_lowercase()
            .strip_suffix(&parent.to_ascii_lowercase())
            .is_some_and(|sub| sub.ends_with('.')),
        None => allowed_name.eq_ignore_ascii_case(name),
    };
    let port = port.unwrap_or(default);
    name_matches && (allowed_port == Some("*") || allowed_port.unwrap_or(default) == port)
}

fn name_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // A colon within the brackets of an IPv6 address is no port separator.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

fn path_matches(allowed: &str, path: &str) -> bool {
    match allowed {
        "" | "/" => true,
        folder if folder.ends_with('/') => path.starts_with(folder),
        file => file == path,
    }
}

#[cfg(test)]
mod tests;
