//! Where a redirect leads. Pure.

use std::borrow::Cow;

use crate::routes::decode_path;

/// The path that a `Location` leads to from the page at `from`, both decoded once; whichever host it is on. None where it is no
/// address of a page.
pub(super) fn path(from: &str, location: &[u8]) -> Option<String> {
    let location = location.trim_ascii();
    let is_end = |byte: &u8| matches!(byte, b'?' | b'#');
    let end = location.iter().position(is_end).unwrap_or(location.len());
    let place = &location[..end];
    if place.is_empty() {
        return Some(from.to_owned());
    }
    if let Some(rest) = place.strip_prefix(b"//") {
        return Some(without_dots(&decode_path(of_host(rest))));
    }
    if place.starts_with(b"/") {
        return Some(without_dots(&decode_path(place)));
    }
    // RFC 3986: a scheme ends before the first slash.
    let segment = place.split(|byte| *byte == b'/').next().unwrap_or_default();
    if let Some(colon) = segment.iter().position(|byte| *byte == b':') {
        let is_web = [&b"http"[..], b"https"]
            .iter()
            .any(|scheme| place[..colon].eq_ignore_ascii_case(scheme));
        let rest = place[colon + 1..].strip_prefix(b"//").filter(|_| is_web)?;
        return Some(without_dots(&decode_path(of_host(rest))));
    }
    let folder = from.rfind('/').map_or("/", |slash| &from[..=slash]);
    let relative: Cow<'_, str> = decode_path(place);
    Some(without_dots(&format!("{folder}{relative}")))
}

/// The path behind a host.
fn of_host(rest: &[u8]) -> &[u8] {
    let slash = rest.iter().position(|byte| *byte == b'/');
    slash.map_or(b"/", |slash| &rest[slash..])
}

/// As browsers follow it: `.` and `..` are gone through.
fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    if ends_in_folder {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {

    #[test]
    fn a25_a_redirect_is_followed_as_browsers_follow_it() {
        for (location, path) in [
            ("/tickets/", "/tickets/"),
            ("/accounts/login/?next=/c/42/", "/accounts/login/"),
            ("https://other.example/c/42/", "/c/42/"),
            ("HTTP://site.example", "/"),
            ("//www.site.example/c/42/#top", "/c/42/"),
            ("/c/%34%32/", "/c/42/"),
            ("?page=1", "/c/42/news"),
            ("", "/c/42/news"),
            ("#top", "/c/42/news"),
            ("news/", "/c/42/news/"),
            ("./", "/c/42/"),
            ("../43/", "/c/43/"),
            ("/c/42/../43/./", "/c/43/"),
            ("../../../..", "/"),
        ] {
            assert_eq!(
                super::path("/c/42/news", location.as_bytes()).as_deref(),
                Some(path),
                "{location}"
            );
        }
        for location in ["javascript:alert(1)", "mailto:a@b", "https:/c/42/"] {
            assert_eq!(super::path("/c/42/news", location.as_bytes()), None, "{location}");
        }
    }
}
