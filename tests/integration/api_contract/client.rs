//! A client in TypeScript, generated from the document by `openapi-typescript` and `openapi-fetch`, compiled in strict mode, and
//! run against a sidecar. What it does with each operation stands in `tests/client/src/operations.ts`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::api_keys::{BOTH, KeyFile, key};
use crate::support::world::Wanted;

/// The libraries; `tests/run` installs them.
fn libraries() -> PathBuf {
    let folder = std::env::var_os("HEADCOUNT_TEST_CLIENT").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            Path::new(&home).join(".cache/headcount/client")
        },
        PathBuf::from,
    );
    let modules = folder.join("node_modules");
    assert!(
        modules.join("typescript").exists(),
        "{} has no TypeScript; tests/run installs it",
        folder.display()
    );
    modules
}

/// Runs Node.js in a folder; what it prints.
fn node(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["120", "node"])
        .args(arguments)
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .output()
        .expect("node runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}\n{error}");
    out
}

/// The `operationId`s of a document, in order.
fn operations(document: &Value) -> Vec<String> {
    let items = document["paths"].as_object().expect("paths").values();
    let described = items.flat_map(|item| item.as_object().expect("operations").values());
    let mut names: Vec<_> = described
        .filter_map(|described| described["operationId"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a1_a_generated_client_does_what_the_document_says_as_a_visitor_and_as_a_server() {
    let file = KeyFile::new(&[("client", BOTH)]);
    let shown = Wanted {
        config: "[api]\nsite_identities = true\n".into(),
        ..Wanted::usual()
    };
    let world = file.wanted(shown).start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let document: Value = world.stranger().json("/api/visitors/openapi.json").await;

    let folder = tempfile::tempdir().expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    std::fs::create_dir(folder.path().join("src")).expect("a folder");
    for name in [
        "tsconfig.json",
        "package.json",
        "src/main.ts",
        "src/operations.ts",
        "src/site.ts",
    ] {
        std::fs::copy(source.join(name), folder.path().join(name)).expect("a file");
    }
    std::os::unix::fs::symlink(libraries(), folder.path().join("node_modules")).expect("a link");
    std::fs::write(folder.path().join("openapi.json"), document.to_string()).expect("a file");
    let generate = "node_modules/openapi-typescript/bin/cli.js";
    node(
        folder.path(),
        &[generate, "openapi.json", "--output", "src/api.d.ts"],
    );
    node(folder.path(), &["node_modules/typescript/bin/tsc"]);
    let origin = world.sidecar.url("");
    let community = world.seeded.community("rust");
    let tried = node(
        folder.path(),
        &[
            "out/main.js",
            origin.trim_end_matches('/'),
            &community,
            &alice.cookie(),
            &key("client"),
        ],
    );
    let mut expected: Vec<_> = operations(&document)
        .iter()
        .flat_map(|operation| ["server", "visitor"].map(|caller| format!("{caller} {operation}")))
        .collect();
    expected.sort();
    let mut tried: Vec<_> = tried.lines().map(str::to_owned).collect();
    tried.sort();
    assert_eq!(tried, expected);
}
