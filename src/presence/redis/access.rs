//! Credentials and TLS certificates for Redis servers. Makes clients; connects to nothing.
//!
//! Errors never hold a password: they are the client's own fixed texts.

use std::fmt;

use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult,
    TlsCertificates, TlsMode,
};
use pingora_core::tls;

use crate::config::{self, Secret};

/// `host:port` of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServerAddress {
    /// A name, or an address without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

impl ServerAddress {
    /// Reads `host:port`. The host may be an IPv6 address with or without brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.parse().ok()?;
        Some(Self { host, port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Credentials and certificates for any server.
#[derive(Debug, Clone)]
pub(super) struct ServerAccess {
    user: RedisConnectionInfo,
    /// `None`: no TLS.
    certificates: Option<TlsCertificates>,
}

impl ServerAccess {
    /// Reads the files with certificates.
    pub(super) fn new(config: &config::Redis) -> std::io::Result<Self> {
        let certificates = if config.uses_tls() {
            // The client uses the process' provider; without one it would pick one, and might find two.
            tls::install_default_crypto_provider();
            let read = |path: &Option<_>| path.as_ref().map(std::fs::read).transpose();
            let pair = (read(&config.tls_cert_file)?, read(&config.tls_key_file)?);
            Some(TlsCertificates {
                client_tls: match pair {
                    (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
                        client_cert,
                        client_key,
                    }),
                    _ => None,
                },
                root_cert: read(&config.tls_ca_file)?,
            })
        } else {
            None
        };
        let user = named(
            RedisConnectionInfo::default().set_db(config.database.into()),
            config.username.as_deref(),
            config.password.as_ref(),
        );
        Ok(Self { user, certificates })
    }

    /// A client for the server of a URL, with settings that the URL lacks.
    pub(super) fn url(&self, url: &str) -> RedisResult<Client> {
        let info = url.into_connection_info()?;
        let user = info.redis_settings().clone();
        let user = match (self.user.username(), self.user.password()) {
            (Some(name), Some(password)) => user.set_username(name).set_password(password),
            (None, Some(password)) => user.set_password(password),
            _ => user,
        };
        self.open(info.set_redis_settings(user))
    }

    /// A client of a server at an address.
    pub(super) fn address(&self, address: &ServerAddress) -> RedisResult<Client> {
        let info = self.connection_address(address).into_connection_info()?;
        self.open(info.set_redis_settings(self.user.clone()))
    }

    /// A client that finds the server through one Sentinel.
    pub(super) fn sentinel(
        &self,
        address: &ServerAddress,
        config: &config::Redis,
    ) -> RedisResult<SentinelClient> {
        let master = config.master_name.as_deref().unwrap_or_default();
        let sentinels = [self.connection_address(address)];
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_db(self.user.db());
        if let Some(name) = self.user.username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = self.user.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(name) = &config.sentinel_username {
            builder = builder.set_client_to_sentinel_username(name);
        }
        if let Some(password) = &config.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()
    }

    fn connection_address(&self, address: &ServerAddress) -> ConnectionAddr {
        let ServerAddress { host, port } = address.clone();
        if self.certificates.is_none() {
            return ConnectionAddr::Tcp(host, port);
        }
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    }

    fn open(&self, info: ::redis::ConnectionInfo) -> RedisResult<Client> {
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }
}

fn named(user: RedisConnectionInfo, name: Option<&str>, password: Option<&Secret>) -> RedisConnectionInfo {
    let user = match name {
        Some(name) => user.set_username(name),
        None => user,
    };
    match password {
        Some(password) => user.set_password(password.expose()),
        None => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_brackets() {
        for (text, host) in [("db-1:6379", "db-1"), ("[::1]:6379", "::1"), ("::1:6379", "::1")] {
            let address = ServerAddress::parse(text).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, 6379), "{text}");
        }
        for text in ["db-1", "db-1:", "db-1:99999"] {
            assert_eq!(ServerAddress::parse(text), None, "{text}");
        }
    }
}
