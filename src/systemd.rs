//! systemd notifications (`Type=notify`): sends the state of the process to the socket named in the environment.
//! Without systemd, nothing happens.
//!
//! The crate `sd-notify` (0.5) could only send to a file, not to an abstract name, and would wait where systemd does not
//! read.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixDatagram;

/// The site is served, by this process: after a hand-over the main process is another one than before.
pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// The site stops being served soon.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(error = %error, "systemd could not be notified: {state:?}");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // Sending does not wait for systemd.
    sender.set_nonblocking(true)?;
    match abstract_name(socket) {
        Some(name) => send_to_abstract(&sender, name, state)?,
        None => sender.send_to(state.as_bytes(), socket)?,
    };
    Ok(())
}

/// The name of an abstract socket, as containers use.
fn abstract_name(socket: &OsStr) -> Option<&[u8]> {
    socket.as_encoded_bytes().strip_prefix(b"@")
}

#[cfg(target_os = "linux")]
fn send_to_abstract(sender: &UnixDatagram, name: &[u8], state: &str) -> io::Result<usize> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    sender.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn send_to_abstract(_: &UnixDatagram, _: &[u8], _: &str) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_file_or_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&file).unwrap();
        send(file.as_os_str(), "READY=1").unwrap();
        let mut heard = [0; 64];
        let length = receiver.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        assert!(send(folder.path().join("absent").as_os_str(), "READY=1").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_starts_with_an_at_sign() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::SocketAddr;
        let name = format!("headcount-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        let mut heard = [0; 64];
        let length = receiver.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"STOPPING=1");
    }
}
