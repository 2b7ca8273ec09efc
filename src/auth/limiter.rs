//! Rate limit of new tokens per address: above it they are looked up last. They still are looked up: many people may
//! share an address, and after a restart every token is new.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::rate_limit::{Buckets, network};

/// New tokens at once.
const BURST: u32 = 200;
/// Time for one more.
const EACH: Duration = Duration::from_millis(20);
/// Most addresses kept; the least used is evicted.
const ADDRESSES: usize = 50_000;

/// A token bucket for each address.
pub(super) struct Limiter(Buckets<IpAddr>);

impl Limiter {
    pub(super) fn new() -> Self {
        Self(Buckets::new(ADDRESSES, BURST, EACH))
    }

    /// Whether this address may bring one more new token.
    pub(super) fn allows(&self, address: Option<IpAddr>) -> bool {
        address.is_none_or(|address| self.0.take(&network(address), Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i14_an_address_brings_so_many_new_tokens_and_others_are_not_concerned() {
        let limiter = Limiter::new();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same_network: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        let allowed = (0..100_000).filter(|_| limiter.allows(Some(one))).count();
        assert!((200..100_000).contains(&allowed), "{allowed}");
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(limiter.allows(Some(other)) && limiter.allows(None));
        let allowed = (0..100_000)
            .filter(|_| limiter.allows(Some(same_network)))
            .count();
        assert!(allowed < 100_000);
    }
}
