//! Redis key and channel names, and the format of a published change. Pure.
//!
//! ```text
//! headcount:{p07}:seen:42     sorted set: user → last seen, milliseconds
//! headcount:{p07}:state:42    hash: last published count, its sequence number, and how much of `shift` is taken over
//! headcount:{p07}:granted:2:42:7  numbers: when the app last showed community 42, whose id is 2 bytes, to user 7,
//!                             milliseconds, negative where it refused; and until when that counts
//! headcount:{p07}:due         sorted set: community → when its next user's window passes
//! headcount:{p07}:mark:f3…    number: what a sidecar last wrote here, to see whether it is still there
//! headcount:{p07}:settings    sorted set: what sidecars use → when one last did, milliseconds; and where Redis' clock was
//!                             set back, `shift` → by how much in all, milliseconds
//! headcount:changes           channel: every change of a count
//! ```
//!
//! The part in braces is the partition, and Redis Cluster's hash tag: all keys that one script touches are in one
//! slot. No brace may come before it in a key name, hence [`Keys::new`] refuses such prefixes; what follows it may
//! be any text.

use std::num::NonZeroU16;

use chrono::DateTime;

use super::{Count, CountChange};
use crate::ids::{CommunityId, UserId};

/// Longest community id, in bytes, that presence keeps. Primary keys are far shorter; a longer text is no
/// key, and must not become one here.
pub const MAX_COMMUNITY_BYTES: usize = 255;

/// Whether presence keeps this community: neither empty nor longer than [`MAX_COMMUNITY_BYTES`].
pub fn is_keyable(community: &CommunityId) -> bool {
    (1..=MAX_COMMUNITY_BYTES).contains(&community.as_str().len())
}

/// Makes key names.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    partitions: NonZeroU16,
}

/// The names that one call about a community needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommunityKeys {
    /// Sorted set: user → last seen.
    pub seen: String,
    /// Hash: last published count and its sequence number.
    pub state: String,
    /// Sorted set of the community's partition: community → next expiry.
    pub due: String,
}

impl Keys {
    /// `None` if the prefix holds a brace: it would take the place of the partition's hash tag.
    pub fn new(prefix: &str, partitions: NonZeroU16) -> Option<Self> {
        (!prefix.contains(['{', '}'])).then(|| Self {
            prefix: prefix.to_owned(),
            partitions,
        })
    }

    /// Names for one community.
    pub fn community(&self, community: &CommunityId) -> CommunityKeys {
        let partition = self.partition(community);
        CommunityKeys {
            seen: self.seen_prefix(partition) + community.as_str(),
            state: self.state_prefix(partition) + community.as_str(),
            due: self.due(partition),
        }
    }

    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.partitions.get()
    }

    /// The partition of a community: FNV-1a of its id's bytes, modulo the number of partitions. Fixed for
    /// ever: sidecars of different versions share the keys.
    pub fn partition(&self, community: &CommunityId) -> u16 {
        partition(community, self.partitions)
    }

    /// The hash tag of a partition: the text in its braces.
    pub fn tag(&self, partition: u16) -> String {
        format!("p{partition:02}")
    }

    /// Sorted set: community → when its next user's window passes.
    pub fn due(&self, partition: u16) -> String {
        self.named(partition, "due")
    }

    /// Numbers: when the app last showed a community to a user or, negative, refused, and until when that counts. With the length of the community's
    /// id, so that no other community and user make the same name.
    pub fn granted(&self, community: &CommunityId, user: &UserId) -> String {
        let (length, partition) = (community.as_str().len(), self.partition(community));
        self.named(partition, &format!("granted:{length}:{community}:{user}"))
    }

    /// A sidecar's mark.
    pub fn mark(&self, partition: u16, sidecar: &str) -> String {
        self.named(partition, &format!("mark:{sidecar}"))
    }

    /// Sorted set: settings of sidecars → when one of them was last used.
    pub fn settings(&self, partition: u16) -> String {
        self.named(partition, "settings")
    }

    /// Prefix of the names of the communities' user sets.
    pub fn seen_prefix(&self, partition: u16) -> String {
        self.named(partition, "seen:")
    }

    /// Prefix of the names of the communities' states.
    pub fn state_prefix(&self, partition: u16) -> String {
        self.named(partition, "state:")
    }

    fn named(&self, partition: u16, rest: &str) -> String {
        format!("{}:{{{}}}:{rest}", self.prefix, self.tag(partition))
    }

    /// The channel on which every change of a count is published, as [`parse_change`] reads it.
    pub fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}

/// The partition of a community; see [`Keys::partition`].
pub(super) fn partition(community: &CommunityId, partitions: NonZeroU16) -> u16 {
    let partition = fnv1a(community.as_str().as_bytes()) % u32::from(partitions.get());
    u16::try_from(partition).unwrap_or_default()
}

/// Reads a published change: `count seq milliseconds community`, where the community may hold spaces.
/// `None` for anything else, such as a message of a later version.
pub fn parse_change(message: &str) -> Option<CountChange> {
    let mut fields = message.splitn(4, ' ');
    let current = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let as_of = DateTime::from_timestamp_millis(fields.next()?.parse().ok()?)?;
    let community = CommunityId::from(fields.next()?);
    is_keyable(&community).then_some(CountChange {
        community,
        count: Count { current, seq, as_of },
    })
}

/// The 32-bit Fowler–Noll–Vo hash, variant 1a.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(partitions: u16) -> Keys {
        Keys::new("headcount", NonZeroU16::new(partitions).unwrap()).unwrap()
    }

    /// The published test vectors. If this fails, sidecars of two versions no longer find each other's keys.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn a_community_has_all_its_keys_in_one_partition() {
        let keys = keys(16);
        let community = CommunityId::from("42");
        let partition = keys.partition(&community);
        let names = keys.community(&community);
        assert_eq!(names.seen, format!("headcount:{{p{partition:02}}}:seen:42"));
        assert_eq!(names.state, format!("headcount:{{p{partition:02}}}:state:42"));
        assert_eq!(names.due, format!("headcount:{{p{partition:02}}}:due"));
        assert_eq!(
            keys.granted(&community, &"7".into()),
            format!("headcount:{{p{partition:02}}}:granted:2:42:7")
        );
        assert_eq!(keys.due(7), "headcount:{p07}:due");
        assert_eq!(keys.mark(7, "f3"), "headcount:{p07}:mark:f3");
        assert_eq!(keys.settings(7), "headcount:{p07}:settings");
        assert_eq!(keys.changes(), "headcount:changes");
    }

    #[test]
    fn communities_spread_over_all_partitions() {
        let keys = keys(16);
        let mut sizes = [0_u32; 16];
        for id in 0..16_000 {
            sizes[usize::from(keys.partition(&CommunityId::new(id.to_string())))] += 1;
        }
        assert!(sizes.iter().all(|size| (500..2_000).contains(size)), "{sizes:?}");
        assert_eq!(keys.partitions().count(), 16);
    }

    #[test]
    fn braces_in_a_community_do_not_move_its_hash_tag() {
        let keys = keys(1);
        let names = keys.community(&CommunityId::from("}{x}:due"));
        assert_eq!(names.seen, "headcount:{p00}:seen:}{x}:due");
    }

    #[test]
    fn no_two_communities_and_users_share_the_name_of_a_grant() {
        let keys = keys(1);
        let name = |community: &str, user: &str| keys.granted(&community.into(), &user.into());
        assert_ne!(name("4:2", "7"), name("4", "2:7"));
    }

    #[test]
    fn a_prefix_with_braces_is_refused() {
        assert!(Keys::new("site{1}", NonZeroU16::MIN).is_none());
        assert!(Keys::new("site}", NonZeroU16::MIN).is_none());
    }

    #[test]
    fn overlong_and_empty_communities_are_not_kept() {
        assert!(is_keyable(&CommunityId::new("x".repeat(MAX_COMMUNITY_BYTES))));
        assert!(!is_keyable(&CommunityId::new(
            "x".repeat(MAX_COMMUNITY_BYTES + 1)
        )));
        assert!(!is_keyable(&CommunityId::from("")));
    }

    #[test]
    fn a_published_change_is_read_back() {
        let change = parse_change("3 1763884800001 1763884800000 two words").unwrap();
        assert_eq!(change.community.as_str(), "two words");
        assert_eq!(change.count.current, 3);
        assert_eq!(change.count.seq, 1_763_884_800_001);
        assert_eq!(change.count.as_of.timestamp_millis(), 1_763_884_800_000);
    }

    #[test]
    fn other_messages_are_no_changes() {
        for message in ["", "3", "3 1 2", "3 1 2 ", "-3 1 2 42", "3 x 2 42", "probe"] {
            assert_eq!(parse_change(message), None, "{message:?}");
        }
    }
}
