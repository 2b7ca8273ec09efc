//! Page views for the writer's tests.

use std::sync::Arc;

use chrono::DateTime;

use crate::batch::RecordedView;
use crate::geoip::Location;
use crate::page_view::device::DeviceInfo;
use crate::page_view::{PageView, RouteEvent};

/// A view of a page.
pub(crate) fn view(url: &str) -> PageView {
    PageView {
        at: DateTime::from_timestamp_millis(1_763_884_800_123).unwrap(),
        url: url.into(),
        route: Some("community".into()),
        page_type: None,
        community: None,
        finer: Arc::default(),
        referrer: None,
        search_query: None,
        status: 200,
        duration_ms: 7,
        client_ip: Some("198.51.100.7".parse().unwrap()),
        user_agent: "Firefox".into(),
        device: Arc::new(DeviceInfo {
            browser: "Firefox".into(),
            os: "Linux".into(),
            device: "desktop".into(),
        }),
        event: RouteEvent::default(),
    }
}

/// A view with a visitor.
pub(super) fn recorded(url: &str) -> RecordedView {
    RecordedView {
        view: view(url),
        session_id: Some("31".into()),
        user_id: "7".into(),
        community: Some("42".into()),
        location: Location::default(),
    }
}
