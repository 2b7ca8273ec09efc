//! Tests of route files that are refused: each with its place and the remedy.

use std::fmt::Write as _;

use super::*;

fn refusal(text: &str) -> String {
    RouteTable::compile(&[file("a.toml", text)])
        .unwrap_err()
        .to_string()
}

#[test]
fn refusals_name_file_line_route_and_remedy() {
    let expected: &[(String, &str)] = &[
        ("[[route]\n".into(), "a.toml:1: "),
        (
            format!("{COMMUNITIES}\npatern = '^/'\n"),
            "a.toml:28: route `search`: unknown field `patern`",
        ),
        ("routes = 1\n".into(), "a.toml:1: unknown field `routes`"),
        (
            "[[route]]\nname = 'x'\n".into(),
            "a.toml:1: route `x`: missing field `pattern`",
        ),
        (
            "[[route]]\nname = 'x'\npattern = '^/'\ntrack = 'all'\n".into(),
            "a.toml:4: route `x`: unknown variant `all`",
        ),
        (
            pattern("^/a(b"),
            "a.toml:3: route `one`: the pattern does not compile: unclosed group; correct it",
        ),
        (pattern("^/(?=a)"), "look-around"),
        (pattern(r"^/(\w{1,1000}){1,1000}"), "too large once compiled"),
        (
            pattern("/communities"),
            "a.toml:3: route `one`: the pattern does not start with `^`; anchor it",
        ),
        (pattern("(?i)^/a"), "flags go behind"),
        (
            pattern("^/(?P<community>a)/(?P<community_slug>b)"),
            "a.toml:3: route `one`: the pattern has both",
        ),
        (
            format!("{}page_type = 'post'\n", pattern("^/posts/")),
            "a.toml:3: route `one`: the pattern has no community group; add (?P<community>…)",
        ),
        (
            format!("{}community = true\n", pattern("^/posts/")),
            "has no community group",
        ),
        (
            format!("{}community = false\n", pattern("^/(?P<community>a)")),
            "says `community = false`",
        ),
        (
            pattern("^/").replace("one", ""),
            "a.toml:2: route ``: the name is not usable as a metric label; use 1 to 64",
        ),
        (
            pattern("^/").replace("one", "One"),
            "not usable as a metric label",
        ),
        (
            pattern("^/").replace("one", &"x".repeat(65)),
            "not usable as a metric label",
        ),
        (
            format!("{}page_type = ''\n", pattern("^/(?P<community>a)")),
            "a.toml:4: route `one`: `page_type` is empty",
        ),
        (
            format!("{}search_param = ''\n", pattern("^/")),
            "`search_param` is empty",
        ),
    ];
    for (text, message) in expected {
        let refusal = refusal(text);
        assert!(
            refusal.contains(message),
            "{refusal}\ndoes not contain\n{message}"
        );
        assert!(refusal.starts_with("a.toml:"), "{refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
        assert!(refusal.contains("; "), "no remedy: {refusal}");
    }
}

#[test]
fn a_duplicate_name_is_refused_with_both_places() {
    let files = [
        file("a.toml", &pattern("^/a")),
        file("b.toml", &format!("\n{}", pattern("^/b"))),
    ];
    let refusal = RouteTable::compile(&files).unwrap_err().to_string();
    assert!(
        refusal.starts_with("b.toml:3: route `one`: the name is already taken at a.toml:2;"),
        "{refusal}"
    );
}

#[test]
fn the_number_of_routes_is_bounded() {
    let mut text = String::new();
    for number in 0..501 {
        let _ = write!(text, "[[route]]\nname = 'r{number}'\npattern = '^/{number}/'\n");
    }
    assert!(refusal(&text).contains("more than 500 routes"));
}
