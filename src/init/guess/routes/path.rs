//! Helpers that read the text of regular expressions of paths.

/// The regular expressions of nested patterns as one, in Rust's syntax, without the `^` at its start.
pub(super) fn joined(parts: &[String]) -> String {
    let whole: String = parts
        .iter()
        .map(|part| part.strip_prefix('^').unwrap_or(part))
        .collect();
    for end in ["\\Z", "\\z"] {
        if let Some(start) = whole.strip_suffix(end) {
            return format!("{start}$");
        }
    }
    whole
}

/// The names of its groups, in order.
pub(super) fn groups(path: &str) -> Vec<String> {
    let starts = path.split("(?P<").skip(1);
    starts
        .filter_map(|rest| Some(rest.split_once('>')?.0.to_owned()))
        .collect()
}

/// The literal segments of the path, without groups and escapes, in lower case.
pub(super) fn literals(path: &str) -> Vec<String> {
    let (mut segments, mut depth, mut in_class, mut is_escaped) =
        (vec![(String::new(), true)], 0_u32, false, false);
    for c in path.chars() {
        let inside = depth > 0 || in_class;
        match c {
            _ if is_escaped => {
                is_escaped = false;
                if let Some((text, _)) = segments.last_mut().filter(|_| !inside) {
                    text.push(c);
                }
            }
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => {
                depth += 1;
                if let Some((_, is_text)) = segments.last_mut() {
                    *is_text = false;
                }
            }
            ')' if !in_class => depth = depth.saturating_sub(1),
            '/' if !inside => segments.push((String::new(), true)),
            '^' | '$' | '?' | '+' | '*' => {}
            c if !inside => {
                if let Some((text, _)) = segments.last_mut() {
                    text.push(c.to_ascii_lowercase());
                }
            }
            _ => {}
        }
    }
    let texts = segments
        .into_iter()
        .filter(|(text, is_text)| *is_text && !text.is_empty());
    texts.map(|(text, _)| text).collect()
}

/// The regular expression of a group; empty where there is no such group.
pub(super) fn inside<'p>(path: &'p str, group: &str) -> &'p str {
    let start = format!("(?P<{group}>");
    let rest = path.split_once(&start).map_or("", |(_, rest)| rest);
    let end = after(path, group);
    let inside = rest.strip_suffix(end).unwrap_or(rest);
    inside.strip_suffix(')').unwrap_or(inside)
}

/// The text after a group; empty where there is no such group.
pub(super) fn after<'p>(path: &'p str, group: &str) -> &'p str {
    let start = format!("(?P<{group}>");
    let Some((_, inside)) = path.split_once(&start) else {
        return "";
    };
    let (mut depth, mut in_class, mut is_escaped) = (1_u32, false, false);
    for (at, c) in inside.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => {
                depth -= 1;
                if depth == 0 {
                    return inside.get(at + 1..).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_path_are_told_from_groups() {
        assert_eq!(
            literals(r"forum/forum/(?P<slug>[^/]+)\-(?P<pk>[0-9]+)/topic/(?:a/b)/$"),
            ["forum", "forum", "topic"]
        );
        assert_eq!(literals(r"global\-pin/"), ["global-pin"]);
    }

    #[test]
    fn what_comes_after_a_group_begins_at_its_end() {
        let path = r"x/(?P<a>(?:[)]|\))+)/(?P<b>y)/z";
        assert_eq!(after(path, "a"), "/(?P<b>y)/z");
        assert_eq!(after(path, "b"), "/z");
        assert_eq!(after(path, "c"), "");
    }

    #[test]
    fn nested_patterns_are_one_in_rusts_syntax() {
        let parts = ["^", "^topic/", "^(?P<pk>[0-9]+)/\\Z"].map(str::to_owned);
        assert_eq!(joined(&parts), "topic/(?P<pk>[0-9]+)/$");
    }
}
