//! Why the app did not answer a request. Pure.

use pingora_core::{Error, ErrorSource, ErrorType};
use rustix::io::Errno;

use crate::metrics::label_values;

label_values! {
    /// Why the app did not answer a request.
    pub enum UpstreamFailure as "reason" {
        /// No connection to any server tried.
        Connect => "connect",
        /// No connection or no answer in time.
        Timeout => "timeout",
        /// The app's connection broke before the end of the answer.
        Closed => "closed",
        /// The app's answer is not HTTP.
        Invalid => "invalid",
        /// The sidecar's own failure.
        Internal => "internal",
    }
}

impl UpstreamFailure {
    /// The kind of a failed exchange with this status for the client.
    pub(super) fn of(status: u16, kind: &ErrorType, source: &ErrorSource) -> Self {
        match kind {
            _ if status == 504 => Self::Timeout,
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::InternalError
                if *source == ErrorSource::Upstream || *kind == ErrorType::ConnectNoRoute =>
            {
                Self::Connect
            }
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Self::Closed,
            _ if *source == ErrorSource::Upstream => Self::Invalid,
            _ => Self::Internal,
        }
    }
}

/// Why no connection could be made, for operators. The error's own text is not used: it has more than the reason.
pub(super) fn connect_reason(error: &Error) -> String {
    let os = io_error(error);
    match (error.etype(), os.map(std::io::Error::kind)) {
        (ErrorType::ConnectTimedout, _) => "no connection within upstream.connect_timeout".into(),
        (ErrorType::ConnectRefused, _) => "connection refused".into(),
        (ErrorType::ConnectNoRoute, _) => "no route to it".into(),
        (_, Some(std::io::ErrorKind::NotFound)) => "the socket does not exist".into(),
        (_, Some(std::io::ErrorKind::PermissionDenied)) => {
            "permission denied: let this process' user write to the socket".into()
        }
        (kind, _) => os.map_or_else(|| kind.as_str().into(), ToString::to_string),
    }
}

/// What this process lacks for a connection, if that is why there is none. It says nothing about the server.
///
/// The system's word for having no port left is also that for an address of a kind that the machine does not have, so it
/// counts only for a server `was_up`.
pub(super) fn own_lack(error: &Error, was_up: bool) -> Option<String> {
    let error = io_error(error)?;
    let errno = Errno::from_raw_os_error(error.raw_os_error()?);
    let is_own = match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => true,
        Errno::ADDRNOTAVAIL => was_up,
        _ => false,
    };
    is_own.then(|| error.to_string())
}

fn io_error(error: &Error) -> Option<&std::io::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> =
        error.cause.as_deref().map(|cause| cause as _);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // Pingora's own errors have their cause in a field, and are boxed where they are one.
        let boxed = error.downcast_ref::<Box<Error>>().map(|error| &**error);
        cause = match boxed.or_else(|| error.downcast_ref()) {
            Some(Error { cause, .. }) => cause.as_deref().map(|cause| cause as _),
            None => error.source(),
        };
    }
    None
}
