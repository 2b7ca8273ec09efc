//! The end of a connection whose last answer is on its way.
//!
//! A socket that is closed while bytes wait to be read resets its connection, and a client that still sends loses the
//! answer, or never looks for it. So this side is ended first, and what comes is read and dropped, until the client
//! ends its own.

use std::time::Duration;

use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::shutdown::Shutdown;

/// Longest time in which nothing comes.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest time in all.
const LONGEST: Duration = Duration::from_secs(30);
/// The same once the process is leaving.
const LEAVING: Duration = Duration::from_secs(1);
/// Most bytes that are dropped: an upload that goes on after this is cut off.
const MOST: u64 = 1024 * 1024 * 1024;
/// Bytes read at once.
const BUFFER: usize = 16 * 1024;

/// Ends this side of a connection, and waits within bounds until the client has ended its own.
pub(super) async fn see_off(mut stream: Stream, leaving: &Shutdown) {
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
