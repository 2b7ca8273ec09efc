//! Loop detection: which sidecars a request has passed, so that one that comes back is refused. If the upstream is the
//! sidecar itself, perhaps through other proxies, one request would otherwise take all connections. Pure.
//!
//! Each sidecar adds an id of its own to `X-Headcount-Hops`. The header is accepted from every client: the way back may
//! lead through untrusted proxies, and a made-up header only gets the sender's own request refused.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

/// The ids of the sidecars passed, separated by commas.
pub(super) static X_HEADCOUNT_HOPS: HeaderName = HeaderName::from_static("x-headcount-hops");

/// Upper bound of sidecars that a request may pass.
const MAX_HOPS: usize = 8;
/// Length of an id: hexadecimal digits.
const ID_LENGTH: usize = 16;

/// An id that no other process has.
pub(super) fn new_id() -> String {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(ID_LENGTH);
    id
}

/// The header's value with `own` added; `None` for a request that was here before, or has passed too many.
pub(super) fn passed<'a>(headers: &HeaderMap, own: &'a str) -> Option<Cow<'a, str>> {
    if !headers.contains_key(&X_HEADCOUNT_HOPS) {
        return Some(own.into());
    }
    let is_id = |id: &str| id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let values = headers.get_all(&X_HEADCOUNT_HOPS).iter();
    let mut passed: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|id| is_id(id))
        .take(MAX_HOPS + 1)
        .collect();
    if passed.len() >= MAX_HOPS || passed.contains(&own) {
        return None;
    }
    passed.push(own);
    Some(passed.join(", ").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&X_HEADCOUNT_HOPS, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_sidecar_adds_itself_and_knows_itself_again() {
        let (one, other) = (new_id(), new_id());
        let first = passed(&headers(&[]), &one).unwrap();
        assert_eq!(first, one);
        let second = passed(&headers(&[&first]), &other).unwrap();
        assert_eq!(second, format!("{one}, {other}"));
        assert_eq!(passed(&headers(&[&second]), &one), None);
        assert_eq!(passed(&headers(&[&other, &first]), &one), None);
    }

    #[test]
    fn what_is_no_id_is_left_out_and_too_many_are_refused() {
        let own = new_id();
        assert_eq!(passed(&headers(&["<script>, x", "0123"]), &own).unwrap(), own);
        let many: Vec<_> = (0..MAX_HOPS).map(|_| new_id()).collect();
        assert!(passed(&headers(&[&many[1..].join(",")]), &own).is_some());
        assert_eq!(passed(&headers(&[&many.join(",")]), &own), None);
    }
}
