//! What a user agent says of its device.

use serde::{Deserialize, Serialize};

/// `device_info` as the app's tables hold it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Browser and version, for example `Firefox 128.0`; `unknown` when not recognised.
    pub browser: String,
    /// Operating system, for example `Windows 10`; `unknown` when not recognised.
    pub os: String,
    /// `desktop`, `mobile`, `tablet` or `unknown`.
    pub device: String,
}
