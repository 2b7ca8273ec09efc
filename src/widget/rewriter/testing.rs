//! A page that may get the widget, for tests.

use super::*;
use crate::config;
use crate::ids::CommunityId;

/// A page of community 42, without policies.
pub(in crate::widget) fn wanted() -> Insertion {
    Insertion {
        tag: Arc::new(Tag::new("/api/visitors/widget.js", &config::Widget::default())),
        community: CommunityId::from("42").into(),
        page: Page {
            tls: true,
            authority: Some("site.test".into()),
            prefix: String::new(),
        },
        policies: Policies::default(),
        paths: Arc::new(ResourcePaths {
            script: "/api/visitors/widget.js".into(),
            live: "/api/communities/{community}/visitors/live".into(),
        }),
    }
}
