//! Close codes: why a connection ends, and how the client is told. Pure.
//!
//! | code | |
//! |---|---|
//! | 1001 | the sidecar is shutting down: reconnect |
//! | 1002, 1007, 1009 | the client broke the protocol, sent what is not UTF-8, or too long a message |
//! | 1003 | the client sent a binary message |
//! | 1013 | access cannot be checked now, or a limit is reached: reconnect later |
//! | 4400 | the client sent a text that is no request |
//! | 4401 | the session has ended |
//! | 4404 | no community is left that exists and that the client may see |
//! | 4413 | more than a hundred communities |
//! | 4429 | too many messages, or bytes |

/// Why the sidecar ends a connection with a close message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The sidecar is shutting down.
    GoingAway,
    /// The client broke the protocol.
    Protocol,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A message that is too long.
    TooLong,
    /// A binary message.
    Binary,
    /// Session or access cannot be checked, or a limit is reached.
    Unavailable,
    /// A message that is no request.
    Malformed,
    /// The session is no longer valid (I5).
    SessionEnded,
    /// No community is left.
    Unknown,
    /// Too many communities.
    TooMany,
    /// Too many messages, or bytes.
    TooOften,
}

impl Close {
    /// The close code.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooLong => 1009,
            Self::Unavailable => 1013,
            Self::Malformed => 4400,
            Self::SessionEnded => 4401,
            Self::Unknown => 4404,
            Self::TooMany => 4413,
            Self::TooOften => 4429,
        }
    }

    /// A short text for people.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "the server is shutting down",
            Self::Protocol => "not the WebSocket protocol",
            Self::Binary => "only text is understood",
            Self::NotUtf8 => "text must be UTF-8",
            Self::TooLong => "the message is too long",
            Self::Unavailable => "cannot be answered right now",
            Self::Malformed => "no such request",
            Self::SessionEnded => "the session has ended",
            Self::Unknown => "no such community, or you may not see it",
            Self::TooMany => "too many communities",
            Self::TooOften => "too many messages",
        }
    }

    /// Whether reconnecting soon may help.
    pub(super) fn invites_back(self) -> bool {
        matches!(self, Self::GoingAway | Self::Unavailable)
    }

    fn label(self) -> &'static str {
        match self {
            Self::GoingAway => "going_away",
            Self::Protocol | Self::NotUtf8 | Self::Binary => "protocol",
            Self::TooLong => "too_long",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::SessionEnded => "session_ended",
            Self::Unknown => "unknown",
            Self::TooMany => "too_many",
            Self::TooOften => "too_often",
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed it, with or without a close message.
    Gone,
    /// The sidecar closed it, with this reason.
    Closed(Close),
    /// The client did not answer pings in time (L3).
    Dead,
    /// A write took too long.
    Stuck,
}

impl End {
    /// The metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Gone => "client",
            Self::Closed(close) => close.label(),
            Self::Dead => "dead",
            Self::Stuck => "stuck",
        }
    }
}

/// Values of the `reason` label.
pub const ENDS: [&str; 12] = [
    "client",
    "dead",
    "going_away",
    "malformed",
    "protocol",
    "session_ended",
    "stuck",
    "too_long",
    "too_many",
    "too_often",
    "unavailable",
    "unknown",
];

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Close; 11] = [
        Close::GoingAway,
        Close::Protocol,
        Close::NotUtf8,
        Close::TooLong,
        Close::Binary,
        Close::Unavailable,
        Close::Malformed,
        Close::SessionEnded,
        Close::Unknown,
        Close::TooMany,
        Close::TooOften,
    ];

    #[test]
    fn every_end_has_a_label_that_is_known_beforehand() {
        for end in [End::Gone, End::Dead, End::Stuck] {
            assert!(ENDS.contains(&end.label()));
        }
        for close in ALL {
            assert!(ENDS.contains(&End::Closed(close).label()));
        }
    }

    #[test]
    fn codes_are_documented_and_reasons_fit_a_control_frame() {
        let manual = include_str!("../api/README.md");
        for close in ALL {
            assert!(close.reason().len() <= 123);
            let row = format!("| {} |", close.code());
            assert!(manual.contains(&row), "src/api/README.md lacks {row}");
        }
    }
}
