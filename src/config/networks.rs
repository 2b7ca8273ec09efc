//! Networks in the configuration: `10.0.0.0/8`, or one address.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// An element of a list.
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse().ok().or_else(address).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is neither a network nor an address; write for example \"10.0.0.0/8\" or \"10.0.0.7\""
            ))
        })?;
        Ok(Self(network))
    }
}

/// Reads a list; a single address is a network of one.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|Network(network)| network).collect())
}
