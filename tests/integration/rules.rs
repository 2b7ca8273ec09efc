//! `tests/RULES.md` and the tests are kept in step: each rule has tests, each test that is named after a
//! rule is listed under it, and each listed test exists. Sources are read, not compiled in: a test that is
//! added elsewhere is found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// The rules that must be there; there may be more.
const REQUIRED: &str = "V1 V2 V3 V4 V5 V6 V7 V8 V9 P1 P2 P3 P4 P5 P6 P7 P8 P11 P12 P13 P14 S1 S2 S3 S4 S5 S6 S7 \
                        W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W11 W12 I1 I2 I3 I4 I5 I6 I7 I8 L1 L2 L3";

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every rule of the list, with the tests under it.
fn listed() -> BTreeMap<String, BTreeSet<String>> {
    let mut rules = BTreeMap::new();
    let mut rule = None;
    for line in include_str!("../RULES.md").lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let (number, title) = heading.split_once(". ").expect("a number and a title");
            assert!(!title.is_empty());
            assert!(
                rules.insert(number.to_owned(), BTreeSet::new()).is_none(),
                "{number} stands twice"
            );
            rule = Some(number.to_owned());
        } else if let Some(test) = line.strip_prefix("- `") {
            let rule = rule.as_ref().expect("a rule above");
            let test = test.strip_suffix('`').expect("a test and nothing behind it");
            let tests = rules.get_mut(rule).expect("a rule");
            assert!(tests.insert(test.to_owned()), "{rule} lists {test} twice");
        }
    }
    rules
}

/// All Rust sources under a folder.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let inner = folders.iter().flat_map(|folder| sources(folder));
    files.into_iter().filter(is_rust).chain(inner).collect()
}

/// The module that a file is, as the test's name begins: `page_view::tests`, `integration::journey`.
fn module(file: &Path) -> String {
    let file = file
        .strip_prefix(project())
        .expect("in the project")
        .with_extension("");
    let mut parts: Vec<_> = file.iter().map(|part| part.to_str().expect("UTF-8")).collect();
    // `src/…` is the library, `tests/integration/…` the binary of that name.
    parts.remove(0);
    if parts
        .last()
        .is_some_and(|last| ["lib", "main", "mod"].contains(last))
    {
        parts.pop();
    }
    parts.join("::")
}

/// All tests: functions with a test's attribute, and those that a macro makes tests of because they stand
/// in its list.
fn tests() -> BTreeSet<String> {
    let attribute = Regex::new(r"^\s*#\[(tokio::)?test\b").expect("a pattern");
    let inner = Regex::new(r"^(pub(\(\w+\))? )?mod (\w+) \{").expect("a pattern");
    let function = Regex::new(r"^\s*(pub(\(\w+\))? )?(async )?fn (\w+)").expect("a pattern");
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests/integration"] {
        for file in sources(&project().join(folder)) {
            let text = std::fs::read_to_string(&file).expect("a source");
            let in_list: BTreeSet<_> = text
                .lines()
                .filter_map(|line| line.trim().strip_suffix(','))
                .collect();
            let (file_module, mut inner_module, mut is_test) = (module(&file), None, false);
            for line in text.lines() {
                if let Some(found) = inner.captures(line) {
                    inner_module = Some(found[3].to_owned());
                } else if line == "}" {
                    inner_module = None;
                } else if attribute.is_match(line) {
                    is_test = true;
                } else if let Some(found) = function.captures(line) {
                    let name = &found[4];
                    if std::mem::take(&mut is_test) || in_list.contains(name) {
                        let path = [Some(&*file_module), inner_module.as_deref(), Some(name)];
                        let path: Vec<_> = path
                            .into_iter()
                            .flatten()
                            .filter(|part| !part.is_empty())
                            .collect();
                        tests.insert(path.join("::"));
                    }
                }
            }
        }
    }
    tests
}

/// The rules that a test is named after: `w2_w3_no_path_is_too_odd` is of W2 and W3.
fn rules_of(test: &str) -> Vec<String> {
    let name = test.rsplit("::").next().unwrap_or(test);
    let is_rule = |part: &&str| {
        let number = part.strip_prefix(|letter: char| letter.is_ascii_lowercase());
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.split('_')
        .take_while(is_rule)
        .map(str::to_uppercase)
        .collect()
}

#[test]
fn each_test_that_is_named_after_a_rule_is_listed_under_it() {
    let listed = listed();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for test in tests() {
        for rule in rules_of(&test) {
            if !listed.get(&rule).is_some_and(|tests| tests.contains(&test)) {
                missing.entry(rule).or_default().push(format!("- `{test}`\n"));
            }
        }
    }
    let under = |(rule, tests): (&String, &Vec<String>)| format!("\nunder {rule}:\n{}", tests.concat());
    let lines: Vec<_> = missing.iter().map(under).collect();
    let lines = lines.concat();
    assert!(missing.is_empty(), "add these lines to tests/RULES.md:\n{lines}");
}

#[test]
fn each_listed_test_exists_and_each_rule_has_one() {
    let tests = tests();
    let mut gone = Vec::new();
    for (rule, listed) in listed() {
        assert!(!listed.is_empty(), "tests/RULES.md: {rule} has no test");
        let missing = listed.difference(&tests);
        gone.extend(missing.map(|test| format!("\nunder {rule}:\n- `{test}`\n")));
    }
    let gone = gone.concat();
    assert!(
        gone.is_empty(),
        "remove these lines from tests/RULES.md, there are no such tests:\n{gone}"
    );
}

#[test]
fn no_required_rule_is_missing() {
    let listed = listed();
    for rule in REQUIRED.split_whitespace() {
        assert!(
            listed.contains_key(rule),
            "tests/RULES.md: there is no rule {rule}"
        );
    }
}

#[test]
fn this_file_finds_itself() {
    let path = "integration::rules::this_file_finds_itself";
    assert!(tests().contains(path));
    assert_eq!(rules_of("integration::x::w2_w10_odd_2_s"), ["W2", "W10"]);
    assert_eq!(rules_of(path), Vec::<String>::new());
}
