//! A page's own origin, as its browser knows it. Pure.

use std::borrow::Cow;

/// The page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Whether it came over TLS.
    pub(crate) tls: bool,
    /// Name and port, where they are known.
    pub(crate) authority: Option<String>,
    /// The path under which the browser sees the site: empty, or with a slash at its start and none at its end.
    pub(crate) prefix: String,
}

impl Page {
    /// A path of the site, as the browser sees it.
    pub(super) fn below<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(format!("{}{path}", self.prefix))
        }
    }

    /// The scheme of its address.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Whether a `<base>` with this `href`, as it is written, certainly leaves absolute paths on the page's own
    /// origin.
    pub(super) fn is_base_of_its_own(&self, href: &str) -> bool {
        // Browsers drop control characters anywhere, and read `\\` as `/`; character references are not decoded
        // here.
        let is_odd = |c: char| c.is_ascii_control() || matches!(c, '\\' | '&');
        let href = href.trim_matches(|c: char| c.is_ascii_control() || c == ' ');
        if href.contains(is_odd) {
            return false;
        }
        let (scheme, rest) = match href.find([':', '/', '?', '#']) {
            Some(end) if href[end..].starts_with(':') => (Some(&href[..end]), &href[end + 1..]),
            _ => (None, href),
        };
        if scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case(self.scheme())) {
            return false;
        }
        match rest.strip_prefix("//") {
            None => scheme.is_none(),
            Some(rest) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let own = self.authority.as_deref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(authority))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_the_pages_own_only_where_that_is_sure() {
        let page = |authority: Option<&str>| Page {
            tls: true,
            authority: authority.map(str::to_owned),
            prefix: String::new(),
        };
        let own = page(Some("site.test:8443"));
        for href in [
            "",
            "/",
            " /app/\n",
            "app/",
            "?a:b",
            "#a:b",
            "./a:b",
            "https://site.test:8443",
            "HTTPS://Site.Test:8443/app/",
            "//site.test:8443/app/",
        ] {
            assert!(own.is_base_of_its_own(href), "{href:?}");
        }
        for href in [
            "//cdn.example/",
            "https://cdn.example/",
            "https://site.test/",
            "https://site.test:8443@cdn.example/",
            "https://site.test:8443.cdn.example/",
            "http://site.test:8443/",
            "https:cdn.example",
            "https:/cdn.example",
            "///cdn.example",
            "/\\cdn.example",
            "\\\\cdn.example",
            "/\t/cdn.example",
            "\u{1} //cdn.example",
            "&#47;/cdn.example",
            "ht\ntps://cdn.example",
            "javascript:0",
            "data:text/html,",
            ":a",
        ] {
            assert!(!own.is_base_of_its_own(href), "{href:?}");
        }
        assert!(page(None).is_base_of_its_own("/app/"));
        assert!(!page(None).is_base_of_its_own("https://site.test/"));
    }
}
