//! Header lists: elements of comma-separated header values. Pure.

use std::borrow::Cow;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderValue};

/// Whether `is` holds for any element of a header's comma-separated values, in lower case and without parameters.
/// Values that are not visible ASCII have no elements.
pub(crate) fn any_element(headers: &HeaderMap, name: impl AsHeaderName, is: impl Fn(&str) -> bool) -> bool {
    let element_is = |element: &str| {
        let end = element.find(';').unwrap_or(element.len());
        is(&lower_case(element[..end].trim_ascii()))
    };
    let value_has = |value: &HeaderValue| {
        let text = value.to_str();
        text.is_ok_and(|text| text.split(',').any(element_is))
    };
    headers.get_all(name).iter().any(value_has)
}

/// The text in lower case, which it usually is already.
fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}
