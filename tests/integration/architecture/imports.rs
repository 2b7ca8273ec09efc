//! Reads from sources which types they define, and which files they name: in `use` lines, and in paths in code. A name that
//! a file imports from another one leads to that one, too. Comments, strings, and code that is compiled for tests only
//! (whole files too) are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

/// Comments, strings and characters.
static SILENT: LazyLock<Regex> = LazyLock::new(|| {
    let silent = r#"(?sx)
        //[^\n]* | /\*.*?\*/
        | b?r\#\#".*?"\#\# | b?r\#".*?"\# | b?r"[^"]*" | b?"(?:\\.|[^"\\])*"
        | '(?:\\.[^']*|[^'\\])'"#;
    Regex::new(silent).expect("a pattern")
});
/// The declaration of a module that is a file.
static FILE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bmod (\w+);").expect("a pattern"));
/// A `use`, and the tree of paths that it imports.
static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\buse\s+([^;]+);").expect("a pattern"));
/// What a path is made of, and ends of lines, which count.
static TOKEN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\n|::|[A-Za-z_][A-Za-z_0-9]*|\S").expect("a pattern"));

/// The definition of a type or a trait. Those of types that are associated with a trait are indented.
static TYPE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)(?:\b(?:struct|enum|trait|union)|^(?:pub(?:\([^)]*\))? )?type)\s+([A-Z]\w*)")
        .expect("a pattern")
});

/// A file of the library: its module, such as `live::hub`, and its text.
pub type Sources = BTreeMap<String, String>;

/// One file names another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The module of the file that names the other.
    pub from: String,
    /// The first line there that does.
    pub line: usize,
    /// The other file's module.
    pub to: String,
}

/// Where a module's file is.
pub fn file(module: &str) -> String {
    format!("src/{}.rs", module.replace("::", "/"))
}

/// The top-level module that a module belongs to, or is.
pub fn room(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Whether the second module is the first, or within it.
pub fn contains(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The code of each file that is not for tests only, without comments and strings.
fn production_code(sources: &Sources) -> Sources {
    let mut for_tests = BTreeSet::new();
    let code: Vec<_> = sources
        .iter()
        .map(|(module, text)| {
            let code = without_tests(module, &without_comments(text), &mut for_tests);
            (module.clone(), code)
        })
        .collect();
    let is_production = |module: &str| !for_tests.iter().any(|tests| contains(tests, module));
    code.into_iter()
        .filter(|(module, _)| is_production(module))
        .collect()
}

/// Every import of one file from another, once.
pub fn imports(sources: &Sources) -> Vec<Import> {
    let code = production_code(sources);
    let names: Names = code
        .iter()
        .map(|(module, code)| (module.as_str(), used(code).collect()))
        .collect();
    let mut imports: Vec<Import> = Vec::new();
    for (from, code) in &code {
        let first = imports.len();
        for (line, path) in paths(code) {
            for to in targets(from, &path, sources, &names) {
                if to != *from && imports[first..].iter().all(|import| import.to != to) {
                    let from = from.clone();
                    imports.push(Import { from, line, to });
                }
            }
        }
    }
    imports
}

/// The types and traits that each file defines, with its module.
pub fn types(sources: &Sources) -> Vec<(String, String)> {
    let of_file = |(module, code): (String, String)| {
        let names = TYPE.captures_iter(&code).map(|found| found[1].to_owned());
        names.map(|name| (module.clone(), name)).collect::<Vec<_>>()
    };
    production_code(sources).into_iter().flat_map(of_file).collect()
}

/// The `use`s whose names cannot be followed, a line for each: of all names of a module, and of an ancestor itself.
pub fn unreadable(sources: &Sources) -> Vec<String> {
    let is_unreadable =
        |(name, path): &(String, Vec<String>)| name == "*" || path.iter().all(|part| is_ancestor(part));
    let of_file = |(module, code): (String, String)| {
        let found: Vec<_> = used(&code).filter(is_unreadable).collect();
        found.into_iter().map(move |(name, path)| {
            format!(
                "{}: `use {}` (as `{name}`): import what is needed by its name\n",
                file(&module),
                path.join("::")
            )
        })
    };
    production_code(sources).into_iter().flat_map(of_file).collect()
}

/// Whether a part of a path leads to the library or upward in it.
fn is_ancestor(part: &str) -> bool {
    ["headcount", "crate", "self", "super"].contains(&part)
}

/// What the `use`s of this code import: the name that each has there, and its path.
fn used(code: &str) -> impl Iterator<Item = (String, Vec<String>)> {
    USE.captures_iter(code).flat_map(|found| leaves(&[], &found[1]))
}

/// The names in a tree of paths, each with its path.
fn leaves(base: &[String], tree: &str) -> Vec<(String, Vec<String>)> {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split("::").map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty()).collect()
    };
    if let Some((start, list)) = tree.split_once('{') {
        let base = [base, &parts(start)].concat();
        let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
        let mut depth = 0_usize;
        let branches = list.split(|character| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        });
        return branches.flat_map(|branch| leaves(&base, branch)).collect();
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let mut path = [base, &parts(path)].concat();
    if path.len() > 1 {
        path.pop_if(|last| last == "self");
    }
    if tree.trim().is_empty() {
        return Vec::new();
    }
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    vec![(name, path)]
}

/// Blanks comments, strings and characters. Lines stay where they are.
fn without_comments(text: &str) -> String {
    SILENT
        .replace_all(text, |found: &regex::Captures<'_>| blank(&found[0]))
        .into_owned()
}

/// Blanks items for tests only, and notes the modules among them that are files.
fn without_tests(module: &str, code: &str, for_tests: &mut BTreeSet<String>) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(test)]") {
        let end = start + item_end(&rest[start..]);
        let item = &rest[start..end];
        let files = FILE.captures_iter(item);
        for_tests.extend(files.map(|found| format!("{module}::{}", &found[1])));
        kept.push_str(&rest[..start]);
        kept.push_str(&blank(item));
        rest = &rest[end..];
    }
    kept + rest
}

fn blank(text: &str) -> String {
    text.replace(|character| character != '\n', " ")
}

/// Where the item, or field, at the beginning of this code ends.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (place, character) in code.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            '}' if depth <= 1 => return place + depth,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ';' | ',' if depth == 0 => return place + 1,
            _ => {}
        }
    }
    code.len()
}

/// The paths in this code, with their lines. Those of a list in braces are whole.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    // Lists of paths that are open, by their beginning; `None` is a block.
    let mut open: Vec<Option<Vec<String>>> = Vec::new();
    let (mut path, mut line, mut is_joined) = (Vec::new(), 1, false);
    for token in TOKEN.find_iter(code).map(|token| token.as_str()) {
        if token == "\n" {
            line += 1;
            continue;
        }
        let was_joined = std::mem::replace(&mut is_joined, token == "::");
        let is_name = token.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic());
        match token {
            "::" => {}
            _ if is_name && was_joined && path.is_empty() => {}
            name if is_name && was_joined => path.push(name.to_owned()),
            "{" if was_joined => open.push(Some(std::mem::take(&mut path))),
            token => {
                found.push((line, std::mem::take(&mut path)));
                let list = open.last().and_then(Option::as_ref);
                match token {
                    "{" => open.push(None),
                    "}" => drop(open.pop()),
                    name if is_name => {
                        path = [list.map_or(&[][..], Vec::as_slice), &[name.to_owned()]].concat();
                    }
                    _ => {}
                }
            }
        }
    }
    found.retain(|(_, path)| path.len() > 1);
    found
}

/// For each module the names that it has from its `use`s, with their paths.
type Names<'a> = BTreeMap<&'a str, BTreeMap<String, Vec<String>>>;

/// The files that a path leads to: the first, and where that has the name from another file, that one, and so on. None
/// outside of the library.
fn targets(from: &str, path: &[String], sources: &Sources, names: &Names) -> Vec<String> {
    let mut found = Vec::new();
    let of_file = |from: &str, path: &[String]| {
        let (name, rest) = path.split_first()?;
        Some([names.get(from)?.get(name)?, rest].concat())
    };
    let path = of_file(from, path).unwrap_or_else(|| path.to_vec());
    let (mut from, mut path) = (from.to_owned(), path);
    while let Some((module, rest)) = target(&from, &path, sources) {
        // A name is followed once: `use`s may name each other in a circle.
        if found.contains(&module) {
            break;
        }
        found.push(module.clone());
        let Some(used) = of_file(&module, &rest) else {
            break;
        };
        (from, path) = (module, used);
    }
    found
}

/// The first file that a path leads to, and the rest of the path, which that file defines or imports.
fn target(from: &str, path: &[String], sources: &Sources) -> Option<(String, Vec<String>)> {
    let mut base: Vec<&str> = from.split("::").collect();
    let mut path = path.iter().map(String::as_str).peekable();
    match *path.peek()? {
        "headcount" if from == "main" => base.clear(),
        "crate" => base.clear(),
        "self" | "super" => {}
        child if sources.contains_key(&format!("{from}::{child}")) => {}
        _ => return None,
    }
    path.next_if(|first| ["headcount", "crate", "self"].contains(first));
    while path.next_if_eq(&"super").is_some() {
        base.pop();
    }
    base.extend(path);
    let mut rest = Vec::new();
    while !base.is_empty() {
        let module = base.join("::");
        if sources.contains_key(&module) {
            rest.reverse();
            return Some((module, rest));
        }
        rest.extend(base.pop().map(str::to_owned));
    }
    None
}
