//! Finds the Redis primary through Sentinels.
//!
//! All Sentinels are asked at once and the first good answer counts, so that a hanging one costs nothing. An
//! answer is good if the server that it names says itself that it is the primary: the client asks it.

use ::redis::sentinel::SentinelClient;
use ::redis::{Client, ErrorKind, RedisResult};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Mutex;

use super::access::{ServerAccess, ServerAddress};
use crate::config;

/// Sentinels of one server.
pub(super) struct Sentinels {
    clients: Vec<Mutex<SentinelClient>>,
    addresses: Vec<String>,
}

impl Sentinels {
    /// Connects to none yet.
    pub(super) fn new(access: &ServerAccess, config: &config::Redis) -> RedisResult<Self> {
        let addresses = config
            .sentinels
            .iter()
            .filter_map(|text| ServerAddress::parse(text));
        let clients = addresses.map(|address| access.sentinel(&address, config).map(Mutex::new));
        Ok(Self {
            clients: clients.collect::<RedisResult<_>>()?,
            addresses: config.sentinels.clone(),
        })
    }

    /// Host and port of each, as configured.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// A client for the current primary.
    pub(super) async fn master(&self) -> RedisResult<Client> {
        let asked = self
            .clients
            .iter()
            .map(async |sentinel| sentinel.lock().await.async_get_client().await);
        let mut answers: FuturesUnordered<_> = asked.collect();
        let mut failure = (ErrorKind::EmptySentinelList, "no Sentinel is configured").into();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(client) => return Ok(client),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}
