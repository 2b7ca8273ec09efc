//! Headers whose values are lists. Pure.

use http::HeaderMap;

/// Whether any element of a header's comma-separated values, without parameters and in lower case, is one.
/// What is not ASCII is none.
pub(crate) fn any_element(headers: &HeaderMap, name: &str, is: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|element| element.split(';').next())
        .any(|element| is(&element.trim().to_ascii_lowercase()))
}
