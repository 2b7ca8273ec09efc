//! Location of an address, for `location_data`: from a `MaxMind` database that the operator provides.
//!
//! Used by the writer's worker, never in the request path, and only with as much of the address as `privacy.ip_address`
//! keeps.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::{MaxMindDbError, Reader, path};
use serde::Serialize;

/// `location_data` as the app's tables hold it; unknown parts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Location {
    /// ISO 3166-1 code, for example `DE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// First subdivision, in English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// City, in English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
}

/// A location database, in memory.
pub struct GeoIp(Reader<Vec<u8>>);

impl GeoIp {
    /// Reads a city or country database (`.mmdb`).
    ///
    /// # Errors
    /// The file cannot be read, or is no `MaxMind` database.
    pub fn open(path: &Path) -> Result<Self, MaxMindDbError> {
        Reader::open_readfile(path).map(Self)
    }

    /// The location of an address; empty where it is unknown.
    pub fn locate(&self, ip: IpAddr) -> Location {
        self.find(ip).unwrap_or_default()
    }

    /// Decodes no more of the record than is kept of it.
    fn find(&self, ip: IpAddr) -> Result<Location, MaxMindDbError> {
        let found = self.0.lookup(ip.to_canonical())?;
        // A database of another shape may have one of them.
        Ok(Location {
            country: found.decode_path(&path!["country", "iso_code"]).ok().flatten(),
            region: found
                .decode_path(&path!["subdivisions", 0, "names", "en"])
                .ok()
                .flatten(),
            city: found.decode_path(&path!["city", "names", "en"]).ok().flatten(),
        })
    }
}
