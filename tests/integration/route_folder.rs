//! What editors, tools and operators do to the folder of the route files.

mod ways;

use std::fs;
use std::os::unix::fs::symlink;

use tokio::runtime::Handle;
use tokio::task::block_in_place;
use ways::{Edit, WAYS};

use crate::reloading::{LOADED, lonely, route};
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;

/// Not read: it would be refused.
const RUBBISH: &str = "this is no route file";
const OK: &str = "headcount_config_last_reload_successful";

#[tokio::test(flavor = "multi_thread")]
async fn c1_what_tools_do_to_a_file_ends_in_its_new_routes() {
    for (tool, write) in WAYS {
        let sidecar = lonely("");
        let folder = sidecar.directory().join("routes.d");
        write(&Edit {
            folder: &folder,
            name: "site.toml",
            text: &route("changed", "^/healthz$"),
            look: &|| look(&sidecar),
        });
        sidecar.wait_for_route("/healthz", "changed").await;
        assert_eq!(sidecar.metric(OK).await, 1.0, "{tool}");
        let refused = sidecar.log().contains("route files refused");
        assert!(!refused, "{tool}: {}", sidecar.log());
    }
}

/// Has the sidecar read its folder, and waits until it has found it in order.
fn look(sidecar: &Sidecar) {
    let looks = async {
        let before = sidecar.metric(LOADED).await;
        sidecar.signal("HUP");
        sidecar.loads(before + 1.0).await;
    };
    block_in_place(|| Handle::current().block_on(looks));
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
