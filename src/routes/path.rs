//! Request path as the app sees it: decoded once, never normalised.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr;
use percent_encoding::percent_decode;

/// The path of a request target, percent-decoded exactly once, as Django under WSGI makes its `PATH_INFO`:
///
/// - what follows `?` or `#` is not part of it; of an absolute-form target (`http://host/a`) only the path
///   is; an empty path is `/`;
/// - `%2F` becomes `/` and `%00` a NUL; `%252F` becomes `%2F`; an incomplete escape and `+` stay;
/// - `//` and `..` stay: the app sees them, so patterns see them;
/// - bytes that are not UTF-8 are percent-encoded again (Django's `repercent_broken_unicode`).
///
/// Borrows when there is nothing to decode.
pub fn decode_path(target: &[u8]) -> Cow<'_, str> {
    let path = path_of(target);
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    if memchr(b'%', path).is_none()
        && let Ok(text) = std::str::from_utf8(path)
    {
        return Cow::Borrowed(text);
    }
    match Cow::<[u8]>::from(percent_decode(path)) {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(encode_broken_utf8(bytes)),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Cow::Owned(text),
            Err(error) => Cow::Owned(encode_broken_utf8(error.as_bytes())),
        },
    }
}

fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = &target[..end.unwrap_or(target.len())];
    if path.first() == Some(&b'/') {
        return path;
    }
    let Some(scheme) = path.windows(3).position(|window| window == b"://") else {
        return path;
    };
    let after_scheme = &path[scheme + 3..];
    match after_scheme.iter().position(|&byte| byte == b'/') {
        Some(slash) => &after_scheme[slash..],
        None => b"",
    }
}

fn encode_broken_utf8(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_decoded_once_as_the_app_does() {
        let table: &[(&[u8], &str)] = &[
            (b"/communities/42/", "/communities/42/"),
            (b"/communities/42/?tab=posts", "/communities/42/"),
            (b"/communities/42/#top", "/communities/42/"),
            (b"", "/"),
            (b"?a=1", "/"),
            (b"*", "*"),
            // One decoding, not two.
            (b"/communities%2f42", "/communities/42"),
            (b"/communities%2F42%2F", "/communities/42/"),
            (b"/communities%252f42", "/communities%2f42"),
            (b"/%25252f", "/%252f"),
            (b"/%3Fa=1", "/?a=1"),
            (b"/a%23b", "/a#b"),
            // Not normalised.
            (b"//communities/42", "//communities/42"),
            (b"//evil.example/communities/42", "//evil.example/communities/42"),
            (b"/a/../communities/42", "/a/../communities/42"),
            (b"/a/%2e%2e/communities/42", "/a/../communities/42"),
            (b"/./a", "/./a"),
            (b"/a;b=c", "/a;b=c"),
            (b"/a+b", "/a+b"),
            (b"/a%20b", "/a b"),
            // NUL and other control characters reach the app, so they reach the patterns.
            (b"/communities/42%00", "/communities/42\0"),
            (b"/communities/42%0a", "/communities/42\n"),
            // Incomplete escapes stay.
            (b"/100%", "/100%"),
            (b"/a%2", "/a%2"),
            (b"/a%zz", "/a%zz"),
            // UTF-8, and what is not.
            (b"/caf%C3%A9", "/caf\u{e9}"),
            ("/caf\u{e9}".as_bytes(), "/caf\u{e9}"),
            (b"/caf%E9", "/caf%E9"),
            (b"/caf\xe9", "/caf%E9"),
            (b"/%f0%90%80World", "/%F0%90%80World"),
            (b"/%C0%AF", "/%C0%AF"),
            (b"/%ED%A0%80", "/%ED%A0%80"),
            (b"/%ff%2F%fe", "/%FF/%FE"),
            // Absolute form.
            (b"http://site.example/communities/42?x=1", "/communities/42"),
            (b"https://site.example", "/"),
            (b"https://site.example?x=/a", "/"),
            (b"/http://site.example/a", "/http://site.example/a"),
        ];
        for (raw, decoded) in table {
            assert_eq!(&decode_path(raw), decoded, "{:?}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn a_very_long_path_is_decoded_whole() {
        let raw = format!("/{}", "%41".repeat(100_000));
        assert_eq!(decode_path(raw.as_bytes()).len(), 100_001);
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        assert!(matches!(decode_path(b"/communities/42/"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_path(&raw);
        }

        #[test]
        fn an_encoded_path_decodes_to_what_it_was(path in "/[^?#%]{0,60}") {
            let raw = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC)
                .to_string();
            // The leading slash is encoded too, and `path_of` looks for a scheme only before a slash.
            prop_assert_eq!(decode_path(raw.as_bytes()), path);
        }
    }
}
