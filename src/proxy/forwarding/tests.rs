//! Tests of forwarding headers: path prefixes and hosts.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[test]
fn e17_a_prefix_is_a_path_and_nothing_that_leads_elsewhere() {
    for (value, expected) in [
        ("/shop", "/shop"),
        ("/shop/", "/shop"),
        ("/a/b", "/a/b"),
        ("/a, /b", "/a/b"),
        ("/", ""),
        ("", ""),
        ("shop", ""),
        ("//evil.test", ""),
        ("/\\evil.test", ""),
        ("/a//b", ""),
        ("/a/../b", ""),
        ("/a\"><script>", ""),
        ("/a?b", ""),
        ("https://evil.test/", ""),
    ] {
        assert_eq!(
            prefix(&headers(&[("x-forwarded-prefix", value)])),
            expected,
            "{value}"
        );
        assert_eq!(prefix(&headers(&[("x-script-name", value)])), expected, "{value}");
    }
    let both = [("x-forwarded-prefix", "/shop"), ("x-script-name", "/other")];
    assert_eq!(prefix(&headers(&both)), "/shop");
}

proptest! {
    #[test]
    fn anything_is_read_without_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut all = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            for name in [&PROTO, &HOST, &PORT, &FORWARDED].into_iter().chain(&SCHEMES) {
                all.append(name, value.clone());
                all.append(name, value.clone());
            }
        }
        let values = read(&all, &ClientIp::default());
        prop_assert!(values.host.is_none_or(is_host));
    }
}
