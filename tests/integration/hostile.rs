//! Requests that no browser sends. Each is refused or passes without harm, nobody else gets a page view from
//! it, and the site works afterwards.

mod connections;
mod files;
mod framing;
mod heads;
mod secrets;
mod threads;
mod views;

use tokio::sync::OnceCell;

use crate::support::wire::{Answer, Wire, exchange};
use crate::support::world::{Wanted, World};

/// A world with small limits, shared by the tests that need no other.
async fn world() -> &'static World {
    static WORLD: OnceCell<World> = OnceCell::const_new();
    WORLD
        .get_or_init(|| async {
            let mut wanted = Wanted::usual();
            wanted.config = "[limits]\nmax_body_bytes = \"100KiB\"".into();
            wanted.start().await
        })
        .await
}

/// Sends bytes on a connection of their own; whoever refuses them may do so before the last. The first answer,
/// if any came.
async fn attack(port: u16, bytes: impl AsRef<[u8]>) -> Option<Answer> {
    let mut wire = Wire::open(port).await;
    wire.try_send(bytes).await;
    let answer = wire.try_answer(false).await;
    if let Some(answer) = &answer {
        assert!(answer.status < 500, "{}", answer.status);
    }
    answer
}

/// Asserts that the request is refused with this status, and that the connection ends.
async fn refused(world: &World, bytes: impl AsRef<[u8]>, status: u16) {
    let bytes = bytes.as_ref();
    let what = bytes[..bytes.len().min(300)].escape_ascii();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.try_send(bytes).await;
    let answer = wire.try_answer(false).await;
    assert_eq!(answer.map(|answer| answer.status), Some(status), "{what}");
    wire.closes().await;
}

/// The site answers as ever, and nothing in the sidecar has broken.
async fn unharmed(world: &World) {
    let page = "GET /about/ HTTP/1.1\r\nHost: site.test\r\n\r\n";
    assert_eq!(exchange(world.sidecar.port, page, false).await.status, 200);
    let log = world.sidecar.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
