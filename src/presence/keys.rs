//! Redis key and channel names, and the format of a published change. Pure.
//!
//! ```text
//! headcount:{p07}:seen:42     sorted set: user → last seen, milliseconds
//! headcount:{p07}:state:42    hash: last published count, its sequence number, and how much of `shift` is taken over; of
//!                             the whole site also the `peak` of the `day`, counted since 1970, UTC
//! headcount:{p07}:granted:2:42:7  numbers: when the app last showed community 42, whose name is 2 bytes, to user 7,
//!                             milliseconds, negative where it refused; and until when that counts
//! headcount:{p07}:due         sorted set: community → when its next user's window passes
//! headcount:{p07}:finer       the same of what is finer, and of the whole site
//! headcount:{p07}:mark:f3…    number: what a sidecar last wrote here, to see whether it is still there
//! headcount:{p07}:settings    sorted set: what sidecars use → when one last did, milliseconds; and where Redis' clock was
//!                             set back, `shift` → by how much in all, milliseconds
//! headcount:changes           channel: every change of a count
//! ```
//!
//! Something finer than a community stands behind its id, each part after the control character U+001F, which neither
//! has: `seen:42␟post␟7`. The whole site is `seen:␟site`. Sidecars of releases that know no such scopes neither touch nor
//! sweep them, and take no notice of their changes.
//!
//! The part in braces is the partition, and Redis Cluster's hash tag: all keys that one script touches are in one
//! slot. No brace may come before it in a key name, hence [`Keys::new`] refuses such prefixes; what follows it may
//! be any text.

use std::borrow::Cow;
use std::num::NonZeroU16;

use chrono::DateTime;

use super::scope::SEPARATOR;
pub use super::scope::{MAX_COMMUNITY_BYTES, is_keyable};
use super::{Count, CountChange, Scope};
use crate::ids::{CommunityId, Finer, UserId};

/// The whole site in key names.
const SITE: &str = "\u{1f}site";

/// Whether presence keeps this scope: that of a community that it keeps, or the whole site.
pub fn is_kept(scope: &Scope) -> bool {
    scope.community().is_none_or(is_keyable)
}

/// A scope as it stands in key names and published changes.
pub fn encode(scope: &Scope) -> Cow<'_, str> {
    match scope {
        Scope::Site => SITE.into(),
        Scope::Community(community) => community.as_str().into(),
        Scope::Finer(community, finer) => {
            format!("{community}{SEPARATOR}{}{SEPARATOR}{}", finer.kind(), finer.key()).into()
        }
    }
}

/// Reads what [`encode`] makes of a scope that presence keeps; `None` for anything else.
pub fn decode(text: &str) -> Option<Scope> {
    if text == SITE {
        return Some(Scope::Site);
    }
    let mut parts = text.split(SEPARATOR);
    let community = CommunityId::from(parts.next()?);
    let finer = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some(kind), Some(key), None) => Some(Finer::new(kind, key)?),
        _ => return None,
    };
    is_keyable(&community).then(|| Scope::of(community, finer))
}

/// Makes key names.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    partitions: NonZeroU16,
}

/// The names of one scope's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeKeys {
    /// Sorted set: user → last seen.
    pub seen: String,
    /// Hash: last published count and its sequence number.
    pub state: String,
    /// Sorted set of scopes of its kind in its partition: scope → next expiry.
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

    /// Names for one scope.
    pub fn scope(&self, scope: &Scope) -> ScopeKeys {
        let (partition, name) = (self.partition_of(scope), encode(scope));
        ScopeKeys {
            seen: self.seen_prefix(partition) + &name,
            state: self.state_prefix(partition) + &name,
            due: match scope {
                Scope::Community(_) => self.due(partition),
                Scope::Site | Scope::Finer(..) => self.finer(partition),
            },
        }
    }

    /// Every partition.
    pub fn partitions(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.partitions.get()
    }

    /// The partition of a community: FNV-1a of its id's bytes, modulo the number of partitions. Fixed for
    /// ever: sidecars of different versions share the keys.
    pub fn partition(&self, community: &CommunityId) -> u16 {
        partition(community.as_str(), self.partitions)
    }

    /// The partition of a scope: that of its community, or one by the whole site's own name.
    pub fn partition_of(&self, scope: &Scope) -> u16 {
        partition_of(scope, self.partitions)
    }

    /// The hash tag of a partition: the text in its braces.
    pub fn tag(&self, partition: u16) -> String {
        format!("p{partition:02}")
    }

    /// Sorted set: community → when its next user's window passes.
    pub fn due(&self, partition: u16) -> String {
        self.named(partition, "due")
    }

    /// Sorted set: what is finer than a community, and the whole site → when its next user's window passes.
    pub fn finer(&self, partition: u16) -> String {
        self.named(partition, "finer")
    }

    /// Numbers: when the app last showed a community, or something in it, to a user or, negative, refused, and until when that counts. With the length of the
    /// scope's name, so that no other scope and user make the same name.
    pub fn granted(&self, scope: &Scope, user: &UserId) -> String {
        let (name, partition) = (encode(scope), self.partition_of(scope));
        self.named(partition, &format!("granted:{}:{name}:{user}", name.len()))
    }

    /// A sidecar's mark.
    pub fn mark(&self, partition: u16, sidecar: &str) -> String {
        self.named(partition, &format!("mark:{sidecar}"))
    }

    /// Text: which sidecar sweeps the partitions of the server, of which this is the first.
    pub fn sweeper(&self, partition: u16) -> String {
        self.named(partition, "sweeper")
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

/// The partition of a scope; see [`Keys::partition_of`].
pub(super) fn partition_of(scope: &Scope, partitions: NonZeroU16) -> u16 {
    partition(scope.community().map_or(SITE, CommunityId::as_str), partitions)
}

fn partition(name: &str, partitions: NonZeroU16) -> u16 {
    let partition = fnv1a(name.as_bytes()) % u32::from(partitions.get());
    u16::try_from(partition).unwrap_or_default()
}

/// Reads a published change: `count seq milliseconds scope`, where the scope may hold spaces.
/// `None` for anything else, such as a message of a later version.
pub fn parse_change(message: &str) -> Option<CountChange> {
    let mut fields = message.splitn(4, ' ');
    let current = fields.next()?.parse().ok()?;
    let seq = fields.next()?.parse().ok()?;
    let as_of = DateTime::from_timestamp_millis(fields.next()?.parse().ok()?)?;
    Some(CountChange {
        scope: decode(fields.next()?)?,
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
        let names = keys.scope(&(&community).into());
        assert_eq!(names.seen, format!("headcount:{{p{partition:02}}}:seen:42"));
        assert_eq!(names.state, format!("headcount:{{p{partition:02}}}:state:42"));
        assert_eq!(names.due, format!("headcount:{{p{partition:02}}}:due"));
        assert_eq!(keys.partition_of(&(&community).into()), partition);
        assert_eq!(
            keys.granted(&(&community).into(), &"7".into()),
            format!("headcount:{{p{partition:02}}}:granted:2:42:7")
        );
        assert_eq!(keys.due(7), "headcount:{p07}:due");
        assert_eq!(keys.finer(7), "headcount:{p07}:finer");
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
        let names = keys.scope(&"}{x}:due".into());
        assert_eq!(names.seen, "headcount:{p00}:seen:}{x}:due");
    }

    #[test]
    fn no_two_communities_and_users_share_the_name_of_a_grant() {
        let keys = keys(1);
        let name = |community: &str, user: &str| keys.granted(&community.into(), &user.into());
        assert_ne!(name("4:2", "7"), name("4", "2:7"));
        let post = |key: &str, user: &str| {
            let finer = Finer::new("post", key).unwrap();
            keys.granted(&Scope::Finer("42".into(), finer), &user.into())
        };
        assert_ne!(post("4:2", "7"), post("4", "2:7"));
        assert_ne!(post("4", "7"), name("42", "7"));
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
        assert!(!is_keyable(&CommunityId::from("42\u{1f}post\u{1f}7")));
    }

    #[test]
    fn a_published_change_is_read_back() {
        let change = parse_change("3 1763884800001 1763884800000 two words").unwrap();
        assert_eq!(change.scope, "two words".into());
        assert_eq!(change.count.current, 3);
        assert_eq!(change.count.seq, 1_763_884_800_001);
        assert_eq!(change.count.as_of.timestamp_millis(), 1_763_884_800_000);
    }

    #[test]
    fn p23_what_is_finer_shares_the_partition_of_its_community_and_no_name_with_another() {
        let keys = keys(16);
        let post = |community: &str, kind: &str, key: &str| {
            Scope::Finer(community.into(), Finer::new(kind, key).unwrap())
        };
        let scopes = [
            Scope::Site,
            "42".into(),
            "site".into(),
            post("42", "post", "7"),
            post("42", "post", "7 8"),
            post("42", "posts", "7"),
            post("4", "post", "7"),
        ];
        for (place, scope) in scopes.iter().enumerate() {
            let name = encode(scope);
            assert_eq!(decode(&name).as_ref(), Some(scope));
            assert!(
                scopes[..place].iter().all(|other| encode(other) != name),
                "{name}"
            );
            assert_eq!(keys.partition_of(scope), keys.partition_of(&scope.group()));
        }
        assert!(keys.scope(&scopes[3]).seen.ends_with("seen:42\u{1f}post\u{1f}7"));
        let names = keys.scope(&Scope::Site);
        assert!(names.seen.ends_with("seen:\u{1f}site") && names.due.ends_with("}:finer"));
    }

    #[test]
    fn other_messages_are_no_changes() {
        let parts = "3 1 2 42\u{1f}post";
        let more = "3 1 2 42\u{1f}post\u{1f}7\u{1f}8";
        for message in [
            "",
            "3",
            "3 1 2",
            "3 1 2 ",
            "-3 1 2 42",
            "3 x 2 42",
            "probe",
            parts,
            more,
        ] {
            assert_eq!(parse_change(message), None, "{message:?}");
        }
    }
}
