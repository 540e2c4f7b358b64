//! What can go wrong with a network on this host.

use crate::error::ApiError;
use crate::layout::FileError;
use control_loop::{Failure, Retry};

/// Why a network or a port of it is not realised.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// The network was deleted meanwhile.
    #[error("there is no TenantNetwork {network} in this namespace: create it, or correct spec.network")]
    NetworkGone {
        /// Its name.
        network: String,
    },
    /// The network's ranges cannot be.
    #[error("TenantNetwork {network}: {why}")]
    Subnet {
        /// Its name.
        network: String,
        /// Field and reason.
        why: crds::InvalidSubnet,
    },
    /// An object says what cannot be realised.
    #[error("{object} has {field} {value:?}: {rule}")]
    Invalid {
        /// Object.
        object: String,
        /// Field.
        field: &'static str,
        /// Value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// An older port has the address.
    #[error("{field} of Port {port} is taken by Port {other}, which is older")]
    Taken {
        /// The younger port's name.
        port: String,
        /// Field.
        field: &'static str,
        /// The older port's name.
        other: String,
    },
    /// Another port's own address.
    #[error("{field} of Port {port} has {address}, which is Port {other}'s own")]
    Owned {
        /// The port's name.
        port: String,
        /// Field.
        field: &'static str,
        /// Address.
        address: String,
        /// Whose it is.
        other: String,
    },
    /// The address is a service's.
    #[error("{field} of Port {port} has {address}, which is ServiceIP {service}'s")]
    OfService {
        /// The port's name.
        port: String,
        /// Field.
        field: &'static str,
        /// Address.
        address: String,
        /// Whose it is.
        service: String,
    },
    /// A step on the host failed.
    #[error("failed to {step}")]
    Host {
        /// What was tried.
        step: String,
        /// Label.
        category: &'static str,
        /// Whether trying again may help.
        retry: bool,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Several steps of a removal failed; the rest was removed.
    #[error("failed to remove all of network {network}: {}", list(.failures))]
    Removal {
        /// UID of the network.
        network: String,
        /// All that failed.
        failures: Vec<String>,
    },
}

fn list(failures: &[String]) -> String {
    failures.join("; ")
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Api(error) => error.category(),
            Error::File(error) => error.category(),
            Error::NetworkGone { .. } => "NetworkNotFound",
            Error::Invalid { .. } | Error::Subnet { .. } => "InvalidSpec",
            Error::Taken { .. } | Error::Owned { .. } | Error::OfService { .. } => "AddressTaken",
            Error::Host { category, .. } => category,
            Error::Removal { .. } => "RemovalFailed",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Error::NetworkGone { .. }
            | Error::Invalid { .. }
            | Error::Subnet { .. }
            | Error::Taken { .. }
            | Error::Owned { .. }
            | Error::OfService { .. }
            | Error::Host { retry: false, .. } => Retry::OnChange,
            _ => Retry::Backoff,
        }
    }
}

/// Joining the other hosts failed.
pub(super) fn underlay_failed(source: crate::underlay::Error) -> Error {
    let (category, retry) = (source.category(), source.retry());
    Error::Host { step: "join the other hosts".to_owned(), category, retry, source: source.into() }
}

/// A step of DHCP failed.
pub(super) fn dhcp_failed(step: &str, source: host::dnsmasq::Error) -> Error {
    Error::Host { step: step.to_owned(), category: source.category(), retry: source.retry(), source: source.into() }
}
