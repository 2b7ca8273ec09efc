//! Tests of policies as sites have them.

use proptest::prelude::*;

use super::*;

const SCRIPT: &str = "/api/visitors/widget.js";
const LIVE: &str = "/api/visitors/live";

fn page(tls: bool) -> Page {
    Page {
        tls,
        authority: Some("site.test".into()),
        prefix: String::new(),
    }
}

fn verdict_of(policies: &[&str], page: &Page) -> Result<Option<String>, Blocked> {
    let mut headers = HeaderMap::new();
    for policy in policies {
        headers.append(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
    }
    Policies::of(&headers).verdict(page, SCRIPT, LIVE)
}

#[track_caller]
fn allowed(policies: &[&str], nonce: Option<&str>) {
    assert_eq!(
        verdict_of(policies, &page(true)),
        Ok(nonce.map(str::to_owned)),
        "{policies:?}"
    );
}

#[track_caller]
fn blocked(policies: &[&str], what: Blocked) {
    assert_eq!(verdict_of(policies, &page(true)), Err(what), "{policies:?}");
}

#[test]
fn without_a_policy_for_it_everything_is_allowed() {
    allowed(&[], None);
    allowed(&[""], None);
    allowed(
        &["img-src 'none'; frame-ancestors 'none'; upgrade-insecure-requests"],
        None,
    );
    allowed(&["script-src-attr 'none'; style-src 'none'"], None);
}

#[test]
fn the_own_origin_is_allowed_by_its_names() {
    for sources in [
        "'self'",
        "'SELF'",
        "*",
        "'unsafe-inline' 'self'",
        "https: wss:",
        "https://site.test wss://site.test",
        "SITE.test wss://SITE.test",
        "*.test wss://*.test",
        "site.test:443 wss://site.test:*",
        "site.test/api/ wss://site.test/api/",
        "https://site.test/api/visitors/widget.js wss://site.test/api/visitors/live",
        "http://site.test ws://site.test",
    ] {
        allowed(&[&format!("default-src {sources}")], None);
    }
}

#[test]
fn what_is_not_the_own_origin_blocks_the_script() {
    for sources in [
        "",
        "'none'",
        "data: blob:",
        "'unsafe-inline'",
        "https://cdn.test",
        "other.site.test",
        "*.site.test",
        "site.test:8443",
        "site.test/static/",
        "https://site.test/api/visitors/widget",
        "'sha256-n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg='",
        "'nonce-'",
        "'nonce-a b'",
        "'nonce-\"onload='",
    ] {
        blocked(&[&format!("script-src {sources}")], Blocked::Script);
    }
}

#[test]
fn the_most_specific_directive_decides() {
    allowed(
        &["default-src 'none'; script-src 'self'; connect-src 'self'"],
        None,
    );
    allowed(&["script-src 'none'; script-src-elem 'self'"], None);
    blocked(&["script-src 'self'; script-src-elem 'none'"], Blocked::Script);
    blocked(&["default-src 'self'; connect-src 'none'"], Blocked::Connection);
    // A directive counts once: what is repeated is ignored.
    blocked(&["script-src 'none'; SCRIPT-SRC 'self'"], Blocked::Script);
}

#[test]
fn the_live_connection_needs_more_than_https() {
    blocked(&["connect-src https:"], Blocked::Connection);
    blocked(&["connect-src site.test"], Blocked::Connection);
    allowed(&["connect-src https: wss:"], None);
    assert_eq!(verdict_of(&["connect-src ws:"], &page(false)), Ok(None));
    assert_eq!(
        verdict_of(&["connect-src wss:"], &page(false)),
        Err(Blocked::Connection)
    );
}

#[test]
fn the_pages_nonce_is_carried() {
    allowed(&["script-src 'nonce-r4nd0m'"], Some("r4nd0m"));
    allowed(
        &["script-src 'strict-dynamic' 'nonce-r4nd0m' https:"],
        Some("r4nd0m"),
    );
    // Also where 'self' would do: the site may be on its way to strict policies.
    allowed(&["script-src 'self' 'Nonce-r4nd0m'"], Some("r4nd0m"));
    blocked(&["script-src 'strict-dynamic' 'self'"], Blocked::Script);
}

#[test]
fn every_policy_must_allow_it() {
    allowed(&["script-src 'self'", "script-src 'nonce-a'"], Some("a"));
    allowed(
        &["script-src 'nonce-a', script-src 'nonce-a' 'nonce-b'"],
        Some("a"),
    );
    allowed(
        &["script-src 'nonce-b' 'nonce-a', script-src 'nonce-a'"],
        Some("a"),
    );
    blocked(&["script-src 'nonce-a'", "script-src 'nonce-b'"], Blocked::Script);
    blocked(&["script-src 'self'", "default-src 'none'"], Blocked::Script);
    blocked(&["default-src 'self', connect-src 'none'"], Blocked::Connection);
}

#[test]
fn a_sandbox_must_let_scripts_run_as_the_site() {
    blocked(&["sandbox"], Blocked::Script);
    blocked(&["sandbox allow-scripts"], Blocked::Script);
    allowed(&["sandbox allow-same-origin Allow-Scripts"], None);
}

#[test]
fn a_meta_counts_like_a_header_but_for_the_sandbox() {
    let mut policies = Policies::default();
    policies.add_from_meta("sandbox; script-src 'nonce-m'").unwrap();
    assert_eq!(policies.verdict(&page(true), SCRIPT, LIVE), Ok(Some("m".into())));
    policies.add_from_meta("script-src 'none'").unwrap();
    assert_eq!(policies.verdict(&page(true), SCRIPT, LIVE), Err(Blocked::Script));
}

#[test]
fn hosts_match_nothing_where_the_own_is_not_known() {
    let page = Page {
        tls: true,
        authority: None,
        prefix: String::new(),
    };
    assert_eq!(verdict_of(&["script-src site.test"], &page), Err(Blocked::Script));
    assert_eq!(verdict_of(&["script-src 'self'"], &page), Ok(None));
}

proptest! {
    #[test]
    fn any_text_has_a_verdict_and_a_nonce_is_harmless(text in "[ -~]{0,80}|(script-src|'self'|'nonce-[ -~]{0,9}'|[;, ]){0,12}") {
        let mut policies = Policies::default();
        policies.add_from_meta(&text).unwrap();
        if let Ok(Some(nonce)) = policies.verdict(&page(false), SCRIPT, LIVE) {
            prop_assert!(nonce.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)));
        }
    }

    #[test]
    fn a_further_policy_never_allows_more(one in "(default-src|script-src|connect-src) ('self'|'none'|https:|\\*)", other in "(default-src|script-src|connect-src) ('self'|'none'|https:|\\*)") {
        let alone = verdict_of(&[&one], &page(true));
        let both = verdict_of(&[&one, &other], &page(true));
        prop_assert!(alone.is_ok() || both.is_err());
    }
}
