//! Tests of rows in both forms. That files of version 1 are drained is shown with one, in `spool::tests::version_1`.

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::geoip::Location;
use crate::page_view::RouteEvent;
use crate::page_view::device::DeviceInfo;
use crate::routes::CommunityRef;
use crate::writer::testing::recorded;

fn community() -> impl Strategy<Value = CommunityRef> {
    let text = || any::<String>().prop_map(Into::into);
    prop_oneof![
        text().prop_map(CommunityRef::Id),
        text().prop_map(CommunityRef::Slug),
        (text(), text()).prop_map(|(lookup, key)| CommunityRef::Lookup(lookup, key)),
    ]
}

fn optional<T: std::fmt::Debug + From<String>>() -> impl Strategy<Value = Option<T>> {
    prop::option::of(any::<String>().prop_map(Into::into))
}

fn moment() -> impl Strategy<Value = DateTime<Utc>> {
    let seconds = DateTime::<Utc>::MIN_UTC.timestamp()..=DateTime::<Utc>::MAX_UTC.timestamp();
    // A leap second has more than a second's.
    (seconds, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
}

prop_compose! {
    fn page_view()(
        at in moment(),
        (url, user_agent) in any::<(String, String)>(),
        (route, page_type) in (optional(), optional()),
        community in prop::option::of(community()),
        (referrer, search_query) in (optional(), optional()),
        (status, duration_ms) in any::<(u16, u32)>(),
        client_ip in any::<Option<std::net::IpAddr>>(),
        (browser, os, device) in any::<(String, String, String)>(),
        (event_type, description) in (optional(), optional()),
        metadata in prop::collection::btree_map(any::<String>().prop_map(Into::into), any::<String>(), 0..3),
    ) -> PageView {
        let event = RouteEvent { event_type, metadata, description };
        let device = DeviceInfo { browser: browser.into(), os: os.into(), device: device.into() };
        PageView {
            at, url, route, page_type, community, referrer, search_query, status, duration_ms, client_ip,
            user_agent: user_agent.into(), device: device.into(), event, finer: std::sync::Arc::default(),
        }
    }
}

prop_compose! {
    fn recorded_view()(
        view in page_view(),
        session in prop::option::of(any::<String>()),
        user in any::<String>(),
        community in prop::option::of(any::<String>()),
    ) -> RecordedView {
        RecordedView {
            view,
            session_id: session.as_deref().map(Into::into),
            user_id: user.as_str().into(),
            community: community.as_deref().map(Into::into),
            location: Location::default(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn w31_a_row_reads_back_as_it_was_written(
        recorded in prop::collection::vec(recorded_view(), 0..4),
        views in prop::collection::vec((page_view(), any::<Option<(u64, u16)>>(), prop::option::of(any::<String>())), 0..4),
    ) {
        let bytes = StoredViews::Recorded(recorded.clone()).encode(&[]);
        prop_assert_eq!(Stored::decode(&bytes, false, checksum(&bytes)), Some(Stored::Recorded(recorded)));

        let mut places = Vec::new();
        let (mut unresolved, mut stored) = (Vec::new(), Vec::new());
        for (view, token, session) in views {
            let (whose, visitor) = if let Some((at, len)) = token {
                places.push(TokenRange { at, len });
                let token = VisitorRef::Token(SessionToken::new("a-token-of-somebody"));
                (token, StoredVisitor::Token(TokenRange { at, len }))
            } else {
                let id: Option<BrowserSessionId> = session.as_deref().map(Into::into);
                let user_id = UserId::from("7");
                let whose = VisitorRef::Session { id: id.clone(), user_id: user_id.clone() };
                (whose, StoredVisitor::Session { id, user_id })
            };
            unresolved.push(UnresolvedView { view: view.clone(), whose });
            stored.push(StoredView { view, whose: visitor });
        }
        let bytes = StoredViews::Unresolved(unresolved).encode(&places);
        let read = Stored::decode(&bytes, true, checksum(&bytes));
        prop_assert_eq!(read.as_ref().map(Stored::places), Some(places));
        prop_assert_eq!(read, Some(Stored::Unresolved(stored)));
    }

    #[test]
    fn w31_no_bytes_are_read_as_what_was_not_written(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in any::<bool>()) {
        // It ends, and takes no more memory than the bytes allow.
        let _ = Stored::decode(&[&[binary::FIRST], &bytes[..]].concat(), kind, 0);
        let row = [&[binary::FIRST], &bytes[..]].concat();
        let _ = Stored::decode(&row, kind, checksum(&row));
    }
}

/// What routes write of their own is kept; rows of before have nothing of it, in either form.
#[test]
fn v32_rows_of_an_earlier_version_are_read() {
    let of = |event: RouteEvent| {
        let mut recorded = recorded("/a");
        recorded.view.event = event;
        recorded
    };
    let read = |bytes: &[u8]| Stored::decode(bytes, false, checksum(bytes));
    let plain = of(RouteEvent::default());
    let json = serde_json::to_vec(&[&plain]).unwrap();
    assert!(!String::from_utf8_lossy(&json).contains("\"event\""));
    assert_eq!(read(&json), Some(Stored::Recorded(vec![plain])));

    let full = of(RouteEvent {
        event_type: Some("post_view".into()),
        metadata: [("post_id".into(), "7".to_owned())].into(),
        description: Some("Post 7".into()),
    });
    for bytes in [
        serde_json::to_vec(&[&full]).unwrap(),
        StoredViews::Recorded(vec![full.clone()]).encode(&[]),
    ] {
        assert_eq!(read(&bytes), Some(Stored::Recorded(vec![full.clone()])));
    }
}

#[test]
fn w31_a_row_that_was_cut_or_is_of_another_form_is_damaged() {
    let whole = StoredViews::Recorded(vec![recorded("/1"), recorded("/2")]).encode(&[]);
    let is_read = |bytes: &[u8]| Stored::decode(bytes, false, checksum(bytes)).is_some();
    assert!(is_read(&whole));
    assert!((0..whole.len()).all(|length| !is_read(&whole[..length])));
    assert!(!is_read(&[&whole[..], &[0]].concat()));
    assert!(!is_read(&[&[binary::FIRST + 1], &whole[1..]].concat()));
    assert!(Stored::decode(&whole, false, checksum(&whole) ^ 1).is_none());
}

#[test]
fn w31_a_row_takes_little_more_than_its_texts() {
    let view = recorded("/communities/42/");
    let texts = [
        "/communities/42/",
        "community",
        "Firefox",
        "Firefox",
        "Linux",
        "desktop",
        "31",
        "7",
        "42",
    ];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    let bytes = StoredViews::Recorded(vec![view; 100]).encode(&[]).len();
    assert!(
        bytes < 100 * (texts + 48),
        "{bytes}, the texts alone {}",
        100 * texts
    );
}
