//! Where a JWT is in a request: `Authorization`, a `WebSocket`'s subprotocol, or a query parameter. Pure.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

/// The credentials of `Authorization`, if its scheme is one of `types`. Several such headers
/// give an empty text, which is no JWT.
pub(super) fn in_authorization<'h>(headers: &'h HeaderMap, types: &[String]) -> Option<&'h str> {
    let mut found = None;
    for value in headers.get_all(AUTHORIZATION) {
        let bytes = value.as_bytes().trim_ascii();
        let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
        let (scheme, credentials) = bytes.split_at(end);
        let is_ours = |scheme: &[u8]| {
            types
                .iter()
                .any(|ours| ours.as_bytes().eq_ignore_ascii_case(scheme))
        };
        if is_ours(scheme) {
            let credentials = std::str::from_utf8(credentials.trim_ascii()).unwrap_or_default();
            found = Some(if found.is_some() { "" } else { credentials });
        }
    }
    found
}

/// The rest of the first subprotocol that begins with `prefix`.
pub(super) fn in_protocols<'h>(headers: &'h HeaderMap, prefix: &str) -> Option<&'h str> {
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols = protocols.filter_map(|value| value.to_str().ok());
    protocols
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(prefix))
}

/// The value of a query parameter; that of the first, if there are several.
pub(super) fn in_query<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// The query without a parameter. The others stay as they are spelled.
pub(super) fn without<'q>(query: &'q str, name: &str) -> Cow<'q, str> {
    let is_other = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).all(|(key, _)| key != name);
    if query.split('&').all(|pair| is_other(&pair)) {
        return query.into();
    }
    let others: Vec<&str> = query.split('&').filter(is_other).collect();
    others.join("&").into()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn i23_the_scheme_of_authorization_decides() {
        let types = ["Bearer".to_owned(), "JWT".to_owned()];
        for (values, jwt) in [
            (&["Bearer a.b.c"][..], Some("a.b.c")),
            (&["bearer  a.b.c "], Some("a.b.c")),
            (&["JWT x"], Some("x")),
            (&["Bearer"], Some("")),
            (&["Basic YTpi"], None),
            (&["Bearerx a.b.c"], None),
            (&["Basic YTpi", "Bearer x"], Some("x")),
            (&["Bearer x", "Bearer y"], Some("")),
            (&[], None),
        ] {
            assert_eq!(
                in_authorization(&headers(&AUTHORIZATION, values), &types),
                jwt,
                "{values:?}"
            );
        }
    }

    #[test]
    fn i28_the_jwt_is_one_of_the_subprotocols() {
        for (values, jwt) in [
            (&["headcount, bearer.a.b.c"][..], Some("a.b.c")),
            (&["headcount", "bearer.a.b.c"], Some("a.b.c")),
            (&["headcount"], None),
            (&["Bearer.a.b.c"], None),
        ] {
            let headers = headers(&SEC_WEBSOCKET_PROTOCOL, values);
            assert_eq!(in_protocols(&headers, "bearer."), jwt, "{values:?}");
        }
    }

    #[test]
    fn i28_the_query_goes_on_without_the_jwt() {
        for (query, jwt, rest) in [
            ("access_token=a.b&x=%20y", Some("a.b"), "x=%20y"),
            ("x=1&access%5Ftoken=a", Some("a"), "x=1"),
            ("access_token=a&access_token=b", Some("a"), ""),
            ("x=access_token", None, "x=access_token"),
            ("", None, ""),
        ] {
            assert_eq!(in_query(query, "access_token").as_deref(), jwt, "{query}");
            assert_eq!(without(query, "access_token"), rest, "{query}");
        }
    }
}
