//! What can go wrong with an image.

use crate::error::ApiError;
use control_loop::{Failure, Retry};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The builder.
    #[error(transparent)]
    Build(#[from] host::image::Error),
    /// The spec says what cannot be.
    #[error("{field} is not usable: {reason}")]
    Spec {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// We are going down.
    #[error("the agent is stopping; the build starts again with it")]
    Stopping,
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Api(error) => error.category(),
            Error::Build(error) => error.category(),
            Error::Spec { .. } => "InvalidSpec",
            Error::Stopping => "Stopping",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Error::Api(_) | Error::Stopping => Retry::Backoff,
            Error::Build(error) if error.retry() => Retry::Backoff,
            Error::Build(_) | Error::Spec { .. } => Retry::OnChange,
        }
    }
}
