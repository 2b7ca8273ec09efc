//! The example configuration is the manual: these tests keep it complete and true.

use super::Config;

const EXAMPLE: &str = include_str!("../../config/headcount.toml");

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
        assert!(is_section || seen.contains(&key), "{key} is missing");
    }
}

#[test]
fn the_readme_lists_every_key() {
    let readme = include_str!("../../README.md");
    let table: toml::Table = toml::from_str(&defaults()).unwrap();
    for (section, keys) in table.iter().filter(|(section, _)| *section != "schema") {
        for key in keys.as_table().unwrap().keys() {
            assert!(
                readme.contains(&format!("| `{section}.{key}` |")),
                "README.md lacks {section}.{key}"
            );
        }
    }
}
