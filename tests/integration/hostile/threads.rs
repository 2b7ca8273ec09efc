//! Threads: none wakes again and again where nothing is done.

use super::{Wire, World};

/// The names of the running process' threads.
fn names(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        let name = std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()?;
        Some(name.trim().to_owned())
    };
    threads.filter_map(name).collect()
}

/// The framework's own timers would start one that wakes a hundred times per second.
#[tokio::test]
async fn v51_no_thread_wakes_for_timers() {
    let world = World::usual().await;
    let mut client = Wire::open(world.sidecar.port).await;
    client.send("GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    let names = names(world.sidecar.process().pid());
    assert!(names.iter().any(|name| name == "site"), "{names:?}");
    assert!(!names.iter().any(|name| name == "Timer thread"), "{names:?}");
}
