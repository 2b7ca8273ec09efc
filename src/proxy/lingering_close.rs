//! Lingering close: ends a connection whose last answer is on its way.
//!
//! A socket that is closed while bytes wait to be read resets its connection, and a client that still sends loses the
//! answer, or never reads it. So this side is shut down first, and received bytes are read and dropped, until the
//! client closes its side.

use std::time::Duration;

use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::shutdown::Shutdown;

/// Longest wait for the next bytes.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest time overall.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest time once the process is leaving.
const LEAVING: Duration = Duration::from_secs(1);
/// Upper bound of dropped bytes: an upload that goes on after this is cut off.
const MOST: u64 = 1024 * 1024 * 1024;
/// Bytes read at once.
const BUFFER: usize = 16 * 1024;

/// Shuts down this side of a connection, and waits within bounds until the client has closed its side.
pub(super) async fn close(mut stream: Stream, leaving: &Shutdown) {
    let leave = async {
        leaving.started().await;
        sleep(LEAVING).await;
    };
    tokio::select! {
        () = end(&mut stream) => {}
        () = sleep(LONGEST) => {}
        () = leave => {}
    }
}

async fn end(stream: &mut Stream) {
    if !matches!(timeout(SILENCE, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    let mut bytes = vec![0; BUFFER];
    let mut dropped = 0;
    while dropped < MOST
        && let Ok(Ok(read)) = timeout(SILENCE, stream.read(&mut bytes)).await
        && read > 0
    {
        dropped += read as u64;
    }
}
