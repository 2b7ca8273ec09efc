//! Header lists: elements of comma-separated header values. Pure.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::AsHeaderName;

/// Whether `is` holds for any element of a header's comma-separated values, in lower case and without parameters.
/// Values that are not visible ASCII have no elements.
pub(crate) fn any_element(headers: &HeaderMap, name: impl AsHeaderName, is: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|element| element.split(';').next())
        .any(|element| is(&lower_case(element.trim())))
}

/// The text in lower case, which it usually is already.
fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}
