//! Tests of pages that are rewritten piece by piece.

use proptest::prelude::*;

use super::testing::wanted;
use super::*;

const TAG_START: &str = "<script async src=";

fn tag(nonce: Option<&str>) -> String {
    let wanted = wanted();
    wanted.tag.of(&wanted.page, &wanted.community, nonce)
}

fn rewrite<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Outcome) {
    let mut rewriter = Rewriter::new(wanted());
    let mut out = Vec::new();
    for piece in pieces {
        rewriter.write(piece, &mut out);
    }
    rewriter.finish(&mut out);
    (out, rewriter.outcome().unwrap_or(Outcome::NoPlace))
}

/// `|` stands where the tag must come.
#[track_caller]
fn placed(page: &str) {
    let input = page.replace('|', "");
    let (out, outcome) = rewrite([input.as_bytes()]);
    assert_eq!(String::from_utf8(out).unwrap(), page.replace('|', &tag(None)));
    assert_eq!(outcome, Outcome::Injected, "{page}");
}

#[track_caller]
fn untouched(page: &str, expected: Outcome) {
    let (out, outcome) = rewrite([page.as_bytes()]);
    assert_eq!(String::from_utf8(out).unwrap(), page);
    assert_eq!(outcome, expected, "{page}");
}

#[test]
fn the_place_is_the_end_of_the_head() {
    placed("<!doctype html><html><head><title>A</title>|</head><body><p>B</p></body></html>");
    placed("<HTML><HEAD>|</HEAD ><BODY></BODY></HTML>");
    placed("<head><script>'</head>'</script><!-- </head> --><style></style>|</head><body>");
    placed("<head><noscript><img src=a></noscript><template><body></template>|</head>");
}

#[test]
fn without_a_heads_end_the_place_is_before_the_body_begins() {
    placed("<!doctype html><title>A</title><meta charset=utf-8><link rel=a>|<p>B");
    placed("<head><title>A</title>|<body class=x><p>B");
    placed("<!doctype html>|<body></body>");
    placed("<html>text |<div></div>");
    placed("|<noscript><iframe></iframe></noscript>");
    placed("|<p></p><head></head>");
}

#[test]
fn what_has_no_place_stays_as_it_is() {
    for page in [
        "",
        "just text",
        "<!doctype html><title>A",
        "<!-- <body> -->",
        "<html><!-- ",
        "<bo",
    ] {
        untouched(page, Outcome::NoPlace);
    }
    untouched("<head></hea", Outcome::NoPlace);
    untouched(
        "<html><frameset><frame></frameset><body></body></html>",
        Outcome::NoPlace,
    );
}

#[test]
fn the_tag_comes_once() {
    placed("<head>|</head><body><body><head></head><p></body>");
}

#[test]
fn a_policy_in_the_head_counts_like_one_in_the_response() {
    let page = |policy: &str| {
        format!("<head><meta http-equiv=Content-Security-Policy content=\"{policy}\"></head><p>")
    };
    untouched(&page("script-src 'none'"), Outcome::ScriptBlocked);
    untouched(&page("connect-src https:"), Outcome::ConnectionBlocked);
    let (out, outcome) = rewrite([page("script-src 'nonce-abc'").as_bytes()]);
    assert_eq!(outcome, Outcome::Injected);
    assert!(String::from_utf8(out).unwrap().contains(&tag(Some("abc"))));
    // One that is only reported, and one in the body, do not.
    placed(
        "<head><meta http-equiv='Content-Security-Policy-Report-Only' content=\"script-src 'none'\">|</head>",
    );
    placed("<head>|</head><body><meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\">");
}

#[test]
fn a_page_whose_base_is_of_another_origin_stays_as_it_is() {
    for base in [
        "<base href='https://cdn.example/'>",
        "<base href=//cdn.example/>",
        "<base target=_blank><base href='&#47;/cdn.example/'>",
    ] {
        untouched(&format!("<head>{base}</head><p>"), Outcome::ForeignBase);
        untouched(&format!("{base}<p>"), Outcome::ForeignBase);
    }
    placed("<head><base href=/app/><base target=_top>|</head>");
    placed("<head><base href='https://site.test/app/'>|</head>");
    // Those do not count, or not yet.
    placed("<head><noscript><base href=//cdn.example/></noscript>|</head><base href=//cdn.example/>");
}

#[test]
fn pages_in_encodings_that_do_not_keep_ascii_stay_as_they_are() {
    untouched("<head><meta charset=ISO-2022-JP></head><p>", Outcome::Charset);
    let equivalent =
        "<head><meta http-equiv=content-type content='text/html; charset=iso-2022-jp'></head><p>";
    untouched(equivalent, Outcome::Charset);
    for order in [[0xff, 0xfe], [0xfe, 0xff]] {
        let page = [&order[..], b"<\0h\0e\0a\0d\0>\0<\0/\0h\0e\0a\0d\0>\0"].concat();
        for pieces in [vec![&page[..]], page.chunks(1).collect()] {
            assert_eq!(rewrite(pieces), (page.clone(), Outcome::Charset));
        }
    }
}

#[test]
fn a_tag_that_is_too_long_ends_the_search_and_nothing_is_lost() {
    let page = format!("<head><link href='{}'></head><body>", "x".repeat(2 * MEMORY));
    let pieces: Vec<_> = page.as_bytes().chunks(1000).collect();
    let (out, outcome) = rewrite(pieces);
    assert!(out == page.as_bytes() && outcome == Outcome::Failed);
}

#[test]
fn what_is_complete_goes_on_at_once() {
    let mut rewriter = Rewriter::new(wanted());
    let mut sent = |piece: &str| {
        let mut out = Vec::new();
        rewriter.write(piece.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        sent("<!doctype html><head><title>A"),
        "<!doctype html><head><title>A"
    );
    assert_eq!(sent("</title><meta na"), "</title>");
    assert_eq!(sent("me=b></he"), "<meta name=b>");
    assert_eq!(sent("ad><bo"), format!("{}</head><bo", tag(None)));
    assert_eq!(sent("dy>"), "dy>");
}

/// Bits of pages, in any order, with bytes of any encoding between them.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop_oneof![
        "<!doctype html>|<html>|</html>|<head>|</head>|<body>|</body>|<title>|</title>|<p>|<meta charset='gbk'>",
        "<meta http-equiv='Content-Security-Policy' content=\"(script-src 'none'|script-src 'nonce-a'|)\">",
        "<script>|</script>|<style>|</style>|<!--|-->|<noscript>|</noscript>|<template>|</template>|<textarea>",
        "<svg>|<math>|<table>|<select>|<frameset>|<plaintext>|<![CDATA[|]]>|&amp;|<|>|/|\"|'|=| ",
        ".{0,4}",
    ]
    .prop_map(String::into_bytes);
    let raw = proptest::collection::vec(any::<u8>(), 0..4);
    proptest::collection::vec(prop_oneof![4 => bit, 1 => raw], 0..20).prop_map(|bits| bits.concat())
}

fn pieces<'a>(page: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (page.len() + 1)).collect();
    cuts.extend([0, page.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &page[ends[0]..ends[1]]).collect()
}

proptest! {
    #[test]
    fn the_page_without_the_tag_is_the_page(page in page(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let (out, outcome) = rewrite(pieces(&page, &cuts));
        let tags = [tag(None), tag(Some("a"))];
        let at = out.windows(TAG_START.len()).position(|part| part == TAG_START.as_bytes());
        if let Some(at) = at {
            let tag = tags.iter().find(|tag| out[at..].starts_with(tag.as_bytes())).unwrap();
            prop_assert_eq!([&out[..at], &out[at + tag.len()..]].concat(), page);
            prop_assert_eq!(outcome, Outcome::Injected);
        } else {
            prop_assert_eq!(out, page);
            prop_assert_ne!(outcome, Outcome::Injected);
        }
    }

    #[test]
    fn it_does_not_matter_how_the_page_is_cut(page in page(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        prop_assert_eq!(rewrite(pieces(&page, &cuts)), rewrite([&*page]));
    }
}

#[test]
fn i15_policies_without_end_are_not_kept_and_forbid_the_script() {
    let policy = "<meta http-equiv=content-security-policy content=\"script-src 'self'\">";
    let few = policy.repeat(100);
    let page = |policies: &str| format!("<head>{policies}</head>");
    let (out, outcome) = rewrite([page(&few).as_bytes()]);
    assert!(out.len() > page(&few).len() && outcome == Outcome::Injected);
    untouched(&page(&policy.repeat(100_000)), Outcome::ScriptBlocked);
    let long = policy.replace("'self'", &"https://a.test ".repeat(5_000));
    untouched(&page(&long), Outcome::ScriptBlocked);
}
