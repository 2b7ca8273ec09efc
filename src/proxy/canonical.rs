//! Canonical request head: one form for what a client may write in several, made before anything else reads the head.
//!
//! - `http://site/a?b` becomes `/a?b`, as app servers expect it; its authority is in `Host`.
//! - `Content-Length: 5, 5`, or twice 5, becomes `5`. (Lengths that differ were refused.)
//! - An `Expect` that comes with HTTP/1.0 is dropped: that version has no interim answer (RFC 9110, 10.1.1).

use std::borrow::Cow;

use http::{HeaderMap, Method, Version, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_http::authority::{RawTargetAuthority, raw_target_authority};

/// Brings a request's head into canonical form.
///
/// # Errors
/// The target's path is invalid, which the parser does not let through.
pub(super) fn canonicalise(request: &mut RequestHeader) -> Result<()> {
    if let Some((authority, target)) = origin_form(request.raw_path(), &request.method) {
        let (authority, target) = (authority.to_vec(), target.into_owned());
        if !request.headers.contains_key(header::HOST) && request.version == Version::HTTP_10 {
            request.insert_header(header::HOST, authority)?;
        }
        request.set_raw_path(&target)?;
    }
    if let Some(length) = one_length(&request.headers) {
        request.insert_header(header::CONTENT_LENGTH, length)?;
    }
    if request.version == Version::HTTP_10 {
        request.remove_header(&header::EXPECT);
    }
    Ok(())
}

/// Authority, and path with query, of a target in absolute form.
fn origin_form<'a>(target: &'a [u8], method: &Method) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let RawTargetAuthority::Absolute {
        scheme,
        authority,
        path_and_query,
    } = raw_target_authority(target)
    else {
        return None;
    };
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    if !is_http {
        return None;
    }
    let path = match path_and_query.first() {
        // The target is the server itself (RFC 9112, 3.2.4).
        None if method == Method::OPTIONS => Cow::Borrowed(&b"*"[..]),
        Some(b'/') => Cow::Borrowed(path_and_query),
        _ => Cow::Owned([b"/", path_and_query].concat()),
    };
    Some((authority, path))
}

/// The length of a message that states it several times; `None` where it states it once, or not at all.
pub(super) fn one_length(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = values.next()?.to_str().ok()?;
    if values.next().is_none() && !first.contains(',') {
        return None;
    }
    let length = first.split(',').next().unwrap_or(first).trim();
    Some(length.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(
        method: &str,
        target: &str,
        version: Version,
        headers: &[(&'static str, &str)],
    ) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.set_version(version);
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        canonicalise(&mut request).unwrap();
        request
    }

    #[test]
    fn a_target_in_absolute_form_becomes_a_path() {
        for (method, target, path) in [
            ("GET", "http://site.test/a/b?c=d", "/a/b?c=d"),
            ("GET", "HTTPS://site.test/a", "/a"),
            ("GET", "http://site.test", "/"),
            ("GET", "http://site.test?q", "/?q"),
            ("OPTIONS", "http://site.test", "*"),
            ("OPTIONS", "http://site.test/", "/"),
            ("GET", "/http://other.test/", "/http://other.test/"),
            ("GET", "ftp://site.test/a", "ftp://site.test/a"),
            ("OPTIONS", "*", "*"),
        ] {
            let request = canonical(method, target, Version::HTTP_11, &[("Host", "site.test")]);
            assert_eq!(request.raw_path(), path.as_bytes(), "{target}");
            assert_eq!(request.headers["host"], "site.test");
        }
        let request = canonical("GET", "http://site.test:81/a", Version::HTTP_10, &[]);
        assert_eq!(
            (request.raw_path(), &request.headers["host"]),
            (&b"/a"[..], &"site.test:81".parse().unwrap())
        );
    }

    #[test]
    fn a_length_is_said_once() {
        let length = |headers| {
            let request = canonical("POST", "/", Version::HTTP_11, headers);
            let values = request.headers.get_all("content-length").iter();
            let values: Vec<String> = values.map(|value| value.to_str().unwrap().to_owned()).collect();
            values
        };
        assert_eq!(length(&[("content-length", "5, 5")]), ["5"]);
        assert_eq!(length(&[("content-length", "5"), ("content-length", "5")]), ["5"]);
        assert_eq!(length(&[("content-length", "7")]), ["7"]);
        assert!(length(&[]).is_empty());
    }

    #[test]
    fn http_1_0_expects_nothing() {
        let expect = [("expect", "100-continue")];
        assert!(
            !canonical("POST", "/", Version::HTTP_10, &expect)
                .headers
                .contains_key("expect")
        );
        assert!(
            canonical("POST", "/", Version::HTTP_11, &expect)
                .headers
                .contains_key("expect")
        );
    }
}
