//! The authority that signs, and what it signs.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};

use crate::inspect::{belongs, der_of, has_usage, inspect, issuer_key_id_of, key_id_of, lasts, since_epoch, to_pem};
use crate::name::with_subject;
use crate::store::Directory;
use crate::{Error, Result, Subject, subject_of};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_DAYS: u32 = 3650;
const CA_RENEW_DAYS: u32 = 730;
const LEAF_DAYS: u32 = 365;
/// A third of a leaf's life: whoever asks once a month never meets an expired one.
const LEAF_RENEW_DAYS: u32 = 120;
/// Clocks of other machines may be behind ours.
pub(crate) const BACKDATED: Duration = Duration::from_secs(3600);

const CA: &str = "ca";

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// A server under these names (DNS or IP).
    Server {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// A client.
    Client,
    /// A server that also calls others with the same certificate, as etcd does itself.
    Both {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
}

impl Usage {
    pub(crate) fn names(&self) -> &[String] {
        match self {
            Usage::Server { names } | Usage::Both { names } => names,
            Usage::Client => &[],
        }
    }

    fn purposes(&self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Usage::Server { .. } => vec![ServerAuth],
            Usage::Client => vec![ClientAuth],
            Usage::Both { .. } => vec![ServerAuth, ClientAuth],
        }
    }
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Private key, PEM (PKCS #8).
    pub key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A certificate authority of one instance.
#[derive(Debug)]
pub struct Authority {
    cert_pem: String,
    key_id: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads the authority kept in a directory (`ca.crt`, `ca.key`), or makes one there.
    ///
    /// Near its end its certificate is renewed with the same key, so what it signed stays valid.
    pub fn load_or_create(dir: &Path, common_name: &str) -> Result<Authority> {
        let directory = Directory::open(dir)?;
        let key_path = directory.key_path(CA);
        let cert = directory.read(&directory.cert_path(CA))?;
        let key = match (directory.read(&key_path)?, &cert) {
            (Some(pem), _) => KeyPair::from_pem(&pem)
                .map_err(|source| Error::Certificate { action: "read the authority's key", source })?,
            (None, None) => generate()?,
            (None, Some(_)) => return Err(Error::KeyLost { path: key_path }),
        };
        if let Some(cert_pem) = cert.filter(|pem| lasts(pem, DAY * CA_RENEW_DAYS) && belongs(pem, &key)) {
            return Authority::new(cert_pem, key);
        }
        let cert_pem = self_signed(common_name, &key)?;
        directory.write(CA, &Identity { cert_pem: cert_pem.clone(), key_pem: key.serialize_pem() })?;
        Authority::new(cert_pem, key)
    }

    fn new(cert_pem: String, key: KeyPair) -> Result<Authority> {
        let failed = |source| Error::Certificate { action: "read the authority's certificate", source };
        let key_id = inspect(&cert_pem, key_id_of)?.unwrap_or_default();
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(failed)?;
        Ok(Authority { cert_pem, key_id, issuer })
    }

    /// The authority's certificate (PEM), for those who shall trust it.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Issues a certificate with a new key, for a year.
    pub fn issue(&self, subject: &Subject, usage: &Usage) -> Result<Identity> {
        let key = generate()?;
        Ok(Identity { cert_pem: self.sign(&key, subject, usage, DAY * LEAF_DAYS)?, key_pem: key.serialize_pem() })
    }

    /// Certifies a key that somebody else keeps, for a year. Of the request only the key counts: who it is for and what it
    /// is good for is the caller's decision.
    pub fn certify(&self, request_pem: &str, subject: &Subject, usage: &Usage) -> Result<String> {
        self.certify_for(request_pem, subject, usage, DAY * LEAF_DAYS)
    }

    /// The same for another time than a year.
    pub fn certify_for(&self, request_pem: &str, subject: &Subject, usage: &Usage, life: Duration) -> Result<String> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|source| Error::Certificate { action: "read a certificate request", source })?;
        self.sign(&request.public_key, subject, usage, life)
    }

    fn sign(&self, key: &impl PublicKeyData, subject: &Subject, usage: &Usage, life: Duration) -> Result<String> {
        let failed = |source| Error::Certificate { action: "issue a certificate", source };
        let mut params = CertificateParams::new(usage.names().to_vec()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usage.purposes();
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, life);
        let unnamed = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(to_pem(&with_subject(unnamed.der(), subject, self.issuer.key())?))
    }

    /// The identity kept in a directory as `NAME.crt` and `NAME.key`, issued when it is absent or no longer what is asked for.
    pub fn load_or_issue(&self, dir: &Path, name: &str, subject: &Subject, usage: &Usage) -> Result<Identity> {
        let directory = Directory::open(dir)?;
        let cert = directory.read(&directory.cert_path(name))?;
        let key = directory.read(&directory.key_path(name))?;
        if let (Some(cert_pem), Some(key_pem)) = (cert, key) {
            let kept = Identity { cert_pem, key_pem };
            if self.is_good(&kept, subject, usage) {
                return Ok(kept);
            }
        }
        let issued = self.issue(subject, usage)?;
        directory.write(name, &issued)?;
        Ok(issued)
    }

    fn is_good(&self, identity: &Identity, subject: &Subject, usage: &Usage) -> bool {
        let Ok(key) = KeyPair::from_pem(&identity.key_pem) else {
            return false;
        };
        let pem = &identity.cert_pem;
        let ours =
            inspect(pem, |cert| issuer_key_id_of(cert).as_deref() == Some(&self.key_id[..]) && has_usage(cert, usage));
        let named = der_of(pem).and_then(|der| subject_of(&der)).is_ok_and(|found| found == *subject);
        named && ours.unwrap_or(false) && lasts(pem, DAY * LEAF_RENEW_DAYS) && belongs(pem, &key)
    }
}

/// A new key, and the request (PEM) to certify it: what leaves the machine is the request.
pub fn request() -> Result<(String, String)> {
    let failed = |source| Error::Certificate { action: "make a certificate request", source };
    let key = generate()?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.pem().map_err(failed)?))
}

pub(crate) fn generate() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| Error::Certificate { action: "make a key", source })
}

fn self_signed(common_name: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, DAY * CA_DAYS);
    let cert = params
        .self_signed(key)
        .map_err(|source| Error::Certificate { action: "make the authority's certificate", source })?;
    Ok(cert.pem())
}

fn set_validity(params: &mut CertificateParams, life: Duration) {
    let now = date_time_ymd(1970, 1, 1) + since_epoch();
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
}
