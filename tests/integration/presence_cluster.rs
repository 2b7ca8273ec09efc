//! Presence in a Redis Cluster: nodes are killed, hang, fail over, forget and hand over slots; each by itself.

mod faults;
mod moving;
mod rights;

use std::time::Duration;

use headcount::config;
use headcount::presence::Scope;
use headcount::presence::keys::Keys;

use crate::support::redis_cluster::RedisCluster;

const WINDOW: Duration = Duration::from_secs(300);
/// Of nodes that hang.
const IMPATIENT: Duration = Duration::from_millis(300);

/// A configuration with which calls to a node that hangs fail within the test's patience.
fn impatient(config: config::Redis) -> config::Redis {
    config::Redis {
        connect_timeout: IMPATIENT,
        response_timeout: IMPATIENT,
        ..config
    }
}

/// A community on each of the primaries, in their order.
async fn one_on_each(cluster: &RedisCluster, config: &config::Redis) -> [Scope; 3] {
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let mut found = [None, None, None];
    for id in 0.. {
        let community = Scope::from(&*id.to_string());
        let keeper = cluster.keeper(&keys, &community).await;
        found[keeper].get_or_insert(community);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.map(|community| community.expect("found"))
}
