//! Reports when the store may have lost touches, so that they can be made again (P14).
//!
//! A store has parts, which fail, lose data and fail over independently. Most have one; in a Redis Cluster each
//! partition is one.

use std::num::NonZeroU16;

use tokio::sync::watch;

use super::keys::partition;
use crate::ids::CommunityId;

/// Counts the occasions on which a part of the store may have lost touches: each new connection (the server may
/// have restarted empty, or be a replica that lacks the last writes), each change of the server that keeps it, and
/// each missing mark. Clones count together.
///
/// An occasion is noted *before* the first call can use the new connection: an answer that came without a new
/// occasion is then an answer of a store that lost nothing.
#[derive(Debug, Clone)]
pub struct Losses {
    /// By part.
    occasions: watch::Sender<Vec<u64>>,
    parts: NonZeroU16,
}

impl Losses {
    /// For a store with `parts` parts: one, or as many as there are partitions.
    pub fn new(parts: NonZeroU16) -> Self {
        Self {
            occasions: watch::Sender::new(vec![0; usize::from(parts.get())]),
            parts,
        }
    }

    /// Every part.
    pub fn parts(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.parts.get()
    }

    /// The part that keeps a community.
    pub fn part(&self, community: &CommunityId) -> u16 {
        partition(community, self.parts)
    }

    /// The part that keeps a partition of the keys.
    pub fn part_of(&self, partition: u16) -> u16 {
        partition % self.parts
    }

    /// One more occasion for one part.
    pub fn note(&self, part: u16) {
        self.occasions.send_modify(|occasions| {
            if let Some(occasions) = occasions.get_mut(usize::from(part)) {
                *occasions += 1;
            }
        });
    }

    /// One more occasion for every part.
    pub fn note_all(&self) {
        self.occasions
            .send_modify(|occasions| occasions.iter_mut().for_each(|occasions| *occasions += 1));
    }

    /// A part's occasions so far.
    pub fn occasions(&self, part: u16) -> u64 {
        let occasions = self.occasions.borrow();
        occasions.get(usize::from(part)).copied().unwrap_or_default()
    }

    /// Changes with each occasion.
    pub fn watch(&self) -> watch::Receiver<Vec<u64>> {
        self.occasions.subscribe()
    }
}

impl Default for Losses {
    /// A store of one part.
    fn default() -> Self {
        Self::new(NonZeroU16::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p14_parts_lose_each_by_itself() {
        let losses = Losses::new(NonZeroU16::new(4).unwrap());
        losses.note(losses.part_of(2));
        losses.note(9);
        let noted: Vec<_> = losses.parts().map(|part| losses.occasions(part)).collect();
        assert_eq!(noted, [0, 0, 1, 0]);
        losses.note_all();
        assert_eq!((losses.occasions(2), losses.occasions(3)), (2, 1));
        let whole = Losses::default();
        whole.note(whole.part_of(7));
        assert_eq!(
            whole.occasions(0),
            1,
            "a store of one part keeps all partitions in it"
        );
    }
}
