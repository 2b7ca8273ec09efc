//! Route files and the compiled table.
use std::path::PathBuf;
/// One route file, read.
#[derive(Debug, Clone)]
pub struct RouteFile {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}
/// x
pub struct RouteTable {}
/// x
pub struct RouteError {}
