//! Certificates: who may speak to whom.
//!
//! Each instance has one authority of its own, made at first start and never shared, so a certificate of one instance
//! means nothing to another. Names carry the meaning, as in Kubernetes: common name = user, organizations = groups.
//! Nothing here asks a person to renew: whatever is missing, near its end, or made for other names is issued anew when
//! it is next asked for.

mod authority;
mod inspect;
mod name;
mod renewal;
mod serving;
mod store;
mod tls;
mod token_key;

pub use authority::{Authority, Identity, Usage, request};
pub use name::{Subject, subject_of};
pub use renewal::{Shown, renew_at, request_for};
pub use serving::{SECRET_TYPE, Serving, Unfit, Validity};
pub use tls::{
    client_config, install_crypto_provider, open_server_config, open_server_config_showing, optional_server_config,
    server_config, server_config_showing,
};
pub use token_key::TokenKey;

use std::path::PathBuf;

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read or written.
    #[error("failed to {action} {path:?}")]
    File {
        /// `read`, `write`, `create` or `lock`.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A certificate authority lost its key.
    #[error("{path:?} is missing beside its certificate: restore it, or remove both to begin with a new authority")]
    KeyLost {
        /// Where the key belongs.
        path: PathBuf,
    },
    /// A key could not be made or read, or a certificate not be signed.
    #[error("failed to {action}")]
    Certificate {
        /// What was tried.
        action: &'static str,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// Bytes that should be a certificate are none.
    #[error("failed to read a certificate: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A TLS configuration could not be built.
    #[error("failed to build the TLS configuration: {reason}")]
    Tls {
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::File { .. } => "CertificateFileFailed",
            Error::KeyLost { .. } => "AuthorityKeyLost",
            Error::Certificate { .. } => "IssueFailed",
            Error::Malformed { .. } => "CertificateMalformed",
            Error::Tls { .. } => "TlsConfigFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        matches!(self, Error::File { .. })
    }
}

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
