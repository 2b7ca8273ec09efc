//! Rate limiting: a token bucket, one for each client, and what counts as one client. The time is a parameter.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, EntryAction, EntryResult};

/// Allows a burst, and then one more each time a period has passed.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    burst: u32,
    each: Duration,
    /// When it would be full again. Not after `now + burst * each`.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket: `burst` at once, then one every `each`.
    pub fn new(burst: u32, each: Duration, now: Instant) -> Self {
        Self {
            burst,
            each,
            full_at: now,
        }
    }

    /// Whether one more is allowed, which then counts.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(1, now)
    }

    /// Whether this many more are allowed, which then count.
    pub fn take_many(&mut self, number: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.each * number;
        let allowed = full_at <= now + self.each * self.burst;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }

    /// How long until it is full again.
    pub fn full_in(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }

    /// How many more are allowed now.
    pub fn left(&self, now: Instant) -> u32 {
        let used = self.full_in(now).as_nanos().div_ceil(self.each.as_nanos().max(1));
        self.burst.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// How long until one more is allowed.
    pub fn next_in(&self, now: Instant) -> Duration {
        let full = self.each * self.burst;
        (self.full_in(now) + self.each).saturating_sub(full)
    }
}

/// A bucket for each client that comes. Of more clients than fit, those that come least are forgotten: they have a full
/// bucket when they come again.
pub(crate) struct Buckets<K> {
    of_clients: Cache<K, Bucket>,
    burst: u32,
    each: Duration,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// For so many clients, with [`Bucket::new`]'s burst and period.
    pub(crate) fn new(clients: usize, burst: u32, each: Duration) -> Self {
        Self {
            of_clients: Cache::new(clients),
            burst,
            each,
        }
    }

    /// Whether a client is allowed one more, which then counts.
    pub(crate) fn take(&self, client: &K, now: Instant) -> bool {
        let known = self
            .of_clients
            .entry(client, None, |_, bucket| EntryAction::Retain(bucket.take(now)));
        match known {
            EntryResult::Retained(allowed) => allowed,
            EntryResult::Vacant(place) => {
                let mut bucket = Bucket::new(self.burst, self.each, now);
                let allowed = bucket.take(now);
                let _ = place.insert(bucket);
                allowed
            }
            // Nothing is removed above, and nothing limits the time.
            EntryResult::Removed(..) | EntryResult::Replaced(..) | EntryResult::Timeout => true,
        }
    }
}

/// The unit of limits per address: a client with one IPv6 address has a whole /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, EACH, start);
        let allowed = (0..10).filter(|_| bucket.take(start)).count();
        assert_eq!(allowed, 3);
        assert!(!bucket.take(start + EACH / 2));
        assert!(bucket.take(start + EACH));
        assert!(!bucket.take(start + EACH));
        let later = start + EACH * 100;
        let allowed = (0..10).filter(|_| bucket.take(later)).count();
        assert_eq!(allowed, 3, "it never holds more than it did at first");
    }

    #[test]
    fn many_at_a_time_are_as_many_one_by_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, EACH, start);
        assert!(!bucket.take_many(11, start));
        assert!(bucket.take_many(9, start));
        assert!(!bucket.take_many(2, start));
        assert!(bucket.take(start));
        assert!(bucket.take_many(5, start + EACH * 5));
        assert!(!bucket.take(start + EACH * 5));
    }

    #[test]
    fn what_is_left_is_told() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, EACH, start);
        let told = |bucket: &Bucket, now| (bucket.left(now), bucket.next_in(now), bucket.full_in(now));
        assert_eq!(told(&bucket, start), (3, Duration::ZERO, Duration::ZERO));
        assert!(bucket.take_many(2, start));
        assert_eq!(told(&bucket, start), (1, Duration::ZERO, 2 * EACH));
        assert_eq!(told(&bucket, start + EACH / 2), (1, Duration::ZERO, EACH * 3 / 2));
        assert!(bucket.take(start + EACH / 2));
        assert_eq!(told(&bucket, start + EACH / 2), (0, EACH / 2, EACH * 5 / 2));
        assert_eq!(told(&bucket, start + EACH), (1, Duration::ZERO, 2 * EACH));
    }

    #[test]
    fn each_client_has_a_bucket_of_its_own_and_no_more_of_them_are_kept_than_fit() {
        let start = Instant::now();
        let buckets = Buckets::new(100, 2, EACH);
        let allowed = |client: u32| (0..10).filter(|_| buckets.take(&client, start)).count();
        assert_eq!((allowed(1), allowed(2)), (2, 2));
        assert_eq!(allowed(1), 0);
        assert!(buckets.take(&1, start + EACH));
        (3..10_000).for_each(|client| assert_eq!(allowed(client), 2));
        assert!(buckets.of_clients.len() <= 100);
    }

    #[test]
    fn what_is_refused_does_not_count() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, EACH, start);
        assert!(bucket.take(start));
        for _ in 0..100 {
            assert!(!bucket.take(start));
        }
        assert!(bucket.take(start + EACH));
    }
}
