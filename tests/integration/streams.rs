//! The edge: what other proxies and clients do to connections, and how long the app may be silent. Each test goes
//! the way of a proxy or client that is out there, or sends its bytes.

mod behind;
mod lingering_close;
mod pipelined;
mod proxies;
mod silence;
