//! What a Secret of type `kubernetes.io/tls` holds, and whether a server can show it.
//!
//! Whoever tells of such a Secret and whoever serves by it judge it here, so what is told is what is done. Nothing that is said of a
//! key holds any of it.

use std::fmt;

use rustls::crypto::ring::sign::any_supported_type;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::inspect::{alternative_names, block, to_pem};

/// The type of such a Secret.
pub const SECRET_TYPE: &str = "kubernetes.io/tls";
/// Its entry with the certificate, and those that lead from it to an authority.
const CERT: &str = "tls.crt";
/// Its entry with the certificate's key.
const KEY: &str = "tls.key";
/// Names that are told of a certificate.
const NAMES: usize = 64;
/// The shortest RSA key that OpenSSL's second level of security admits.
const RSA_BITS: usize = 2048;
/// Signatures that this level does not admit, because others can be made that fit them: by MD2, MD5 and SHA-1.
const WEAK_SIGNATURES: [&str; 7] = [
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.3.14.3.2.29",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
    "1.3.14.3.2.27",
];

/// A certificate with the way to its authority and its key, which a server can show.
#[derive(Clone, PartialEq, Eq)]
pub struct Serving {
    pem: String,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// Why a Secret holds nothing that a server could show. Each says what would help.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// It is something else.
    #[error("it is not of type {SECRET_TYPE}; delete it and make it anew, as by `kubectl create secret tls`")]
    WrongType,
    /// It lacks an entry.
    #[error("it has no {0}; put it there, in PEM")]
    Incomplete(&'static str),
    /// The certificate is none.
    #[error("its tls.crt is not a certificate in PEM, followed by those that lead to its authority; put these there")]
    CertificateMalformed,
    /// The key is none.
    #[error("its tls.key is not a private key in PEM; put the key of its certificate there")]
    KeyMalformed,
    /// Only who knows a password could read the key.
    #[error("its tls.key is encrypted; put the key there as it is without its password")]
    KeyEncrypted,
    /// The key is of a sort that is not served.
    #[error(
        "its tls.key is of a sort that is not served; use RSA of 2048 to 8192 bits, ECDSA over P-256 or P-384, or Ed25519"
    )]
    KeyUnsupported,
    /// The two do not belong together.
    #[error(
        "its tls.key is not the key of the first certificate in its tls.crt; put the two there that belong together"
    )]
    KeyMismatch,
    /// What no client should trust.
    #[error(
        "a certificate in its tls.crt is signed by SHA-1 or MD5, or for an RSA key of less than 2048 bits; have it issued anew"
    )]
    CertificateWeak,
}

impl Unfit {
    /// A stable label for condition reasons.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Unfit::WrongType => "SecretWrongType",
            Unfit::Incomplete(_) => "SecretIncomplete",
            Unfit::CertificateMalformed => "CertificateMalformed",
            Unfit::KeyMalformed => "KeyMalformed",
            Unfit::KeyEncrypted => "KeyEncrypted",
            Unfit::KeyUnsupported => "KeyUnsupported",
            Unfit::KeyMismatch => "KeyMismatch",
            Unfit::CertificateWeak => "CertificateWeak",
        }
    }
}

/// Whether clients accept a certificate at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// They do.
    Valid,
    /// It is too early.
    NotYet,
    /// It is too late.
    Over,
}

impl Serving {
    /// What a Secret with this type and these entries holds.
    ///
    /// # Errors
    /// [`Unfit`]. That its time has not come or is over is none: see [`Serving::validity_at`].
    pub fn of<'d>(type_: Option<&str>, entry: impl Fn(&str) -> Option<&'d [u8]>) -> Result<Serving, Unfit> {
        if type_ != Some(SECRET_TYPE) {
            return Err(Unfit::WrongType);
        }
        let has = |name: &'static str| entry(name).filter(|bytes| !bytes.is_empty()).ok_or(Unfit::Incomplete(name));
        let (certificates, key) = (has(CERT)?, has(KEY)?);
        let malformed = |_| Unfit::CertificateMalformed;
        let chain: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(malformed)?;
        let parsed: Vec<X509Certificate<'_>> = chain.iter().map(|der| parse(der)).collect::<Result<_, _>>()?;
        let first = parsed.first().ok_or(Unfit::CertificateMalformed)?;
        let (key, public) = read_key(key)?;
        if first.public_key().subject_public_key.data.as_ref() != public {
            return Err(Unfit::KeyMismatch);
        }
        if parsed.iter().any(is_weak) {
            return Err(Unfit::CertificateWeak);
        }
        // Written anew, so that nothing else that the entries hold comes along.
        let pem = chain.iter().map(|der| to_pem(der)).chain([key]).collect();
        let validity = first.validity();
        Ok(Serving {
            pem,
            names: names(first),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Certificates and key (PEM), as a server reads them.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The names that the certificate is for, the first of them.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The last second of the certificate's time, since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The first one.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Whether clients accept it at that second since 1970.
    #[must_use]
    pub fn validity_at(&self, now: i64) -> Validity {
        match now {
            now if now < self.not_before => Validity::NotYet,
            now if now > self.not_after => Validity::Over,
            _ => Validity::Valid,
        }
    }

    /// For how many seconds from then on [`Serving::validity_at`] stays as it is; for ever when none.
    #[must_use]
    pub fn changes_in(&self, now: i64) -> Option<u64> {
        let next = match self.validity_at(now) {
            Validity::NotYet => self.not_before,
            Validity::Valid => self.not_after.saturating_add(1),
            Validity::Over => return None,
        };
        u64::try_from(next.saturating_sub(now)).ok()
    }
}

/// The key is never shown.
impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Serving { names, not_before, not_after, .. } = self;
        let mut shown = f.debug_struct("Serving");
        shown
            .field("names", names)
            .field("not_before", not_before)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

fn parse<'d>(der: &'d CertificateDer<'_>) -> Result<X509Certificate<'d>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unfit::CertificateMalformed),
    }
}

/// The key (PEM), and the public one that belongs to it.
fn read_key(pem: &[u8]) -> Result<(String, Vec<u8>), Unfit> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| match contains(pem, b"ENCRYPTED") {
        true => Unfit::KeyEncrypted,
        false => Unfit::KeyMalformed,
    })?;
    let pair = any_supported_type(&key).map_err(|_| Unfit::KeyUnsupported)?;
    let public = pair.public_key().ok_or(Unfit::KeyUnsupported)?;
    let (_, public) = SubjectPublicKeyInfo::from_der(public.as_ref()).map_err(|_| Unfit::KeyUnsupported)?;
    let label = match &key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        PrivateKeyDer::Pkcs8(_) => "PRIVATE KEY",
        _ => return Err(Unfit::KeyUnsupported),
    };
    Ok((block(label, key.secret_der()), public.subject_public_key.data.to_vec()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Who is its own authority is trusted by itself, so its signature proves nothing that could be forged.
fn is_weak(certificate: &X509Certificate<'_>) -> bool {
    let signed = certificate.signature_algorithm.algorithm.to_id_string();
    let forged = certificate.issuer() != certificate.subject() && WEAK_SIGNATURES.contains(&signed.as_str());
    let short = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() < RSA_BITS,
        _ => false,
    };
    forged || short
}

/// Its names as clients ask for them; of one without any, whom it calls itself, as HAProxy does.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = alternative_names(certificate);
    if names.is_empty() {
        names.extend(certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned)));
    }
    names.retain(|name| name.len() <= 253 && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()));
    names.truncate(NAMES);
    names
}

#[cfg(test)]
mod tests;
