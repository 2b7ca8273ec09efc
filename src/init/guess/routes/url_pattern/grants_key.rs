//! The key `grants` of a route: whether an answer of the app proves that its visitor may see the community.

use crate::init::catalogue::AppTable;
use crate::init::guess::routes::GrantsKey;
use crate::init::guess::routes::own_page::OwnPage;

/// What a pattern shows of a community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    /// The community's own page.
    Own,
    /// Its path ends at the community, as that of its own page does, but it is another one.
    Beside,
    /// A page below the community, or of a row of it.
    Below,
}

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
    "subscription",
    "subscriptions",
    "unsubscribe",
    "enroll",
    "enrol",
    "follow",
    "about",
    "preview",
    "landing",
    "welcome",
];

/// The key `grants` of a route. `segments` are the literal ones of its path.
pub(super) fn grants(segments: &[String], kind: PageKind) -> GrantsKey {
    let mut words = segments.iter().flat_map(|segment| segment.split(['-', '_']));
    if words.any(|word| FOR_EVERYBODY.contains(&word)) {
        return GrantsKey::No;
    }
    match kind {
        PageKind::Own => GrantsKey::Default,
        PageKind::Beside => GrantsKey::NotOwn,
        PageKind::Below => GrantsKey::Proposed,
    }
}

/// The reason for the key, behind the route's own. `is_looked_up`: a row leads to the community.
pub(super) fn why(grants: GrantsKey, is_looked_up: bool, community: &AppTable, own: &OwnPage) -> String {
    let word = community.word();
    match grants {
        GrantsKey::Default => String::new(),
        GrantsKey::Proposed if is_looked_up => {
            "; set grants = true if the app shows this page only to those who may see its community".into()
        }
        GrantsKey::Proposed => {
            "; a page below the community: set grants = true if the app checks, before it answers, that the visitor may see the \
                 community in the path"
                .into()
        }
        GrantsKey::No => {
            "; grants = false: people who are not members see such a page too, so that it proves no access to the community. \
             Those who open it count as its visitors all the same, and are listed: track = \"none\" counts nobody"
                .into()
        }
        GrantsKey::NotOwn => {
            let own = own.named().map_or_else(
                || format!("it is not known which page is the {word}'s own"),
                |own| format!("the {word}'s own page is that of {own}"),
            );
            format!(
                "; grants = false: {own}; remove the line if the app shows this page, too, only to those who may see the {word}"
            )
        }
    }
}
