//! The messages on live connections, in both directions. Pure.
//!
//! Server to client, as text frames or as the data of events:
//!
//! ```json
//! {"type":"count","community_id":42,"current_visitors":3,"seq":1763884800001,"as_of":"2026-11-23T07:39:18Z","stale":false}
//! {"type":"unknown","community_id":"99"}
//! {"type":"unknown","community_id":42,"scope":"post","scope_id":"7"}
//! {"type":"retry","after_ms":2345}
//! {"type":"close","code":4401,"reason":"the session has ended"}
//! ```
//!
//! `close` takes the place of the close frame in an event stream. Client to server, over a `WebSocket`:
//!
//! ```json
//! {"type":"subscribe","communities":[42,"99"]}
//! {"type":"unsubscribe","communities":[42]}
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::close::Close;
use super::topic::LiveCount;
use crate::ids::Finer;
use crate::json::{Key, Timestamp};
use crate::key_type::AppKeys;
use crate::presence::Scope;

/// Longest message that a client may send: a hundred long keys fit.
pub(super) const MAX_MESSAGE: usize = 8 * 1024;

/// Slugs of one community for which an update is kept serialised.
const MOST_NAMES: usize = 4;

/// What the server says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum LiveMessage {
    /// A count: first a snapshot, then each time it has changed, at most a few times a second.
    Count {
        /// The community, as the client asked for it; left out of the whole site's count.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        community_id: Option<Key>,
        /// The kind of things, such as `post`, in a count of something finer in the community.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        scope: Option<String>,
        /// Which of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        scope_id: Option<String>,
        /// Distinct users seen within the window.
        current_visitors: u64,
        /// Rises from message to message of one scope.
        seq: u64,
        /// When the count was taken.
        as_of: Timestamp,
        /// Whether this is only what this server saw itself, because the store of presence is away.
        stale: bool,
    },
    /// There is no such community, or nothing such in it, or the caller may not see it.
    Unknown {
        /// The community, as asked for.
        community_id: Key,
        /// The kind of things, such as `post`, where it is something finer in the community; the community itself may be
        /// seen, unless another message says that it may not.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        scope: Option<String>,
        /// Which of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        scope_id: Option<String>,
    },
    /// The connection is about to end; reconnect then.
    Retry {
        /// Milliseconds to wait, a little different for each.
        after_ms: u64,
    },
    /// The end of an event stream, in place of a close frame.
    Close {
        /// The close code.
        code: u16,
        /// A few words for people.
        reason: &'static str,
    },
}

impl LiveMessage {
    fn text(&self) -> String {
        // Plain data always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One value of one scope, in every form in which it is sent: serialised once for all subscribers.
#[derive(Debug)]
pub(super) struct Update {
    scope: Scope,
    known: LiveCount,
    text: Bytes,
    event: Bytes,
    chunk: Bytes,
    /// The same with slugs in the place of the id, each serialised for its first subscriber.
    named: Mutex<Vec<(Arc<str>, Arc<Self>)>>,
}

impl Update {
    /// Serialises it.
    pub(super) fn new(scope: Scope, known: LiveCount, keys: &AppKeys) -> Self {
        let key = scope
            .community()
            .map(|community| Key::of_community(community, keys));
        Self::with_key(scope, known, key)
    }

    /// The same for subscribers who asked for the community by a slug.
    pub(super) fn named(&self, slug: &Arc<str>) -> Arc<Self> {
        // Nothing panics while it holds the lock.
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, update)) = named.iter().find(|(known, _)| known == slug) {
            return Arc::clone(update);
        }
        let key = Key::Text(slug.as_ref().into());
        let update = Arc::new(Self::with_key(self.scope.clone(), self.known, Some(key)));
        // A community has one slug, but for those that it had a moment ago.
        if named.len() < MOST_NAMES {
            named.push((Arc::clone(slug), Arc::clone(&update)));
        }
        update
    }

    /// `key` is the community's.
    fn with_key(scope: Scope, known: LiveCount, key: Option<Key>) -> Self {
        let LiveCount { count, stale } = known;
        let finer = scope.finer();
        let message = LiveMessage::Count {
            community_id: key,
            scope: finer.map(|finer| finer.kind().to_owned()),
            scope_id: finer.map(|finer| finer.key().to_owned()),
            current_visitors: count.current,
            seq: count.seq,
            as_of: Timestamp(count.as_of),
            stale,
        };
        let text = message.text();
        let event = format!("id: {}\n{}", count.seq, event(&text));
        Self {
            scope,
            known,
            chunk: chunk(&event),
            event: event.into(),
            text: text.into(),
            named: Mutex::default(),
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn known(&self) -> LiveCount {
        self.known
    }

    pub(super) fn seq(&self) -> u64 {
        self.known.count.seq
    }

    /// As a text frame; valid UTF-8.
    pub(super) fn text(&self) -> Bytes {
        self.text.clone()
    }

    /// As an event of a stream, delimited as a piece of its body.
    pub(super) fn event(&self, framing: Framing) -> Bytes {
        match framing {
            Framing::Chunked => self.chunk.clone(),
            Framing::UntilClose => self.event.clone(),
        }
    }
}

/// How the body of an event stream is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1.
    Chunked,
    /// HTTP/1.0, which knows no chunks.
    UntilClose,
}

impl Framing {
    /// A piece of the body.
    pub(super) fn piece(self, text: &str) -> Bytes {
        match self {
            Self::Chunked => chunk(text),
            Self::UntilClose => Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    /// The end of the body.
    pub(super) fn end(self) -> Bytes {
        match self {
            Self::Chunked => Bytes::from_static(b"0\r\n\r\n"),
            Self::UntilClose => Bytes::new(),
        }
    }
}

fn chunk(text: &str) -> Bytes {
    format!("{:x}\r\n{text}\r\n", text.len()).into()
}

/// A message as an event.
pub(super) fn event(text: &str) -> String {
    format!("data: {text}\n\n")
}

/// How long an event stream's reader waits before it reconnects.
pub(super) fn retry_event(after: Duration) -> String {
    format!("retry: {}\n\n", after.as_millis())
}

/// A comment that keeps the connection busy.
pub(super) const HEARTBEAT: &str = ": \n\n";

/// The community, or something `finer` in it, does not exist, or the client may not see it.
pub(super) fn unknown(asked: &str, finer: Option<&Finer>, keys: &AppKeys) -> String {
    let message = LiveMessage::Unknown {
        community_id: Key::of_community(&asked.into(), keys),
        scope: finer.map(|finer| finer.kind().to_owned()),
        scope_id: finer.map(|finer| finer.key().to_owned()),
    };
    message.text()
}

/// How long the client should wait before it reconnects.
pub(super) fn retry(after: Duration) -> String {
    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    LiveMessage::Retry { after_ms }.text()
}

/// The end of an event stream: the reason, and when to reconnect where that may help.
pub(super) fn last_event(close: Close, retry_after: Duration) -> String {
    let (code, reason) = (close.code(), close.reason());
    let last = event(&LiveMessage::Close { code, reason }.text());
    if close.invites_back() {
        retry_event(retry_after) + &last
    } else {
        last
    }
}

/// A client's request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Subscribe to these.
    Subscribe(Vec<String>),
    /// Unsubscribe from these.
    Unsubscribe(Vec<String>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Said {
    Subscribe { communities: Vec<IdInMessage> },
    Unsubscribe { communities: Vec<IdInMessage> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IdInMessage {
    Number(i64),
    Text(String),
}

impl Request {
    /// `None` if it has neither form, or names no community.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let ids = |asked: Vec<IdInMessage>| {
            let mut ids: Vec<String> = Vec::with_capacity(asked.len());
            for asked in asked {
                let id = match asked {
                    IdInMessage::Number(number) => number.to_string(),
                    IdInMessage::Text(text) => text,
                };
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            (!ids.is_empty()).then_some(ids)
        };
        match serde_json::from_str(text).ok()? {
            Said::Subscribe { communities } => ids(communities).map(Self::Subscribe),
            Said::Unsubscribe { communities } => ids(communities).map(Self::Unsubscribe),
        }
    }
}

#[cfg(test)]
mod tests;
