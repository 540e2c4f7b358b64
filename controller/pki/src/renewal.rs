//! Certificates that are exchanged while they are in use.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::BACKDATED;
use crate::inspect::inspect;
use crate::tls::parts;
use crate::{Error, Identity, Result};

/// When a certificate (PEM) should be renewed: when two thirds of the time for which it was issued are over.
pub fn renew_at(cert_pem: &str) -> Result<SystemTime> {
    let (from, to) =
        inspect(cert_pem, |cert| (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp()))?;
    let seconds = |at: i64| Duration::from_secs(u64::try_from(at).unwrap_or(0));
    let life = seconds(to).saturating_sub(seconds(from)).saturating_sub(BACKDATED);
    Ok(UNIX_EPOCH + seconds(to) - life / 3)
}

/// The request (PEM) to certify a key (PEM) that is there already.
pub fn request_for(key_pem: &str) -> Result<String> {
    let failed = |source| Error::Certificate { action: "make a certificate request", source };
    let key = KeyPair::from_pem(key_pem).map_err(failed)?;
    let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
    request.pem().map_err(failed)
}

/// What a server shows its clients: an identity that can be exchanged for the next connections. Clones show the same.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<CertifiedKey>>>);

impl Shown {
    /// Shows this identity.
    pub fn new(identity: &Identity) -> Result<Shown> {
        Ok(Shown(Arc::new(RwLock::new(certified(identity)?))))
    }

    /// Shows another one from now on.
    pub fn exchange(&self, identity: &Identity) -> Result<()> {
        let next = certified(identity)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>> {
    let (chain, key) = parts(identity)?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    Ok(Arc::new(key.map_err(|error| Error::Tls { reason: error.to_string() })?))
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Subject, Usage};

    #[test]
    fn two_thirds_of_a_life_are_over_a_third_before_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "test").unwrap();
        let (_, request) = crate::request().unwrap();
        for seconds in [30, 3 * 24 * 3600] {
            let life = Duration::from_secs(seconds);
            let subject = Subject::new("h", ["g"]);
            let pem = authority.certify_for(&request, &subject, &Usage::Client, life).unwrap();
            let ahead = renew_at(&pem).unwrap().duration_since(SystemTime::now()).unwrap();
            let wanted = life * 2 / 3;
            assert!(ahead <= wanted && ahead + Duration::from_secs(5) >= wanted, "{ahead:?} of {life:?}");
        }
    }

    #[test]
    fn a_key_that_is_kept_fits_its_next_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "test").unwrap();
        let (key_pem, _) = crate::request().unwrap();
        let request = request_for(&key_pem).unwrap();
        let subject = Subject::new("h", ["g"]);
        let usage = Usage::Both { names: vec!["h".to_owned()] };
        let cert_pem = authority.certify(&request, &subject, &usage).unwrap();
        let shown = Shown::new(&Identity { cert_pem, key_pem }).unwrap();
        let other = authority.issue(&subject, &usage).unwrap();
        shown.exchange(&other).unwrap();
        assert!(Shown::new(&Identity { cert_pem: "nonsense".to_owned(), ..other }).is_err());
    }
}
