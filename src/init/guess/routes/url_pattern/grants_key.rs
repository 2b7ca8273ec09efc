//! The key `grants` of a route: whether an answer of the app proves that its visitor may see the community.

use crate::init::guess::routes::GrantsKey;

/// Words in paths of pages that are shown to people who are not members yet.
const FOR_EVERYBODY: &[&str] = &[
    "join",
    "joining",
    "request",
    "apply",
    "application",
    "invite",
    "invitation",
    "invitations",
    "signup",
    "register",
    "registration",
    "subscribe",
    "enroll",
    "enrol",
    "follow",
    "about",
    "preview",
    "landing",
    "welcome",
];

/// The key `grants` of a route. `segments` are the literal ones after the group that names the community.
pub(super) fn grants(segments: &[String], is_own: bool) -> GrantsKey {
    let mut words = segments.iter().flat_map(|segment| segment.split(['-', '_']));
    if words.any(|word| FOR_EVERYBODY.contains(&word)) {
        GrantsKey::No
    } else if is_own {
        GrantsKey::Default
    } else {
        GrantsKey::Proposed
    }
}

/// The reason for the key, behind the route's own. `is_looked_up`: a row leads to the community.
pub(super) fn why(grants: GrantsKey, is_looked_up: bool) -> &'static str {
    match grants {
        GrantsKey::Default => "",
        GrantsKey::Proposed if is_looked_up => {
            "; set grants = true if the app shows this page only to those who may see its community"
        }
        GrantsKey::Proposed => {
            "; a page below the community: set grants = true if the app checks, before it answers, that the visitor may see the \
                 community in the path"
        }
        GrantsKey::No => {
            "; grants = false: people who are not members see such a page too, so that it proves no access to the community"
        }
    }
}
