//! An upstream that is the sidecar itself.

use std::process::Command;

use super::{get, nginx, refused};
use crate::support::nginx::Nginx;
use crate::support::process;
use crate::support::service::free_port;
use crate::support::sidecar::{self, Sidecar};
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

const DATABASE: &str = "[database]\nurl = \"sqlite:///nowhere/app.db\"\n";

/// What `headcount` says of a configuration with these servers and listeners.
fn told(command: &[&str], server: &str, listen: &str) -> process::Told {
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        format!("[upstream]\nservers = [\"127.0.0.1:9\", {server:?}]\n{DATABASE}[listen]\n{listen}\n");
    let path = sidecar::write_config(directory.path(), &config, "");
    let config = ["--config", path.to_str().expect("UTF-8")];
    process::run(&[command, &config].concat(), &[])
}

#[test]
fn e14_an_upstream_that_is_the_own_listener_is_refused_before_anything_is_served() {
    for (server, listen) in [
        ("127.0.0.1:8080", "http = [\"127.0.0.1:8080\"]"),
        ("localhost:8080", "http = [\"127.0.0.1:8080\"]"),
        ("127.0.0.1:8080", "http = [\"0.0.0.0:8080\"]"),
        ("127.0.0.1:8080", "http = [\"[::]:8080\"]"),
        ("[::1]:8080", "http = [\"[::]:8080\"]"),
        ("[::ffff:127.0.0.1]:8080", "http = [\"127.0.0.1:8080\"]"),
        ("0.0.0.0:8080", "http = [\"0.0.0.0:8080\"]"),
        ("127.0.0.1:9464", "admin = \"127.0.0.1:9464\""),
    ] {
        for command in [&["check", "--offline"][..], &["run"]] {
            let told = told(command, server, listen);
            assert_eq!(told.code, Some(64), "{server} {listen}: {told:?}");
            let message = format!("upstream.servers[1]: \"{server}\" is the sidecar's own listener");
            assert!(told.err.contains(&message), "{}", told.err);
        }
    }
    for (server, listen) in [
        ("127.0.0.1:8081", "http = [\"127.0.0.1:8080\"]"),
        // Of another machine, behind which something else listens.
        ("192.0.2.7:8080", "http = [\"0.0.0.0:8080\"]"),
        ("127.0.0.2:8080", "http = [\"127.0.0.1:8080\"]"),
        ("app:8080", "http = [\"0.0.0.0:8080\"]"),
    ] {
        let told = told(&["check", "--offline"], server, listen);
        assert_eq!(told.code, Some(0), "{server} {listen}: {told:?}");
    }
}

/// Where any address can be bound, which load balancers that wait for theirs are set up for.
#[test]
fn e22_an_address_that_can_be_bound_though_it_is_another_machines_is_no_own_listener() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[upstream]\nservers = [\"192.0.2.7:8080\"]\n{DATABASE}[listen]\nhttp = [\"0.0.0.0:8080\"]\n"
    );
    let path = sidecar::write_config(directory.path(), &config, "");
    let in_network = "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind && exec \"$@\"";
    // A network of its own.
    let output = Command::new("unshare")
        .args([
            "--map-root-user",
            "--net",
            "sh",
            "-c",
            in_network,
            "sh",
            &*process::binary(),
        ])
        .args(["check", "--offline", "--config"])
        .arg(path)
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{output:?}");
}

/// Each round of such a loop would take one more connection until there are none.
#[tokio::test]
async fn e14_a_request_that_comes_back_through_others_is_508() {
    let world = World::shared().await;
    let port = free_port();
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![format!("127.0.0.1:{port}")]);
    let sidecar = world.another_sidecar(&wanted);
    let _nginx = Nginx::on(
        port,
        &format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", sidecar.port),
    );
    let answer = exchange(sidecar.port, get("/about/"), false).await;
    assert_eq!((answer.status, answer.text()), (508, "508 Loop Detected\n"));
    assert_eq!(refused(&sidecar, "loop").await, 1);
    sidecar.says("leads back to this sidecar");
}

/// Several sidecars in a row are none.
#[tokio::test]
async fn e14_a_chain_of_sidecars_is_no_loop() {
    let world = World::shared().await;
    let behind = |sidecar: &Sidecar| {
        let mut wanted = Wanted::usual();
        wanted.servers = Some(vec![format!("127.0.0.1:{}", sidecar.port)]);
        world.another_sidecar(&wanted)
    };
    let second = behind(&world.sidecar);
    let nginx = nginx(&second, "");
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![format!("127.0.0.1:{}", nginx.port())]);
    let first = world.another_sidecar(&wanted);
    let echo = exchange(first.port, get("/echo"), false).await.json();
    let hops = echo["headers"]["HTTP_X_HEADCOUNT_HOPS"].as_str().expect("hops");
    assert_eq!(hops.split(", ").count(), 3, "{hops}");
}
