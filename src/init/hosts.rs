//! The hosts that a Django site accepts: `ALLOWED_HOSTS`, compared as Django does. Pure.

use super::django::DjangoSettings;

/// What Django allows while DEBUG is on and the list is empty.
const DEBUG: [&str; 3] = [".localhost", "127.0.0.1", "[::1]"];

/// The patterns of `ALLOWED_HOSTS`.
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn of(settings: &DjangoSettings) -> Self {
        if settings.debug && settings.allowed_hosts.is_empty() {
            return Self(DEBUG.map(str::to_owned).to_vec());
        }
        let hosts = settings.allowed_hosts.iter();
        Self(hosts.map(|host| host.trim().to_ascii_lowercase()).collect())
    }

    /// Whether every request is refused.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the site answers requests with this `Host`.
    pub(super) fn allow(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        self.0.iter().any(|allowed| match allowed.strip_prefix('.') {
            Some(domain) => name == domain || name.ends_with(allowed.as_str()),
            None => allowed == "*" || *allowed == name,
        })
    }

    /// The first host of the list that can be sent as a `Host`.
    pub(super) fn first(&self) -> Option<String> {
        let mut names = self.0.iter().map(|host| host.trim_start_matches('.'));
        let found = names.find(|host| self.allow(host));
        found.map(str::to_owned)
    }
}

/// The name in a `Host` header without its port, in lower case; none where Django calls it invalid.
fn name_of(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (&*host, None),
    };
    let is_port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = match inner {
        Some(address) => {
            address.contains(':')
                && address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
        }
        None => {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        }
    };
    // A name may end with a dot.
    let name = name.strip_suffix('.').unwrap_or(name);
    (is_port && is_name).then(|| name.to_owned())
}
