//! Close codes: why a connection ends, and how the client is told. Pure.
//!
//! | code | |
//! |---|---|
//! | 1001 | the sidecar is shutting down: reconnect |
//! | 1002, 1007, 1009 | the client broke the protocol, sent what is not UTF-8, or too long a message |
//! | 1003 | the client sent a binary message |
//! | 1013 | access cannot be checked now, or a limit is reached: reconnect later |
//! | 4400 | the client sent a text that is no request |
//! | 4401 | the session has ended, the JWT has expired, or the server's key is no longer valid |
//! | 4404 | no community is left that exists and that the client may see |
//! | 4413 | more than a hundred communities |
//! | 4429 | too many messages, or bytes |

use crate::metrics::label_values;

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
    /// The server's key is no longer valid as it was.
    KeyEnded,
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
            Self::SessionEnded | Self::KeyEnded => 4401,
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
            Self::KeyEnded => "the key is no longer valid, or has changed",
            Self::Unknown => "no such community, or you may not see it",
            Self::TooMany => "too many communities",
            Self::TooOften => "too many messages",
        }
    }

    /// Whether reconnecting soon may help.
    pub(super) fn invites_back(self) -> bool {
        matches!(self, Self::GoingAway | Self::Unavailable)
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
    pub(super) fn label(self) -> EndLabel {
        match self {
            Self::Gone => EndLabel::Client,
            Self::Dead => EndLabel::Dead,
            Self::Stuck => EndLabel::Stuck,
            Self::Closed(close) => match close {
                Close::GoingAway => EndLabel::GoingAway,
                Close::Protocol | Close::NotUtf8 | Close::Binary => EndLabel::Protocol,
                Close::TooLong => EndLabel::TooLong,
                Close::Unavailable => EndLabel::Unavailable,
                Close::Malformed => EndLabel::Malformed,
                Close::SessionEnded => EndLabel::SessionEnded,
                Close::KeyEnded => EndLabel::KeyEnded,
                Close::Unknown => EndLabel::Unknown,
                Close::TooMany => EndLabel::TooMany,
                Close::TooOften => EndLabel::TooOften,
            },
        }
    }
}

label_values! {
    /// Why a connection ended, as the metric tells it.
    pub enum EndLabel as "reason" {
        /// See [`End::Gone`].
        Client => "client",
        /// See [`End::Dead`].
        Dead => "dead",
        /// See [`End::Stuck`].
        Stuck => "stuck",
        /// See [`Close::GoingAway`].
        GoingAway => "going_away",
        /// See [`Close::KeyEnded`].
        KeyEnded => "key_ended",
        /// See [`Close::Malformed`].
        Malformed => "malformed",
        /// See [`Close::Protocol`], [`Close::NotUtf8`] and [`Close::Binary`].
        Protocol => "protocol",
        /// See [`Close::SessionEnded`].
        SessionEnded => "session_ended",
        /// See [`Close::TooLong`].
        TooLong => "too_long",
        /// See [`Close::TooMany`].
        TooMany => "too_many",
        /// See [`Close::TooOften`].
        TooOften => "too_often",
        /// See [`Close::Unavailable`].
        Unavailable => "unavailable",
        /// See [`Close::Unknown`].
        Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Close; 12] = [
        Close::GoingAway,
        Close::Protocol,
        Close::NotUtf8,
        Close::TooLong,
        Close::Binary,
        Close::Unavailable,
        Close::Malformed,
        Close::SessionEnded,
        Close::KeyEnded,
        Close::Unknown,
        Close::TooMany,
        Close::TooOften,
    ];

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
