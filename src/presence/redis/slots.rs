//! Maps partitions to the nodes of a Redis Cluster. Pure.
//!
//! `CLUSTER SLOTS` rather than `CLUSTER SHARDS`, which Redis 6.2 does not know.

use std::collections::HashMap;

use ::redis::Value;

use super::access::ServerAddress;

/// Number of slots in every Cluster.
const SLOTS: u16 = 16_384;

/// The primary of each partition, in the order of the partitions; `None` where the Cluster has none.
pub(super) type Owners = Vec<Option<ServerAddress>>;

/// The slot of a partition, `p07`: CRC-16 (XMODEM) of the hash tag's bytes.
pub(super) fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

/// Reads the answer to `CLUSTER SLOTS` for these slots. A node that does not know its own address gets that of the
/// node that was `asked`. `None` if the answer has another form.
pub(super) fn owners(answer: &Value, slots: &[u16], asked: &ServerAddress) -> Option<Owners> {
    let Value::Array(ranges) = answer else { return None };
    let ranges: Vec<_> = ranges
        .iter()
        .map(|range| parse_range(range, asked))
        .collect::<Option<_>>()?;
    let owner = |slot: &u16| {
        let mut of_slot = ranges
            .iter()
            .filter(|(first, last, _)| (first..=last).contains(&slot));
        of_slot.next().map(|(_, _, owner)| owner.clone())
    };
    Some(slots.iter().map(owner).collect())
}

fn parse_range(range: &Value, asked: &ServerAddress) -> Option<(u16, u16, ServerAddress)> {
    let Value::Array(fields) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &fields[..] else {
        return None;
    };
    let [host, Value::Int(port), ..] = &primary[..] else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    let address = ServerAddress {
        host: if host.is_empty() {
            asked.host.as_str()
        } else {
            host
        }
        .to_owned(),
        port: u16::try_from(*port).ok()?,
    };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, address))
}

/// The map that most nodes report, and whether those are more than half of all that were `asked`.
pub(super) fn majority(answers: &[Owners], asked: usize) -> Option<(&Owners, bool)> {
    let mut votes: HashMap<&Owners, usize> = HashMap::new();
    for answer in answers {
        *votes.entry(answer).or_default() += 1;
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    most.map(|(owners, votes)| (owners, votes * 2 > asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        Value::Array(vec![
            Value::Int(first),
            Value::Int(last),
            node(host, port),
            node(text("10.0.0.9"), 6_379),
        ])
    }

    fn at(host: &str, port: u16) -> ServerAddress {
        let host = host.to_owned();
        ServerAddress { host, port }
    }

    /// Redis' own examples.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot(""), 0);
    }

    #[test]
    fn each_partition_has_the_primary_of_its_slot() {
        let answer = Value::Array(vec![
            range(0, 99, text("10.0.0.1"), 7_000),
            range(100, 199, Value::Nil, 7_001),
            range(300, 300, text(""), 7_002),
        ]);
        let asked = at("10.0.0.7", 1);
        assert_eq!(
            owners(&answer, &[99, 100, 250, 300], &asked).unwrap(),
            [
                Some(at("10.0.0.1", 7_000)),
                Some(at("10.0.0.7", 7_001)),
                None,
                Some(at("10.0.0.7", 7_002))
            ]
        );
    }

    #[test]
    fn another_answer_is_none() {
        let asked = at("a", 1);
        for answer in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![range(0, 1, Value::Int(1), 1)]),
            Value::Array(vec![range(0, 1, text("a"), 99_999)]),
        ] {
            assert_eq!(owners(&answer, &[0], &asked), None, "{answer:?}");
        }
    }

    #[test]
    fn a_node_that_was_away_is_outvoted() {
        let (old, new) = (vec![Some(at("old", 1))], vec![Some(at("new", 1))]);
        assert_eq!(majority(&[], 3), None);
        assert_eq!(majority(std::slice::from_ref(&old), 3), Some((&old, false)));
        assert_eq!(
            majority(&[old.clone(), new.clone(), new.clone()], 3),
            Some((&new, true))
        );
        assert_eq!(majority(&[new.clone(), new.clone()], 3), Some((&new, true)));
        assert_eq!(majority(&[new.clone(), new.clone()], 4), Some((&new, false)));
    }
}
