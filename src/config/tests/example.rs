//! Tests of the example configuration, which is the reference: they keep it complete and true.

use super::Config;

const EXAMPLE: &str = include_str!("../../../config/headcount.toml");

/// The four lines that an operator edits.
const EDITED: [&str; 4] = ["servers = ", "url = \"postgres", "url = \"redis", "cookie = "];

/// The example with every commented default in force, and the four lines to edit left out.
fn defaults() -> String {
    let is_edited = |line: &&str| EDITED.iter().any(|edited| line.starts_with(edited));
    EXAMPLE
        .lines()
        .filter(|line| !is_edited(line))
        .map(|line| match line.strip_prefix('#') {
            Some(default) if default.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => default,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_is_valid_and_an_operator_edits_four_lines() {
    let config: Config = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(config.upstream.servers, ["127.0.0.1:8000"]);
    assert!(config.database.url.is_some() && config.redis.url.is_some());
    let set: Vec<_> = EXAMPLE
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    assert_eq!(set.len(), EDITED.len());
    for (line, edited) in set.iter().zip(EDITED) {
        assert!(line.starts_with(edited), "{line}");
    }
}

#[test]
fn every_default_in_the_example_is_the_default() {
    let shown: Config = toml::from_str(&defaults()).unwrap();
    assert_eq!(format!("{shown:#?}"), format!("{:#?}", Config::default()));
}

/// Not keys: filled in when the file is read.
const FILLED_IN: [&str; 2] = ["counters.places", "api.key_places"];

#[test]
fn the_example_has_every_key() {
    let text = format!("{:#?}", Config::default());
    let mut path: Vec<&str> = Vec::new();
    let (mut section, mut seen) = ("", Vec::new());
    for line in EXAMPLE.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((key, _)) = line.split_once(" = ") {
            seen.push(format!("{section}.{key}"));
        }
    }
    for line in text.lines().skip(1) {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        path.truncate(depth - 1);
        path.push(key);
        let is_section = value.ends_with(" {") && value != "{";
        let key = path.join(".");
        assert!(
            is_section || FILLED_IN.contains(&&*key) || seen.contains(&key),
            "{key} is missing"
        );
    }
}

/// Whether a line of the example is a key: set, by default (`#key = …`) or as an example (`# key = …`).
fn is_key(line: &str) -> bool {
    let line = line.trim_start_matches('#').trim_start();
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

#[test]
fn every_key_has_a_comment() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    let mut section = "";
    for (number, line) in lines.iter().enumerate() {
        if let Some(name) = line.trim_start_matches('#').strip_prefix('[') {
            section = name;
        }
        if section.starts_with("schema") || !is_key(line) {
            continue;
        }
        // Keys that belong together share the comment above the first of them.
        let above = lines[..number].iter().rev().find(|line| !is_key(line));
        assert!(
            above.is_some_and(|line| line.starts_with("# ")),
            "config/headcount.toml:{}: {line} has no comment",
            number + 1
        );
    }
}
