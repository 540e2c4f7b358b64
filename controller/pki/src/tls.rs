//! TLS configurations in which both ends show a certificate.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Error, Identity, Result, Shown};

/// Makes ring the process's default crypto provider, for libraries that ask for one. May be called again.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // Lost only to another thread that installed one just now.
        let _ = ring::default_provider().install_default();
    }
}

/// A server that admits only clients whose certificate this authority signed, over HTTP/2 or 1.1.
pub fn server_config(identity: &Identity, client_ca_pem: &str) -> Result<ServerConfig> {
    serving(Shown::new(identity)?, client_ca_pem, false)
}

/// The same with an identity that can be exchanged.
pub fn server_config_showing(shown: &Shown, client_ca_pem: &str) -> Result<ServerConfig> {
    serving(shown.clone(), client_ca_pem, false)
}

/// A server that admits clients without a certificate too, for it to ask who they are by other means. A certificate that
/// is shown must still be one that this authority signed.
pub fn optional_server_config(identity: &Identity, client_ca_pem: &str) -> Result<ServerConfig> {
    serving(Shown::new(identity)?, client_ca_pem, true)
}

fn serving(shown: Shown, client_ca_pem: &str, open: bool) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pem)?), provider.clone());
    let verifier = if open { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier.build().map_err(failed)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A server that asks nobody for a certificate: for a door where something else is proof.
pub fn open_server_config(identity: &Identity) -> Result<ServerConfig> {
    open_server_config_showing(&Shown::new(identity)?)
}

/// The same with an identity that can be exchanged.
pub fn open_server_config_showing(shown: &Shown) -> Result<ServerConfig> {
    Ok(ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown.clone())))
}

/// A client that trusts this authority only. ALPN is left to the HTTP library, which sets what it speaks.
pub fn client_config(identity: &Identity, server_ca_pem: &str) -> Result<ClientConfig> {
    let (chain, key) = parts(identity)?;
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(server_ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tls { reason: error.to_string() }
}

fn roots(ca_pem: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        store.add(cert.map_err(failed)?).map_err(failed)?;
    }
    match store.is_empty() {
        false => Ok(store),
        true => Err(failed("no authority's certificate was given")),
    }
}

pub(crate) fn parts(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain =
        CertificateDer::pem_slice_iter(identity.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(failed)?;
    Ok((chain, key))
}
