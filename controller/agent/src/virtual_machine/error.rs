//! What can go wrong with a machine.

use crate::error::ApiError;
use crate::layout::FileError;
use control_loop::{Failure, Retry};

/// Why a machine is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// QEMU.
    #[error(transparent)]
    Start(#[from] host::qemu::start::Error),
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] host::netns::Error),
    /// A tap.
    #[error("failed to open the tap {device} of port {port}")]
    Tap {
        /// Device.
        device: String,
        /// Port object.
        port: String,
        /// Cause.
        #[source]
        source: Box<host::tap::Error>,
    },
    /// The root disk.
    #[error("failed to make the root disk")]
    Root(#[source] host::blockdev::Error),
    /// No user id.
    #[error(transparent)]
    UserIds(#[from] crate::user_ids::Error),
    /// The spec says something that cannot be.
    #[error("{field} is not usable: {reason}")]
    Spec {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Api(error) => error.category(),
            Error::File(error) => error.category(),
            Error::Start(error) => error.category(),
            Error::Namespace(error) => error.category(),
            Error::Tap { source, .. } => source.category(),
            Error::Root(error) => error.category(),
            Error::UserIds(error) => error.category(),
            Error::Spec { .. } => "InvalidSpec",
        }
    }

    fn retry(&self) -> Retry {
        let again = match self {
            Error::Spec { .. } => false,
            Error::Start(error) => error.retry(),
            Error::Namespace(error) => error.retry(),
            Error::Api(_) | Error::File(_) | Error::Tap { .. } | Error::Root(_) | Error::UserIds(_) => true,
        };
        if again { Retry::Backoff } else { Retry::OnChange }
    }
}

/// What a machine still waits for; no error, but told in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// PascalCase cause.
    pub reason: &'static str,
    /// Sentence with the remedy.
    pub message: String,
}
