//! What can go wrong with a volume.

use crate::error::ApiError;
use crate::layout::FileError;
use control_loop::{Failure, Retry};

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk.
    #[error("failed to make the volume's file")]
    Disk(#[from] host::blockdev::Error),
    /// The spec says what cannot be.
    #[error("the volume cannot be made: {reason}")]
    Spec {
        /// Why.
        reason: String,
    },
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Api(error) => error.category(),
            Error::File(error) => error.category(),
            Error::Disk(error) => error.category(),
            Error::Spec { .. } => "InvalidSpec",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Error::Disk(error) if !error.retry() => Retry::OnChange,
            Error::Spec { .. } => Retry::OnChange,
            _ => Retry::Backoff,
        }
    }
}
