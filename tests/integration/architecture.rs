//! The order of the library's modules, and the names of its types.
//!
//! Each module imports only from those below it, so that a reader of one needs only those. Within a module no files import
//! each other in a circle, except that a file may use what the module that contains it defines: `live::hub` that of `live`,
//! which declares it. What that module only imports itself counts as imported from where it is defined. Test code may import
//! from anywhere (see `imports`).

mod imports;

use std::collections::{BTreeMap, BTreeSet};

use crate::rules::{project, sources};
use imports::{Import, Sources, contains, file, imports, room, types, unreadable};

/// The top-level modules, from the top. `src/README.md` has the same order.
const ORDER: &str = "main cli app admin proxy explain demo init api recorder live writer counters auth communities \
                     store recent_pages batch widget reload page_view presence routes handover tasks shutdown \
                     telemetry metrics status retry shared_results expiring_cache geoip json key_type printable \
                     browser_session ids header_edits header_list rate_limit from_row systemd config";

/// Names of types that several modules define, each for the same thing: a module's metrics; what its handle sends to its
/// worker; that worker; what the clones of a handle share; what a lock guards, or the states that one thing passes through.
const ROLES: [&str; 5] = ["Metrics", "Message", "Worker", "Inner", "State"];

fn order() -> Vec<&'static str> {
    ORDER.split_whitespace().collect()
}

/// The library, but for `lib.rs`, which only declares the modules.
fn library() -> Sources {
    let root = project().join("src");
    let read = |path: std::path::PathBuf| {
        let module = path.strip_prefix(&root).expect("below it").with_extension("");
        let module: Vec<_> = module.iter().map(|part| part.to_str().expect("UTF-8")).collect();
        let text = std::fs::read_to_string(&path).expect("a source");
        (module.join("::"), text)
    };
    let mut library: Sources = sources(&root).into_iter().map(read).collect();
    library.remove("lib");
    library
}

/// What is wrong with imports between top-level modules, a line for each.
fn upward(order: &[&str], imports: &[Import]) -> Vec<String> {
    let place = |module: &str| order.iter().position(|listed| *listed == room(module));
    let is_upward =
        |import: &&Import| room(&import.from) != room(&import.to) && place(&import.from) >= place(&import.to);
    let sentence = |import: &Import| {
        let Import { from, line, to } = import;
        format!(
            "{}:{line}: `{}` imports from `{}`, which stands above it: move what both need ({}) into a module below \
             both, or hand it in from above\n",
            file(from),
            room(from),
            room(to),
            file(to),
        )
    };
    imports.iter().filter(is_upward).map(sentence).collect()
}

/// What is wrong with imports within top-level modules, a line for each.
fn circles(imports: &[Import]) -> Vec<String> {
    let is_inner =
        |import: &&Import| room(&import.from) == room(&import.to) && !contains(&import.to, &import.from);
    let inner: Vec<_> = imports.iter().filter(is_inner).collect();
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for import in &inner {
        next.entry(&import.from).or_default().push(&import.to);
    }
    let leads_to = |start: &str, end: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            if seen.insert(module) {
                open.extend(next.get(module).into_iter().flatten());
            }
        }
        seen.contains(end)
    };
    let in_circle = inner.iter().filter(|import| leads_to(&import.to, &import.from));
    let sentence = |import: &&Import| {
        let Import { from, line, to } = import;
        format!(
            "{}:{line}: imports from {}, which imports from it in turn, by itself or through others: move what both \
             need into one of them, or into a file of its own\n",
            file(from),
            file(to),
        )
    };
    in_circle.map(sentence).collect()
}

/// Names of types that are defined more than once, a line for each. A name may be that of a role, once in a file; of a
/// section of the configuration and what it configures; and of a row that the queries of both databases read.
fn homonyms(sources: &Sources) -> Vec<String> {
    let mut defined: BTreeMap<(String, bool), BTreeSet<String>> = BTreeMap::new();
    for (module, name) in types(sources) {
        // A section is written `config::Name`. The files of both databases correspond.
        let is_section = room(&module) == "config";
        let module = module.replace("store::sqlite", "store::postgres");
        if !ROLES.contains(&&*name) {
            defined.entry((name, is_section)).or_default().insert(module);
        }
    }
    let several = defined.into_iter().filter(|(_, modules)| modules.len() > 1);
    let sentence = |((name, _), modules): ((String, bool), BTreeSet<String>)| {
        let files: Vec<_> = modules.iter().map(|module| file(module)).collect();
        format!(
            "`{name}` is defined in {}: one name, one thing\n",
            files.join(", ")
        )
    };
    several.map(sentence).collect()
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let wrong = homonyms(&library()).concat();
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn imports_run_downward() {
    let library = library();
    let rooms: BTreeSet<_> = library.keys().map(|module| room(module)).collect();
    let order = order();
    let listed: BTreeSet<_> = order.iter().copied().collect();
    assert_eq!(
        order.len(),
        listed.len(),
        "a module stands twice in ORDER, in {}",
        file!()
    );
    assert_eq!(
        listed,
        rooms,
        "bring ORDER, in {}, up to date: left what it lists, right what there is",
        file!()
    );
    let wrong = upward(&order, &imports(&library)).concat();
    assert!(
        wrong.is_empty(),
        "the order of the modules is in {}:\n{wrong}",
        file!()
    );
}

#[test]
fn files_of_a_module_import_in_no_circle() {
    let wrong = circles(&imports(&library())).concat();
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn each_name_is_imported_by_itself() {
    let wrong = unreadable(&library()).concat();
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_document_has_the_same_order_and_names_each_module() {
    let document = std::fs::read_to_string(project().join("src/README.md")).expect("a document");
    let names: Vec<_> = order().into_iter().map(|module| format!("`{module}`")).collect();
    let words: Vec<_> = document.split_whitespace().collect();
    let line = names.join(" · ");
    assert!(
        words.join(" ").contains(&line),
        "src/README.md must have the modules in their order, lines broken anywhere:\n{line}"
    );
    for module in order() {
        let file = format!("`{module}.rs`");
        assert!(
            document.contains(&file),
            "the table of modules in src/README.md must say what {file} is for"
        );
    }
}

fn made(sources: &[(&str, &str)]) -> Sources {
    let made = |(module, text): &(&str, &str)| ((*module).to_owned(), (*text).to_owned());
    sources.iter().map(made).collect()
}

/// What is found in such sources, of which `store` stands above `ids`.
fn found(sources: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let imports = imports(&made(sources));
    (upward(&["store", "ids"], &imports), circles(&imports))
}

#[test]
fn an_import_that_runs_upward_is_found_in_every_form() {
    for upward in [
        "use crate::store;",
        "pub(crate) use crate::store::Row as Line;",
        "use crate::{\n    ids::Other,\n    store::{self, sql::{Row}},\n};",
        "use super::store::Row;",
        "fn row() -> crate::store::Row { todo!() }",
        "fn rows() { let all = Vec::<crate::store::sql::Row>::new(); }",
        "fn text() { let quote = '\"'; super::store::sql::text(); }",
        "#[cfg(test)]\nmod tests {\n    use super::*;\n}\nuse crate::store::Row;",
        "struct Id { #[cfg(test)] faults: (u8, u8), row: crate::store::Row }",
    ] {
        let text = format!("//! Ids.\n\n{upward}\n");
        let (found, _) = found(&[("ids", &text), ("store", ""), ("store::sql", "")]);
        assert_eq!(
            found.len(),
            1 + usize::from(upward.contains("self,")),
            "{upward}: {found:?}"
        );
        assert!(found[0].starts_with("src/ids.rs:"), "{found:?}");
        assert!(found[0].contains("`ids` imports from `store`"), "{found:?}");
    }
    let (found, _) = found(&[("ids", "\n\nuse crate::store::Row;"), ("store", "")]);
    assert!(found[0].starts_with("src/ids.rs:3: "), "{found:?}");
}

#[test]
fn what_is_no_import_is_not_taken_for_one() {
    for harmless in [
        "// use crate::store::Row;",
        "/// See [`Row`](crate::store::Row).\nstruct Id;",
        "const TEXT: &str = \"crate::store::Row\";",
        "const TEXT: &str = r#\"it's \"crate::store::Row\"#;",
        "#[cfg(test)]\nuse crate::store::Row;",
        "#[cfg(test)]\nmod tests {\n    use crate::store::Row;\n}",
        "#[cfg(test)]\nmod fake;",
        "use other::crate_store::store::Row;",
        "use std::store::Row;",
    ] {
        let fake = ("ids::fake", "use crate::store::Row;");
        let sources = [("ids", harmless), ("store", "use crate::ids::Id;"), fake];
        let sources = &sources[..if harmless.contains("fake") { 3 } else { 2 }];
        assert_eq!(found(sources).0, Vec::<String>::new(), "{harmless}");
    }
}

#[test]
fn a_circle_of_files_is_found_and_what_a_file_uses_of_its_module_is_none() {
    let own = [
        ("store", "mod sql;\nuse sql::Row;"),
        ("store::sql", "use super::Store;\nuse super::rows::Row;"),
        ("store::rows", "use crate::store::Store;"),
    ];
    assert_eq!(found(&own), (Vec::new(), Vec::new()));
    let circle = [
        ("store", ""),
        ("store::sql", "mod rows;\nfn row() { rows::row() }"),
        ("store::sql::rows", "use crate::store::open::Url;"),
        ("store::open", "\nuse super::{Store, sql};"),
    ];
    let (upward, circles) = found(&circle);
    assert_eq!(upward, Vec::<String>::new());
    let starts = [
        "src/store/open.rs:2: ",
        "src/store/sql.rs:2: ",
        "src/store/sql/rows.rs:1: ",
    ];
    assert!(
        circles.len() == 3
            && starts
                .iter()
                .zip(&circles)
                .all(|(start, found)| found.starts_with(start)),
        "{circles:?}"
    );
}

#[test]
fn an_import_through_a_module_that_only_imports_the_name_leads_to_where_it_is_defined() {
    for through in [
        "pub use sql::Row;",
        "use sql::Row;",
        "pub(crate) use self::sql::{Other, Line as Row};",
        "use {sql::{self as statements, Row}};",
    ] {
        let store = format!("mod open;\nmod sql;\n{through}");
        let circle = [
            ("store", &*store),
            ("store::open", "use super::{Row, Store};"),
            ("store::sql", "use crate::store::open::Url;"),
        ];
        let (upward, circles) = found(&circle);
        assert_eq!(upward, Vec::<String>::new(), "{through}");
        assert_eq!(circles.len(), 2, "{through}: {circles:?}");
        assert!(circles[0].starts_with("src/store/open.rs:1: imports from src/store/sql.rs"));
    }
}

#[test]
fn what_imports_an_unnamed_part_of_the_library_is_refused() {
    for refused in [
        "use crate::*;",
        "use super::{sql::*, Store};",
        "use crate as library;",
        "use crate::{self as library, store::Row};",
        "use super::super as above;",
    ] {
        let sources = made(&[("store", ""), ("store::open", refused)]);
        assert_eq!(unreadable(&sources).len(), 1, "{refused}");
    }
    let allowed = "use crate::store::{self, Row as Line};\n#[cfg(test)]\nmod tests {\n    use super::*;\n}";
    assert_eq!(unreadable(&made(&[("store", allowed)])), Vec::<String>::new());
}

#[test]
fn a_name_of_two_types_is_found_and_one_of_a_role_a_section_or_a_row_is_none() {
    let twice = [
        ("live::hub", "pub(super) struct Entry<'a>(&'a str);"),
        ("auth::cache", "#[derive(Clone)]\nenum Entry { One }"),
    ];
    let found = homonyms(&made(&twice));
    assert_eq!(
        found,
        ["`Entry` is defined in src/auth/cache.rs, src/live/hub.rs: one name, one thing\n"]
    );
    let once = [
        ("live::metrics", "metrics! { pub struct Metrics { } }"),
        ("auth::metrics", "pub struct Metrics;"),
        ("config::redis", "pub struct Redis;"),
        (
            "presence::redis",
            "pub struct Redis;\nimpl Iterator for Redis { type Item = Row; }",
        ),
        ("store::postgres::visitors", "struct Row;\ntype Item = u8;"),
        ("store::sqlite::visitors", "struct Row;\n// struct Redis;"),
        ("store::fake", "#[cfg(test)]\nmod tests { struct Redis; }"),
    ];
    assert_eq!(homonyms(&made(&once)), Vec::<String>::new());
}
