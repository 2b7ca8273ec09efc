//! Character encodings that keep ASCII, so that a page can be searched without being decoded. Pure.

use encoding_rs::Encoding;

/// The `charset` of a `Content-Type`.
pub(crate) fn of_content_type(value: &str) -> Option<&str> {
    value.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// Whether a label names an encoding in which ASCII stands for itself. Browsers ignore unknown labels.
pub(crate) fn is_like_ascii(label: &str) -> bool {
    Encoding::for_label(label.as_bytes()).is_none_or(Encoding::is_ascii_compatible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charset_is_found_among_parameters() {
        for value in [
            "text/html; charset=koi8-r",
            "text/html;a=b;CHARSET = \"koi8-r\" ; c",
            "text/html; charset='koi8-r'",
        ] {
            assert_eq!(of_content_type(value), Some("koi8-r"), "{value}");
        }
        for value in ["text/html", "charset=koi8-r", "text/html; xcharset=koi8-r", ""] {
            assert_eq!(of_content_type(value), None, "{value}");
        }
    }

    #[test]
    fn encodings_that_keep_ascii_are_known() {
        for label in ["utf-8", "UTF8", "latin1", "shift_jis", "gb18030", "x-unknown"] {
            assert!(is_like_ascii(label), "{label}");
        }
        for label in ["utf-16", "UTF-16LE", "iso-2022-jp", "hz-gb-2312", "iso-2022-kr"] {
            assert!(!is_like_ascii(label), "{label}");
        }
    }
}
