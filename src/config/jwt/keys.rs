//! The keys of JWTs, read from a file: a shared secret, a public key in PEM, or a JSON Web Key Set.

use std::path::Path;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Algorithm, Jwt};

/// Most keys of a set. A JWT without `kid` is verified with each, so this bounds the cost of a made-up JWT.
const MAX_KEYS: usize = 64;
/// Least length of a shared secret, in bytes: that of the hash (RFC 7518, 3.2). A shorter one can be guessed from one JWT.
const SECRET_BYTES: usize = 32;
/// Lengths of RSA keys that signatures are verified with, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The curve of ES256.
const P_256: &str = "1.2.840.10045.3.1.7";
/// An uncompressed point on it, in bytes.
const POINT: usize = 65;

/// The keys that JWTs are verified with; at least one.
#[derive(Debug, Clone)]
pub struct JwtKeys(Vec<JwtKey>);

/// Identifies a key among others; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(u64);

impl KeyFingerprint {
    /// The first bits of the SHA-256 of a key's bytes.
    pub fn of(key: &[u8]) -> Self {
        let digest = <[u8; 32]>::from(Sha256::digest(key));
        Self(digest.first_chunk().copied().map_or(0, u64::from_be_bytes))
    }
}

/// A key with the one algorithm that it is for.
#[derive(Debug, Clone)]
pub struct JwtKey {
    /// Its algorithm: a JWT that names another is not verified with it.
    pub algorithm: Algorithm,
    /// Its id, by which JWTs name it.
    pub kid: Option<String>,
    /// Identifies the key.
    pub fingerprint: KeyFingerprint,
    /// The key.
    pub key: DecodingKey,
}

impl JwtKeys {
    /// Reads the configured file.
    ///
    /// # Errors
    /// One sentence with the remedy; it quotes nothing of the file.
    pub fn read(settings: &Jwt) -> Result<Self, String> {
        let Some(path) = settings.file() else {
            return Err("no file with keys is configured".into());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
        let keys = if settings.jwks_file.is_some() {
            of_set(&text, &settings.algorithms)
        } else {
            of_file(&text, &settings.algorithms).map(|key| vec![key])
        };
        let keys = keys.map_err(|problem| format!("{} {problem}", Path::display(path)))?;
        Ok(Self(keys))
    }

    /// Each key.
    pub fn iter(&self) -> std::slice::Iter<'_, JwtKey> {
        self.0.iter()
    }

    /// Whether these are the same keys under the same names.
    pub fn is_same(&self, others: &Self) -> bool {
        let names = |keys: &Self| -> Vec<_> {
            let names = keys
                .iter()
                .map(|key| (key.algorithm, key.kid.clone(), key.fingerprint));
            names.collect()
        };
        names(self) == names(others)
    }

    /// Whether this key is among them.
    pub fn holds(&self, fingerprint: KeyFingerprint) -> bool {
        self.iter().any(|key| key.fingerprint == fingerprint)
    }
}

impl<'k> IntoIterator for &'k JwtKeys {
    type Item = &'k JwtKey;
    type IntoIter = std::slice::Iter<'k, JwtKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl JwtKey {
    fn of_secret(secret: &[u8]) -> Result<Self, &'static str> {
        if !secret.is_empty() && secret.len() < SECRET_BYTES {
            return Err(
                "holds a secret of less than 32 bytes, which can be guessed from one JWT; HS256 needs 32 or more \
                        (RFC 7518, 3.2), in the app too: `openssl rand -base64 48` makes one",
            );
        }
        let key = DecodingKey::from_secret(secret).map_err(|_| "holds an empty secret")?;
        Ok(Self::new(Algorithm::HS256, secret, key))
    }

    fn of_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let [modulus, exponent] = [modulus, exponent].map(without_zeros);
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) || exponent.is_empty() {
            return Err(
                "holds an RSA key of less than 2048 bits, or of more than 8192; RS256 needs one of 2048 to 8192 bits",
            );
        }
        let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self::new(Algorithm::RS256, &[modulus, exponent].concat(), key))
    }

    fn of_point(point: &[u8]) -> Result<Self, &'static str> {
        if point.len() != POINT || point.first() != Some(&4) {
            return Err("holds a key that is no uncompressed point on P-256, which ES256 needs");
        }
        Ok(Self::new(
            Algorithm::ES256,
            point,
            DecodingKey::from_ec_der(point),
        ))
    }

    fn new(algorithm: Algorithm, bytes: &[u8], key: DecodingKey) -> Self {
        Self {
            algorithm,
            kid: None,
            fingerprint: KeyFingerprint::of(bytes),
            key,
        }
    }
}

/// The key of a file that holds one.
fn of_file(text: &str, algorithms: &[Algorithm]) -> Result<JwtKey, String> {
    let key = if text.contains("-----BEGIN") {
        of_pem(text)?
    } else {
        // Text editors end a file with a line's end.
        JwtKey::of_secret(text.trim_end_matches(['\r', '\n']).as_bytes())?
    };
    let of = key.algorithm;
    // One key that serves as a public key and as a secret would let anybody sign who knows the public key.
    if algorithms.iter().any(|algorithm| *algorithm != of) {
        let kind = match of {
            Algorithm::HS256 => "a shared secret",
            Algorithm::RS256 => "an RSA key",
            Algorithm::ES256 => "a key on P-256",
        };
        return Err(format!(
            "holds {kind}, which is for {of:?} only; session.jwt.algorithms must be [\"{of:?}\"], or the file must hold another key"
        ));
    }
    Ok(key)
}

fn of_pem(text: &str) -> Result<JwtKey, String> {
    let public_keys =
        "it must hold one public key (-----BEGIN PUBLIC KEY-----), as `openssl pkey -pubout` writes it";
    let wrong = || format!("is no PEM file with a public key; {public_keys}");
    let mut blocks = Pem::iter_from_buffer(text.as_bytes());
    let (Some(Ok(block)), None) = (blocks.next(), blocks.next()) else {
        return Err(wrong());
    };
    if block.label.ends_with("PRIVATE KEY") {
        return Err(format!("holds a private key; {public_keys}"));
    }
    if block.label != "PUBLIC KEY" {
        return Err(wrong());
    }
    let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| wrong())?;
    let curve = info
        .algorithm
        .parameters
        .as_ref()
        .and_then(|curve| curve.as_oid().ok());
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => Ok(JwtKey::of_rsa(key.modulus, key.exponent)?),
        Ok(PublicKey::EC(point)) if curve.is_some_and(|curve| curve.to_id_string() == P_256) => {
            Ok(JwtKey::of_point(point.data())?)
        }
        _ => Err("holds a key that is neither of RSA nor on P-256; RS256 and ES256 need one".into()),
    }
}

/// The keys of a set that are for one of the algorithms. Keys for something else are left out.
fn of_set(text: &str, algorithms: &[Algorithm]) -> Result<Vec<JwtKey>, String> {
    // What is wrong is not quoted: the set may hold secrets.
    let set: JwkSet = serde_json::from_str(text).map_err(|error| {
        format!(
            "is no JSON Web Key Set, {{\"keys\": [{{\"kty\": …}}]}} (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!(
            "holds more than {MAX_KEYS} keys; remove those that are no longer used"
        ));
    }
    let mut keys = Vec::new();
    for (number, jwk) in set.keys.iter().enumerate() {
        let Some(algorithm) = algorithm_of(jwk).filter(|algorithm| algorithms.contains(algorithm)) else {
            continue;
        };
        let key = of_jwk(jwk).map_err(|problem| format!("{problem} (key {} of the set)", number + 1))?;
        debug_assert_eq!(key.algorithm, algorithm);
        keys.push(JwtKey {
            kid: jwk.common.key_id.clone(),
            ..key
        });
    }
    if keys.is_empty() {
        return Err(format!(
            "holds no key for the algorithms in session.jwt.algorithms ({algorithms:?}); add one, or name its algorithm"
        ));
    }
    Ok(keys)
}

/// The algorithm that a key of a set is for, where it verifies signatures.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let common = &jwk.common;
    let named = common.key_algorithm.as_ref().map(ToString::to_string);
    let is_named = named.is_none_or(|named| named == format!("{algorithm:?}"));
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    (is_named && signs && verifies).then_some(algorithm)
}

fn of_jwk(jwk: &Jwk) -> Result<JwtKey, &'static str> {
    use base64::Engine as _;

    let decode = |text: &str| {
        let text = text.trim_end_matches('=');
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text);
        bytes.map_err(|_| "holds a key whose parts are not base64url")
    };
    match &jwk.algorithm {
        AlgorithmParameters::OctetKey(key) => JwtKey::of_secret(&decode(&key.value)?),
        AlgorithmParameters::RSA(key) => JwtKey::of_rsa(&decode(&key.n)?, &decode(&key.e)?),
        AlgorithmParameters::EllipticCurve(key) => {
            JwtKey::of_point(&[vec![4], decode(&key.x)?, decode(&key.y)?].concat())
        }
        _ => Err("holds a key of a kind that is not known"),
    }
}

/// The number without zeros in front, as the verification takes it.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
