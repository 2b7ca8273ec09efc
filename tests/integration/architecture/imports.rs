//! Reads from sources which file names which: `use` lines, and paths in code. Comments and strings name nothing, and
//! what is compiled for tests only is left out, whole files too: tests may look anywhere.

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
/// What a path is made of, and ends of lines, which count.
static TOKEN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\n|::|[A-Za-z_][A-Za-z_0-9]*|\S").expect("a pattern"));

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

/// Every import of one file from another, once.
pub fn imports(sources: &Sources) -> Vec<Import> {
    let mut for_tests = BTreeSet::new();
    let code: Vec<_> = sources
        .iter()
        .map(|(module, text)| {
            (
                module,
                without_tests(module, &without_comments(text), &mut for_tests),
            )
        })
        .collect();
    let mut imports: Vec<Import> = Vec::new();
    for (from, code) in &code {
        if for_tests.iter().any(|tests| contains(tests, from)) {
            continue;
        }
        let first = imports.len();
        for (line, path) in paths(code) {
            let to = target(from, &path, sources);
            if let Some(to) = to.filter(|to| to != *from)
                && imports[first..].iter().all(|import| import.to != to)
            {
                let from = (*from).clone();
                imports.push(Import { from, line, to });
            }
        }
    }
    imports
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

/// The file that a path leads to; none outside of the library.
fn target(from: &str, path: &[String], sources: &Sources) -> Option<String> {
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
    while !base.is_empty() {
        let module = base.join("::");
        if sources.contains_key(&module) {
            return Some(module);
        }
        base.pop();
    }
    None
}
