//! TLS certificate with its private key, read from PEM files.

use std::path::Path;

use pingora_core::tls::sign::CertifiedKey;
use pingora_core::tls::{CryptoProvider, install_default_crypto_provider, load_certs_and_key_files};

/// Reads a certificate chain and its private key.
///
/// # Errors
/// Which file has which fault, with the remedy: one is missing, one is not PEM, or they do not belong together.
pub fn read_key_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    for (what, path) in [("certificate", certificate), ("key", key)] {
        std::fs::read(path)
            .map_err(|error| format!("the {what} {} cannot be read ({error})", path.display()))?;
    }
    let paths = (certificate.to_str(), key.to_str());
    let (certificate, key) = (certificate.display(), key.display());
    let (Some(certificate_path), Some(key_path)) = paths else {
        return Err(format!("{certificate} and {key} must be paths in UTF-8"));
    };
    let Ok(Some((chain, private_key))) = load_certs_and_key_files(certificate_path, key_path) else {
        return Err(format!(
            "{certificate} holds no certificate, or {key} no private key; both must be PEM files"
        ));
    };
    install_default_crypto_provider();
    let provider = CryptoProvider::get_default().ok_or("no cryptography is installed")?;
    CertifiedKey::from_der(chain, private_key, provider)
        .map_err(|error| format!("{certificate} and {key} cannot be used together ({error})"))
}
