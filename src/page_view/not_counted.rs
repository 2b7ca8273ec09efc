//! Why exchanges are not page views: the values of a label, and which of them are about the visitor.

use crate::metrics::label_values;

label_values! {
    /// Why an exchange is not a page view. One variant per reason; each is a label of
    /// `headcount_page_views_not_counted_total`.
    pub enum NotCounted as "reason" {
        /// No session cookie, so no user of the app.
        NoCookie => "no_cookie",
        /// A session cookie whose value cannot be a token, by its length or characters.
        NotAToken => "not_a_token",
        /// A token that the session table does not have.
        NoSession => "no_session",
        /// A token whose session is inactive, has ended, or has expired.
        SessionEnded => "session_ended",
        /// A token whose session names no user: a visitor who has not signed in.
        SignedOut => "signed_out",
        /// A token whose session names an account without a profile.
        NoProfile => "no_profile",
        /// A token whose session is of an account that the app has disabled.
        AccountDisabled => "account_disabled",
        /// A token whose session cannot be read.
        UnreadableSession => "unreadable_session",
        /// A JWT that identifies nobody: `headcount_jwts_refused_total` says why.
        Jwt => "jwt",
        /// Another sidecar counts it (V8).
        CountedElsewhere => "counted_elsewhere",
        /// The route says `track = "none"` (health checks, own endpoints).
        RouteExcluded => "route_excluded",
        /// No route matches and `record.unmatched` is off.
        Unmatched => "unmatched",
        /// Not GET (V1, V2).
        Method => "method",
        /// Upgrade, 101 (V2).
        Upgrade => "upgrade",
        /// 206 (V2).
        Partial => "partial",
        /// 3xx other than 304 (V2).
        Redirect => "redirect",
        /// 4xx and 5xx (V2).
        Error => "error",
        /// Any other status that is not 200; a 304 where requests are counted, not pages.
        Status => "status",
        /// Prefetch or prerender (V3).
        Prefetch => "prefetch",
        /// A frame inside a page (V2).
        Frame => "frame",
        /// Made by a script, an image or another subresource: not a navigation (V1).
        NotNavigation => "not_navigation",
        /// Event stream (V2).
        EventStream => "event_stream",
        /// Sent as a download (V2).
        Download => "download",
        /// Not HTML: a static file or data (V1, V4).
        NotHtml => "not_html",
        /// A robot (V4).
        Bot => "bot",
        /// A member whom the app hides, with `record.hidden = "ignore"`.
        Hidden => "hidden",
        /// The path names a community by a text that is no key of the app's type (V21).
        CommunityKey => "community_key",
    }
}

impl NotCounted {
    /// Whether it is a page that was looked at, by a visitor who is not known.
    pub fn is_of_the_visitor(self) -> bool {
        matches!(
            self,
            Self::NoCookie
                | Self::NotAToken
                | Self::NoSession
                | Self::SessionEnded
                | Self::SignedOut
                | Self::NoProfile
                | Self::AccountDisabled
                | Self::UnreadableSession
                | Self::Jwt
        )
    }
}
