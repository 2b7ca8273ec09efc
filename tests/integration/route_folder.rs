//! What editors, tools and operators do to the folder of the route files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::reloading::{lonely, route};
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;

/// Not read: it would be refused.
const RUBBISH: &str = "this is no route file";
const OK: &str = "headcount_config_last_reload_successful";

/// A tool's way of giving a file a new text: its name, and what it does with folder, file name and text.
type Way = (&'static str, fn(&Path, &str, &str));

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect(program);
    assert!(output.status.success(), "{program}: {output:?}");
}

/// In place: the file is empty for a moment.
fn in_place(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// With a lock, a swap file and a backup, then a new file in the old one's place, as vim with `backupcopy=no`.
fn vim(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(format!(".{name}.swp")), RUBBISH).unwrap();
    fs::write(folder.join("4913"), "").unwrap();
    fs::remove_file(folder.join("4913")).unwrap();
    fs::rename(folder.join(name), folder.join(format!("{name}~"))).unwrap();
    fs::write(folder.join(name), text).unwrap();
    fs::remove_file(folder.join(format!(".{name}.swp"))).unwrap();
}

/// With a lock that is a link to nowhere, an autosave and a backup, as Emacs.
fn emacs(folder: &Path, name: &str, text: &str) {
    symlink("user@host.4711:1700000000", folder.join(format!(".#{name}"))).unwrap();
    fs::write(folder.join(format!("#{name}#")), RUBBISH).unwrap();
    fs::copy(folder.join(name), folder.join(format!("{name}~"))).unwrap();
    fs::write(folder.join(name), text).unwrap();
    fs::remove_file(folder.join(format!("#{name}#"))).unwrap();
    fs::remove_file(folder.join(format!(".#{name}"))).unwrap();
}

/// A temporary file that is moved into its place, as editors that save atomically and `kubectl cp` do.
fn atomically(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join(format!(".{name}.tmp-4711"));
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, folder.join(name)).unwrap();
}

/// The real rsync.
fn rsync(folder: &Path, name: &str, text: &str) {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join(name), text).unwrap();
    let from = format!("{}/", source.path().display());
    run(folder, "rsync", &["--recursive", "--checksum", &from, "."]);
}

/// The real git: a checkout of another branch.
fn git(folder: &Path, name: &str, text: &str) {
    let git = |arguments: &[&str]| {
        let identity = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x.test",
            "-c",
            "core.hooksPath=/dev/null",
        ];
        run(folder, "git", &[&identity[..], arguments].concat());
    };
    git(&["init", "--quiet"]);
    git(&["add", name]);
    git(&["commit", "--quiet", "--message", "old"]);
    git(&["checkout", "--quiet", "-b", "new"]);
    let old = fs::read_to_string(folder.join(name)).unwrap();
    fs::write(folder.join(name), text).unwrap();
    git(&["commit", "--quiet", "--all", "--message", "new"]);
    git(&["checkout", "--quiet", "-"]);
    assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), old);
    git(&["checkout", "--quiet", "new"]);
}

/// A volume of Kubernetes: the files are links through `..data`, and that is a link that is replaced.
fn kubernetes(folder: &Path, name: &str, text: &str) {
    let version = |number: u32, text: &str| {
        let data = format!("..2026_11_28_{number}");
        fs::create_dir(folder.join(&data)).unwrap();
        fs::write(folder.join(&data).join(name), text).unwrap();
        symlink(&data, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    version(1, &fs::read_to_string(folder.join(name)).unwrap());
    fs::remove_file(folder.join(name)).unwrap();
    symlink(format!("..data/{name}"), folder.join(name)).unwrap();
    version(2, text);
    fs::remove_dir_all(folder.join("..2026_11_28_1")).unwrap();
}

const WAYS: [Way; 7] = [
    ("in place", in_place),
    ("vim", vim),
    ("Emacs", emacs),
    ("atomically", atomically),
    ("rsync", rsync),
    ("git checkout", git),
    ("Kubernetes", kubernetes),
];

#[tokio::test]
async fn c1_what_tools_do_to_a_file_ends_in_its_new_routes() {
    for (tool, write) in WAYS {
        let sidecar = lonely("");
        let folder = sidecar.directory().join("routes.d");
        write(&folder, "site.toml", &route("changed", "^/healthz$"));
        sidecar.wait_for_route("/healthz", "changed").await;
        assert_eq!(sidecar.metric(OK).await, 1.0, "{tool}");
        let refused = sidecar.log().contains("route files refused");
        assert!(!refused, "{tool}: {}", sidecar.log());
    }
}

#[tokio::test]
async fn c1_what_tools_leave_in_the_folder_is_passed_over() {
    let sidecar = lonely("[routes]\nwatch = false");
    let folder = sidecar.directory().join("routes.d");
    for name in [
        ".communities.toml",
        "._communities.toml",
        ".communities.toml.swp",
        "communities.toml~",
        "#site.toml#",
    ] {
        fs::write(folder.join(name), RUBBISH).unwrap();
    }
    symlink("user@host.4711", folder.join(".#communities.toml")).unwrap();
    fs::create_dir(folder.join("..2026_11_28")).unwrap();
    sidecar.signal("HUP");
    sidecar.loads(1.0).await;
    assert_eq!(sidecar.metric(OK).await, 1.0);
    // Also at start.
    let configured = format!("[routes]\ndir = \"{}\"", folder.display());
    let another = lonely(&configured);
    assert_eq!(another.route_of("/healthz").await, "health");
}

/// Waits until the routes are said to be faulty, or not to be, in `/readyz`.
async fn is_told(sidecar: &Sidecar, told: bool) {
    in_time("what /readyz says", async {
        loop {
            let answer = reqwest::get(sidecar.admin_url("/readyz"))
                .await
                .expect("an answer");
            let text = answer.text().await.expect("text");
            if text.contains("the route files are faulty") == told {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn c2_a_folder_that_is_replaced_is_read_and_watched() {
    let sidecar = lonely("");
    let folder = sidecar.directory().join("routes.d");
    for (number, name) in ["second", "third"].into_iter().enumerate() {
        let new = sidecar.directory().join("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join("site.toml"), route(name, "^/healthz$")).unwrap();
        fs::rename(&folder, sidecar.directory().join(format!("old{number}"))).unwrap();
        fs::rename(&new, &folder).unwrap();
        sidecar.wait_for_route("/healthz", name).await;
    }
    // A change in the new folder is noticed, too.
    fs::write(folder.join("site.toml"), route("fourth", "^/healthz$")).unwrap();
    sidecar.wait_for_route("/healthz", "fourth").await;
    assert_eq!(sidecar.metric(OK).await, 1.0);
}

#[tokio::test]
async fn c2_a_folder_that_is_gone_for_a_while_is_told_and_read_when_it_is_back() {
    let sidecar = lonely("");
    let folder = sidecar.directory().join("routes.d");
    fs::remove_dir_all(&folder).unwrap();
    is_told(&sidecar, true).await;
    assert_eq!(
        sidecar.route_of("/healthz").await,
        "health",
        "the last good ones stay in use"
    );
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("site.toml"), route("again", "^/healthz$")).unwrap();
    sidecar.wait_for_route("/healthz", "again").await;
    is_told(&sidecar, false).await;
    let told = sidecar.log().matches("route files refused").count();
    assert_eq!(told, 1, "{}", sidecar.log());
}
