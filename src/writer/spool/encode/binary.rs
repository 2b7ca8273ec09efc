//! The form of rows: one byte that names it, then a CBOR list of views. A view is a list, too, whose fields are known by
//! their numbers.
//!
//! A field that is added is an `Option` under the next number. Rows without it are read with `None`, and a reader that
//! does not know it passes it over: a row need not be written anew, nor the file's version be raised. The version is
//! raised (`file`) where it would be wrong to pass the field over: an earlier version then leaves the file alone. A
//! number is never used again, and a field never changes its type.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use chrono::DateTime;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::{StoredView, StoredVisitor};
use crate::batch::RecordedView;
use crate::geoip::Location;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::page_view::device::DeviceInfo;
use crate::page_view::{PageView, RouteEvent};
use crate::routes::CommunityRef;
use crate::writer::spool::tokens::TokenRange;
use crate::writer::unresolved::{UnresolvedView, VisitorRef};

/// First byte of a row in this form.
pub(super) const FIRST: u8 = 1;

/// Bytes of a usual view, to make room beforehand.
const USUAL: usize = 384;

#[derive(Encode, Decode)]
struct EncodedView<'a> {
    /// Seconds since 1970.
    #[n(0)]
    at: i64,
    #[n(1)]
    nanoseconds: u32,
    #[b(2)]
    url: &'a str,
    #[b(3)]
    route: Option<&'a str>,
    #[b(4)]
    page_type: Option<&'a str>,
    #[b(5)]
    community: Option<EncodedCommunity<'a>>,
    #[b(6)]
    referrer: Option<&'a str>,
    #[b(7)]
    search_query: Option<&'a str>,
    #[n(8)]
    status: u16,
    #[n(9)]
    duration_ms: u32,
    #[n(10)]
    client_ip: Option<IpAddr>,
    #[b(11)]
    user_agent: &'a str,
    #[b(12)]
    browser: &'a str,
    #[b(13)]
    os: &'a str,
    #[b(14)]
    device: &'a str,
    #[b(15)]
    event: Option<EncodedEvent<'a>>,
}

/// What a route has written.
#[derive(Encode, Decode)]
struct EncodedEvent<'a> {
    #[b(0)]
    kind: Option<&'a str>,
    #[b(1)]
    metadata: BTreeMap<&'a str, &'a str>,
    #[b(2)]
    description: Option<&'a str>,
}

#[derive(Encode, Decode)]
enum EncodedCommunity<'a> {
    #[n(0)]
    Id(#[b(0)] &'a str),
    #[n(1)]
    Slug(#[b(0)] &'a str),
    #[n(2)]
    Lookup(#[b(0)] &'a str, #[b(1)] &'a str),
}

#[derive(Encode, Decode)]
struct EncodedRecord<'a> {
    #[b(0)]
    view: EncodedView<'a>,
    #[b(1)]
    session: Option<&'a str>,
    #[b(2)]
    user: &'a str,
    #[b(3)]
    community: Option<&'a str>,
}

/// With a token, or with a user and perhaps a session.
#[derive(Encode, Decode)]
struct Unresolved<'a> {
    #[b(0)]
    view: EncodedView<'a>,
    #[n(1)]
    token_at: Option<u64>,
    #[n(2)]
    token_length: Option<u16>,
    #[b(3)]
    user: Option<&'a str>,
    #[b(4)]
    session: Option<&'a str>,
}

/// A row of recorded views.
pub(super) fn recorded(views: &[RecordedView]) -> Vec<u8> {
    row(views.iter().map(|recorded| EncodedRecord {
        view: EncodedView::of(&recorded.view),
        session: recorded.session_id.as_ref().map(BrowserSessionId::as_str),
        user: recorded.user_id.as_str(),
        community: recorded.community.as_ref().map(CommunityId::as_str),
    }))
}

/// A row of unresolved views; `places` are those of their tokens.
pub(super) fn unresolved(views: &[UnresolvedView], places: &[TokenRange]) -> Vec<u8> {
    let mut places = places.iter();
    row(views.iter().map(|unresolved| {
        let view = EncodedView::of(&unresolved.view);
        let (token, user, session) = match &unresolved.whose {
            VisitorRef::Token(_) => (places.next(), None, None),
            VisitorRef::Session { id, user_id } => (None, Some(user_id.as_str()), id.as_ref()),
        };
        Unresolved {
            view,
            token_at: token.map(|place| place.at),
            token_length: token.map(|place| place.len),
            user,
            session: session.map(BrowserSessionId::as_str),
        }
    }))
}

pub(super) fn read_recorded<'b>(bytes: &'b [u8]) -> Option<Vec<RecordedView>> {
    read(bytes, |stored: EncodedRecord<'b>, texts| {
        Some(RecordedView {
            view: stored.view.view(texts)?,
            session_id: stored.session.map(|id| texts.session(id)),
            user_id: texts.user(stored.user),
            community: stored.community.map(|id| CommunityId::new(texts.shared(id))),
            location: Location::default(),
        })
    })
}

pub(super) fn read_unresolved<'b>(bytes: &'b [u8]) -> Option<Vec<StoredView>> {
    read(bytes, |stored: Unresolved<'b>, texts| {
        let whose = match (stored.token_at, stored.token_length, stored.user) {
            (Some(at), Some(len), None) => StoredVisitor::Token(TokenRange { at, len }),
            (None, None, Some(user)) => StoredVisitor::Session {
                id: stored.session.map(|id| texts.session(id)),
                user_id: texts.user(user),
            },
            _ => return None,
        };
        let view = stored.view.view(texts)?;
        Some(StoredView { view, whose })
    })
}

fn row<V: Encode<()>>(views: impl ExactSizeIterator<Item = V>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + views.len() * USUAL);
    bytes.push(FIRST);
    let mut encoder = Encoder::new(bytes);
    // Writing to memory does not fail.
    let _ = encoder.array(views.len() as u64);
    for view in views {
        let _ = encoder.encode(view);
    }
    encoder.into_writer()
}

/// Reads a row; `view` makes a view of its stored form and the row's texts.
fn read<'b, S: Decode<'b, ()>, V>(
    bytes: &'b [u8],
    mut view: impl FnMut(S, &mut Texts<'b>) -> Option<V>,
) -> Option<Vec<V>> {
    let mut texts = Texts::default();
    let mut decoder = Decoder::new(bytes);
    let views = decoder.array_iter::<S>().ok()?;
    let views = views
        .map(|stored| view(stored.ok()?, &mut texts))
        .collect::<Option<_>>()?;
    (decoder.position() == bytes.len()).then_some(views)
}

/// Texts and devices of a row that many of its views have: each is in memory once.
#[derive(Default)]
struct Texts<'b> {
    texts: HashMap<&'b str, Arc<str>>,
    /// By browser, system, and kind of device.
    devices: HashMap<(&'b str, &'b str, &'b str), Arc<DeviceInfo>>,
}

impl<'b> Texts<'b> {
    fn shared(&mut self, text: &'b str) -> Arc<str> {
        Arc::clone(self.texts.entry(text).or_insert_with(|| text.into()))
    }

    fn device(&mut self, browser: &'b str, os: &'b str, device: &'b str) -> Arc<DeviceInfo> {
        let known = self.devices.entry((browser, os, device)).or_insert_with(|| {
            Arc::new(DeviceInfo {
                browser: browser.into(),
                os: os.into(),
                device: device.into(),
            })
        });
        Arc::clone(known)
    }

    fn session(&mut self, id: &'b str) -> BrowserSessionId {
        BrowserSessionId::new(self.shared(id))
    }

    fn user(&mut self, id: &'b str) -> UserId {
        UserId::new(self.shared(id))
    }
}

impl<'a> EncodedView<'a> {
    fn of(view: &'a PageView) -> Self {
        Self {
            at: view.at.timestamp(),
            nanoseconds: view.at.timestamp_subsec_nanos(),
            url: &view.url,
            route: view.route.as_deref(),
            page_type: view.page_type.as_deref(),
            community: view.community.as_ref().map(|named| match named {
                CommunityRef::Id(id) => EncodedCommunity::Id(id),
                CommunityRef::Slug(slug) => EncodedCommunity::Slug(slug),
                CommunityRef::Lookup(lookup, key) => EncodedCommunity::Lookup(lookup, key),
            }),
            referrer: view.referrer.as_deref(),
            search_query: view.search_query.as_deref(),
            status: view.status,
            duration_ms: view.duration_ms,
            client_ip: view.client_ip,
            user_agent: &view.user_agent,
            browser: &view.device.browser,
            os: &view.device.os,
            device: &view.device.device,
            event: EncodedEvent::of(&view.event),
        }
    }

    fn view(self, texts: &mut Texts<'a>) -> Option<PageView> {
        Some(PageView {
            at: DateTime::from_timestamp(self.at, self.nanoseconds)?,
            url: self.url.to_owned(),
            route: self.route.map(|name| texts.shared(name)),
            page_type: self.page_type.map(|name| texts.shared(name)),
            community: self.community.map(|named| match named {
                EncodedCommunity::Id(id) => CommunityRef::Id(id.into()),
                EncodedCommunity::Slug(slug) => CommunityRef::Slug(slug.into()),
                EncodedCommunity::Lookup(lookup, key) => CommunityRef::Lookup(lookup.into(), key.into()),
            }),
            referrer: self.referrer.map(ToOwned::to_owned),
            search_query: self.search_query.map(ToOwned::to_owned),
            status: self.status,
            duration_ms: self.duration_ms,
            client_ip: self.client_ip,
            user_agent: texts.shared(self.user_agent),
            device: texts.device(self.browser, self.os, self.device),
            event: self.event.map(|event| event.event(texts)).unwrap_or_default(),
            // Only presence uses it, and has it.
            finer: Arc::default(),
        })
    }
}

impl<'a> EncodedEvent<'a> {
    fn of(event: &'a RouteEvent) -> Option<Self> {
        (*event != RouteEvent::default()).then(|| Self {
            kind: event.event_type.as_deref(),
            metadata: event
                .metadata
                .iter()
                .map(|(key, value)| (&**key, &**value))
                .collect(),
            description: event.description.as_deref(),
        })
    }

    fn event(self, texts: &mut Texts<'a>) -> RouteEvent {
        RouteEvent {
            event_type: self.kind.map(|name| texts.shared(name)),
            metadata: self
                .metadata
                .into_iter()
                .map(|(key, value)| (texts.shared(key), value.to_owned()))
                .collect(),
            description: self.description.map(ToOwned::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::testing::recorded as a_view;

    /// A view of a version to come, and one of a version before.
    #[test]
    fn w31_a_field_more_is_passed_over_and_a_field_less_is_none() {
        #[derive(Encode)]
        struct Later<'a> {
            #[b(0)]
            view: EncodedView<'a>,
            #[b(1)]
            session: Option<&'a str>,
            #[b(2)]
            user: &'a str,
            #[b(3)]
            community: Option<&'a str>,
            #[b(4)]
            more: Option<EncodedCommunity<'a>>,
        }
        #[derive(Encode)]
        struct Earlier<'a> {
            #[b(0)]
            view: EncodedView<'a>,
            #[b(1)]
            session: Option<&'a str>,
            #[b(2)]
            user: &'a str,
        }
        let view = a_view("/1");
        let (session, user) = (Some("31"), "7");
        let later = row([Later {
            view: EncodedView::of(&view.view),
            session,
            user,
            community: Some("42"),
            more: Some(EncodedCommunity::Lookup("topic", "7")),
        }]
        .into_iter());
        assert_eq!(read_recorded(&later[1..]), Some(vec![view.clone()]));
        let earlier = row([Earlier {
            view: EncodedView::of(&view.view),
            session,
            user,
        }]
        .into_iter());
        let without = RecordedView {
            community: None,
            ..view
        };
        assert_eq!(read_recorded(&earlier[1..]), Some(vec![without]));
    }
}
