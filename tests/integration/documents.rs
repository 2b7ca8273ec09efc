//! The documents: links lead somewhere, anchors are headings, and README stays short enough to be read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Largest README, in bytes: what does not fit belongs into one of the manuals.
const README: usize = 12 * 1024;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All documents of a folder and those below, but for hidden folders and what builds leave behind.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "data", "node_modules"].contains(&&*name) {
                found.extend(documents(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found
}

/// A document's lines outside of fenced code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// The anchors of a document's headings, as GitHub makes them: letters, digits, `-` and `_` in lower case, spaces as
/// `-`; a heading that comes again gets a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let anchor: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let times = seen.entry(anchor.clone()).or_insert(0);
        anchors.insert(match *times {
            0 => anchor,
            times => format!("{anchor}-{times}"),
        });
        *times += 1;
    }
    anchors
}

/// The links and pictures of a document, with the numbers of their lines; not what stands between backticks.
fn links(text: &str) -> Vec<(usize, String)> {
    let code = Regex::new("`[^`]*`").expect("a pattern");
    let target = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for link in target.captures_iter(&code.replace_all(line, "``")) {
            found.push((number, link[1].to_owned()));
        }
    }
    found
}

/// `folder/link`, without `..`.
fn resolved(folder: &Path, link: &str) -> PathBuf {
    let mut path = folder.to_path_buf();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}

/// What is wrong with a relative link of a document; nothing is wrong with those to other sites.
fn problem(document: &Path, text: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let target = match path {
        "" => document.to_path_buf(),
        path => resolved(document.parent().expect("a folder"), path),
    };
    if !target.starts_with(project()) || !target.exists() {
        return Some("there is no such file".into());
    }
    let anchor = anchor?;
    let text = if target == document {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(std::fs::read_to_string(&target).ok()?)
    };
    (!anchors(&text).contains(anchor)).then(|| "there is no such heading".into())
}

#[test]
fn links_and_anchors_exist() {
    let documents = documents(project());
    assert!(documents.len() > 5, "{documents:?}");
    let mut problems = Vec::new();
    let mut checked = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a document");
        for (line, link) in links(&text) {
            checked += 1;
            if let Some(problem) = problem(&document, &text, &link) {
                let document = document.strip_prefix(project()).expect("in the project");
                problems.push(format!("{}:{line}: {link}: {problem}", document.display()));
            }
        }
    }
    assert!(checked > 50, "{checked} links");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_dead_link_is_found() {
    let document = project().join("README.md");
    let text = "# One\n## A `b`, c\n[x](#one) [y](#a-b-c)\n";
    let of = |link| problem(&document, text, link);
    for link in [
        "#one",
        "#a-b-c",
        "LICENSE",
        "tests/RULES.md",
        "https://example.org/#x",
    ] {
        assert_eq!(of(link), None, "{link}");
    }
    for link in ["#two", "NOWHERE.md", "tests/RULES.md#nowhere", "../elsewhere"] {
        assert!(of(link).is_some(), "{link}");
    }
    assert_eq!(
        links("a [b](c) `[d](e)`\n```\n[f](g)\n```\n"),
        [(1, "c".to_owned())]
    );
}

#[test]
fn the_readme_is_short() {
    let size = include_str!("../../README.md").len();
    assert!(size <= README, "README.md has {size} bytes, more than {README}");
}

#[test]
fn the_top_level_holds_what_one_looks_for_there() {
    let known = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "config",
        "deploy",
        "migrations",
        "src",
        "tests",
    ];
    // What is not kept: see `.gitignore`.
    let left_behind = ["target", "data"];
    for entry in std::fs::read_dir(project()).expect("a folder") {
        let name = entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned();
        assert!(
            name.starts_with('.') || known.contains(&&*name) || left_behind.contains(&&*name),
            "{name} does not belong at the top level"
        );
    }
}

#[test]
fn what_readme_says_of_measurements_is_what_was_measured() {
    let measured = |file: &str| {
        let text = std::fs::read_to_string(project().join(file)).expect("a document");
        let (_, rest) = text
            .split_once("<!-- measured -->")
            .expect("the place of the figures");
        let (figures, _) = rest.split_once("<!-- /measured -->").expect("its end");
        figures.trim().to_owned()
    };
    let figures = measured("tests/bench/RESULTS.md");
    assert!(figures.contains("µs"), "no figures: {figures}");
    assert_eq!(measured("README.md"), figures, "tests/bench/compare writes both");
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn alternatives(name: &str) -> Vec<String> {
    let inner = name
        .split_once('{')
        .and_then(|(start, rest)| Some((start, rest.split_once('}')?)));
    let Some((start, (list, end))) = inner else {
        return vec![name.to_owned()];
    };
    let each = list.split(',').map(|one| format!("{start}{}{end}", one.trim()));
    each.flat_map(|name| alternatives(&name)).collect()
}

/// Whether what the architecture calls so is there: a file, a folder (`a/*`) or a module (`a::b`). Other words are no such
/// names.
fn is_there(name: &str) -> bool {
    let file = Regex::new(r"^\w[\w.]*(/[\w.*]+)*/?$|^\w+\.(rs|toml|md)$").expect("a pattern");
    let module = Regex::new(r"^[a-z_]+(::[a-z_]+)+$").expect("a pattern");
    let source = project().join("src");
    if module.is_match(name) {
        let path = name.replace("::", "/");
        return source.join(&path).is_dir() || source.join(format!("{path}.rs")).exists();
    }
    let is_path = name.contains('/') || Path::new(name).extension().is_some_and(|end| end == "rs");
    if !is_path || !file.is_match(name) {
        return true;
    }
    let known = name.split('*').next().unwrap_or_default();
    source.join(known).exists() || project().join(known).exists()
}

#[test]
fn files_and_modules_that_the_architecture_names_exist() {
    let code = Regex::new("`([^`]+)`").expect("a pattern");
    let text = include_str!("../../src/README.md");
    let lines = prose(text).into_iter().map(|(_, line)| line);
    let names: Vec<String> = lines
        .flat_map(|line| code.captures_iter(line).map(|found| found[1].to_owned()))
        .flat_map(|name| alternatives(&name))
        .collect();
    assert!(names.len() > 100, "{names:?}");
    let lacking: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
    assert!(
        lacking.is_empty(),
        "src/README.md names what there is not: {lacking:?}"
    );
    for lacking in ["api::nothing", "store/nothing/*", "nothing.rs"] {
        assert!(!is_there(lacking), "{lacking}");
    }
}
