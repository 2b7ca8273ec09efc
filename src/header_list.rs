//! Header lists: elements of comma-separated header values. Pure.

use http::HeaderMap;

/// Whether `is` holds for any element of a header's comma-separated values, in lower case and without parameters.
/// Values that are not visible ASCII have no elements.
pub(crate) fn any_element(headers: &HeaderMap, name: &str, is: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|element| element.split(';').next())
        .any(|element| is(&element.trim().to_ascii_lowercase()))
}
