//! What a release that reads no JWTs makes of the rows of this one: there each view is of a session.

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::ids::UserId;

/// A view that can be applied, as that release has it.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read counts")]
struct FormerRecorded {
    view: Value,
    session_id: String,
    user_id: String,
    community: Option<String>,
}

/// One that must be resolved first.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read counts")]
struct FormerUnresolved {
    view: Value,
    token: Option<Value>,
    session: Option<(String, String)>,
}

fn unresolved(id: Option<&str>) -> StoredViews {
    StoredViews::Unresolved(vec![UnresolvedView {
        view: view("/x"),
        whose: VisitorRef::Session {
            id: id.map(Into::into),
            user_id: UserId::from("7"),
        },
    }])
}

#[test]
fn i33_a_former_release_reads_all_that_waits_but_views_of_jwts_without_a_session() {
    let reads = |stored: &StoredViews| {
        let bytes = stored.encode(&[]);
        match stored {
            StoredViews::Recorded(_) => serde_json::from_slice::<Vec<FormerRecorded>>(&bytes).is_ok(),
            StoredViews::Unresolved(_) => serde_json::from_slice::<Vec<FormerUnresolved>>(&bytes).is_ok(),
        }
    };
    let mut of_a_jwt = recorded("/x");
    of_a_jwt.session_id = None;
    assert!(reads(&StoredViews::Recorded(vec![recorded("/x")])));
    assert!(reads(&unresolved(Some("31"))));
    // The whole row, with the views of others.
    assert!(!reads(&StoredViews::Recorded(vec![recorded("/x"), of_a_jwt])));
    assert!(!reads(&unresolved(None)));
}
