//! Reading certificates: what they are for, whose they are, how long they last.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, Result, Usage};

pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn to_pem(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// Bytes as PEM.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn der_of(pem: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| Error::Malformed { reason: error.to_string() })
}

pub(crate) fn inspect<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T> {
    let der = der_of(pem)?;
    let (_, cert) = X509Certificate::from_der(&der).map_err(|error| Error::Malformed { reason: error.to_string() })?;
    Ok(look(&cert))
}

/// Whether the certificate is valid now and for this long.
pub(crate) fn lasts(pem: &str, longer: Duration) -> bool {
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    let wanted = now.saturating_add(longer.as_secs() as i64);
    inspect(pem, |cert| {
        let validity = cert.validity();
        validity.not_before.timestamp() <= now && validity.not_after.timestamp() > wanted
    })
    .unwrap_or(false)
}

/// Whether the certificate was made for this key.
pub(crate) fn belongs(pem: &str, key: &KeyPair) -> bool {
    inspect(pem, |cert| cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()).unwrap_or(false)
}

pub(crate) fn key_id_of(cert: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

pub(crate) fn issuer_key_id_of(cert: &X509Certificate<'_>) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier;
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

pub(crate) fn has_usage(cert: &X509Certificate<'_>, usage: &Usage) -> bool {
    let purposes = match cert.extended_key_usage() {
        Ok(Some(extension)) => (extension.value.server_auth, extension.value.client_auth),
        _ => return false,
    };
    let wanted = match usage {
        Usage::Server { .. } => (true, false),
        Usage::Client => (false, true),
        Usage::Both { .. } => (true, true),
    };
    let mut found = alternative_names(cert);
    let mut names: Vec<String> = usage.names().iter().map(|name| canonical(name)).collect();
    found.sort_unstable();
    names.sort_unstable();
    purposes == wanted && found == names
}

fn canonical(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

pub(crate) fn alternative_names(cert: &X509Certificate<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok(Some(extension)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let name_of = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name_of).collect()
}
