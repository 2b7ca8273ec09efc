//! Identity headers: headers in which proxies send apps the user, the client's certificate or address, or another path.
//! Clients could use them to impersonate others. Pure.
//!
//! Accepted from trusted proxies, and only where `limits.identity_headers` says that they set or remove them.

/// Names, without those with which clients legitimately identify themselves to some apps (`Authorization`,
/// `X-Auth-Token`, `X-User-Id`, `X-Api-Key`).
const NAMES: &[&str] = &[
    // Another path.
    "x-original-url",
    "x-rewrite-url",
    // The client's address.
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    // The user.
    "remote-user",
    "remote-addr",
    "x-remote-user",
    "x-remote-addr",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-user",
    "x-consumer-id",
    "x-consumer-username",
    "x-consumer-custom-id",
    "x-credential-identifier",
    "x-anonymous-consumer",
    "x-goog-iap-jwt-assertion",
    "teleport-jwt-assertion",
    "x-vouch-user",
    // Its certificate.
    "x-client-cert",
    "client-cert",
    "client-cert-chain",
];

/// Prefixes of names.
const PREFIXES: &[&str] = &[
    "x-forwarded-",
    "x-original-forwarded-",
    "x-auth-request-",
    "x-remote-",
    "remote-",
    "x-ssl-client-",
    "ssl-client-",
    "cf-access-",
    "x-amzn-oidc-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-ms-token-",
    "tailscale-user-",
    "x-authentik-",
    "x-webauth-",
    "x-vouch-idp-",
    "x-pomerium-",
    "oidc-claim-",
    "oidc-access-token",
    "shib-",
];

/// For each first byte of the names and prefixes, a bit for each of their second bytes, by its five lower bits. Most
/// headers of a request begin otherwise, and are compared with none.
const BEGINS: [u32; 256] = {
    let mut begins = [0; 256];
    let lists = [NAMES, PREFIXES];
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            let name = lists[list][at].as_bytes();
            begins[name[0] as usize] |= second(name[1]);
            at += 1;
        }
        list += 1;
    }
    begins
};

const fn second(byte: u8) -> u32 {
    1 << (byte & 31)
}

/// Whether a name, in lower case and with `-`, is an identity header.
pub(super) fn is_identity(name: &str) -> bool {
    let may_be = match name.as_bytes() {
        [first, after, ..] => BEGINS[usize::from(*first)] & second(*after) != 0,
        _ => false,
    };
    may_be && is_listed(name)
}

fn is_listed(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
