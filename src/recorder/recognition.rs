//! Recognition: notices that no visitor is recognised although some are signed in.
//!
//! A site whose session cookie has another name, or whose sessions are elsewhere, is served flawlessly and counts nobody. So
//! three things together are told: page navigations with cookies, of which none belongs to a known session; an answer
//! that signed somebody in; and a cookie of such an answer that came back. A site that few sign in to is no such case:
//! visitors with cookies of analytics alone are never told of. Names of cookies are shown, values never.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use crate::config;
use crate::metrics::LabelValue as _;
use crate::page_view::NotCounted;
use crate::status::Component;

/// Navigations with cookies after which the lack of known sessions is told.
const NAVIGATIONS: u64 = 50;
/// Upper bound of [`State::caution`].
const MOST_CAUTION: u64 = 1 << 10;
/// Names of cookies that are kept, of navigations and of sign-ins.
const NAMES: usize = 32;
/// Names that are shown.
const SHOWN: usize = 8;
/// Longest name that is kept, in bytes.
const LONGEST: usize = 64;

/// Whether anybody is recognised.
pub struct Recognition {
    component: Component,
    looked_for: String,
    /// Nothing was missed since somebody was recognised: the usual case, which takes no lock.
    is_clean: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Navigations with cookies and without a known session, since somebody was recognised.
    missed: u64,
    reasons: BTreeMap<NotCounted, u64>,
    /// Names of their cookies, with how many had them.
    names: BTreeMap<String, u64>,
    /// Answers that signed somebody in.
    sign_ins: u64,
    /// Names of the cookies that they set.
    set: Vec<String>,
    /// Navigations with one of these.
    returned: u64,
    is_told: bool,
    /// How many times more it takes: doubled each time that somebody is recognised after it was told.
    caution: u64,
}

impl Recognition {
    /// Nothing seen. `component` goes down when it is told, and up when somebody is recognised.
    pub fn new(session: &config::Session, schema: &config::Schema, component: Component) -> Self {
        let section = match session.kind {
            config::SessionKind::Table => "schema.session",
            config::SessionKind::Django => "schema.django_session",
        };
        let looked_for = format!(
            "the cookie `{}` (session.cookie) of {} to {} characters, in the table `{}` ({section})",
            session.cookie,
            session.token_min_length,
            session.token_max_length,
            schema.sessions_table(session.kind)
        );
        Self {
            component,
            looked_for,
            is_clean: AtomicBool::new(true),
            state: Mutex::new(State::after(1)),
        }
    }

    /// A page view belongs to a known session.
    pub fn recognised(&self) {
        if self.is_clean.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        let caution = if state.is_told {
            (state.caution * 2).min(MOST_CAUTION)
        } else {
            state.caution
        };
        *state = State::after(caution);
        self.is_clean.store(true, Ordering::Relaxed);
        // Within the lock, so that the last word is that of the last event.
        self.component.up(|_| tracing::info!("visitors are recognised"));
    }

    /// A page was navigated to by a visitor without a known session, for this reason.
    pub fn missed(&self, headers: &HeaderMap, reason: NotCounted) {
        let mut state = self.state();
        if state.sees_cookies(headers) {
            self.count(state, reason);
        }
    }

    /// A page was navigated to by a visitor whose token is being looked up.
    pub fn asks(&self, headers: &HeaderMap) {
        // While all are recognised, names are of no use.
        if !self.is_clean.load(Ordering::Relaxed) {
            self.state().sees_cookies(headers);
        }
    }

    /// The lookup found no session.
    pub fn found_none(&self, reason: NotCounted) {
        self.count(self.state(), reason);
    }

    /// The app has answered a request: perhaps it has signed somebody in.
    pub fn answered(&self, method: &Method, status: StatusCode, response: &HeaderMap) {
        if method != Method::POST || !response.contains_key(SET_COOKIE) {
            return;
        }
        if !status.is_success() && !matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER) {
            return;
        }
        // Other cookies than a session's are rarely hidden from scripts: a chosen language, a cart.
        let is_hidden = |cookie: &str| cookie.to_ascii_lowercase().contains("httponly");
        let cookies = response.get_all(SET_COOKIE).iter();
        let set: Vec<_> = cookies
            .filter_map(|cookie| cookie.to_str().ok())
            .filter(|cookie| is_set(cookie) && is_hidden(cookie))
            .filter_map(|cookie| name_of(cookie.split(';').next()?))
            .collect();
        if set.is_empty() {
            return;
        }
        let mut state = self.state();
        self.is_clean.store(false, Ordering::Relaxed);
        state.sign_ins += 1;
        for name in set {
            if state.set.len() < NAMES && !state.set.iter().any(|known| known == name) {
                state.set.push(name.to_owned());
            }
        }
    }

    fn count(&self, mut state: MutexGuard<'_, State>, reason: NotCounted) {
        self.is_clean.store(false, Ordering::Relaxed);
        state.missed += 1;
        *state.reasons.entry(reason).or_default() += 1;
        let caution = state.caution;
        let is_enough =
            state.missed >= NAVIGATIONS * caution && state.sign_ins.min(state.returned) >= caution;
        if is_enough && !state.is_told {
            state.is_told = true;
            let sentence = state.sentence(&self.looked_for);
            self.component
                .down(sentence, |sentence| tracing::warn!("{sentence}"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn after(caution: u64) -> Self {
        Self {
            missed: 0,
            reasons: BTreeMap::new(),
            names: BTreeMap::new(),
            sign_ins: 0,
            set: Vec::new(),
            returned: 0,
            is_told: false,
            caution,
        }
    }

    /// Notes the names of a request's cookies. Returns whether there are any.
    fn sees_cookies(&mut self, headers: &HeaderMap) -> bool {
        let mut has_any = false;
        let mut is_returned = false;
        for header in headers.get_all(COOKIE) {
            // Those that are no text have no name to show.
            let names = header.to_str().unwrap_or_default().split(';').filter_map(name_of);
            for name in names {
                has_any = true;
                is_returned |= self.set.iter().any(|set| set == name);
                if let Some(times) = self.names.get_mut(name) {
                    *times += 1;
                } else if self.names.len() < NAMES {
                    self.names.insert(name.to_owned(), 1);
                }
            }
        }
        self.returned += u64::from(is_returned);
        has_any
    }

    fn sentence(&self, looked_for: &str) -> String {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let names: Vec<_> = names
            .iter()
            .take(SHOWN)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        let mut sentence = format!(
            "nobody is recognised: none of {} page navigations with cookies belongs to a known session, though somebody \
             signed in. Looked for {looked_for}. Cookies seen: {}.",
            self.missed,
            names.join(", "),
        );
        for (reason, times) in &reasons {
            let _ = write!(sentence, " {}: {times}.", reason.label());
        }
        if let Some((reason, _)) = reasons.first() {
            let _ = write!(sentence, " {}", remedy(**reason));
        }
        sentence
    }
}

/// What to do where most visitors are unknown for this reason.
fn remedy(reason: NotCounted) -> &'static str {
    match reason {
        NotCounted::NoCookie => {
            "Most of these have no cookie of the name looked for: if visitors are signed in there, set session.cookie to the \
             app's (Django: SESSION_COOKIE_NAME)"
        }
        NotCounted::NotAToken => {
            "The cookie's value is no token: see session.token_min_length and session.token_max_length, and whether the app \
             keeps its sessions in the cookie itself"
        }
        NotCounted::Jwt => {
            "Their JWTs are refused: headcount_jwts_refused_total says why, and config/README.md what to do"
        }
        NotCounted::SessionEnded => {
            "The sessions that were found are inactive, ended or expired: see the columns in [schema.session], and \
             database.time_zone"
        }
        NotCounted::SignedOut => {
            "The sessions that were found name no user: see session.kind and the columns in [schema]"
        }
        NotCounted::NoProfile => {
            "The accounts of the sessions have no profile: see schema.profile.columns.account"
        }
        NotCounted::AccountDisabled => {
            "The accounts of the sessions are disabled: see schema.profile.columns.is_active"
        }
        NotCounted::UnreadableSession => {
            "The sessions that were found cannot be read: `headcount check` says why"
        }
        _ => {
            "No row has the cookie's value: see session.kind, session.token_hash, and whether the app keeps its sessions in \
             that table and that database"
        }
    }
}

/// Whether a `Set-Cookie` sets a cookie, and does not delete it.
fn is_set(cookie: &str) -> bool {
    let mut parts = cookie.split(';');
    let value = parts
        .next()
        .and_then(|pair| pair.split_once('='))
        .map(|(_, value)| value.trim());
    let is_deleted = parts.any(|part| {
        let part = part.trim().to_ascii_lowercase();
        part == "max-age=0" || (part.starts_with("expires=") && part.contains("1970"))
    });
    !is_deleted && value.is_some_and(|value| !value.is_empty() && value != "\"\"")
}

/// The name of a cookie, if it can be shown. A pair without `=` has a value only.
fn name_of(pair: &str) -> Option<&str> {
    let (name, _) = pair.split_once('=')?;
    let name = name.trim();
    let is_shown = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:$!#%&*+^|~".contains(&byte);
    (!name.is_empty() && name.len() <= LONGEST && name.bytes().all(is_shown)).then_some(name)
}

#[cfg(test)]
mod tests;
