//! Step 1, receive.

pub mod client_ip;
pub mod headers;
