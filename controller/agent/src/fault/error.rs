//! What can go wrong with a fault.

use crate::error::ApiError;
use control_loop::{Failure, Retry};

/// Why a fault could not be done or undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Killing failed.
    #[error("failed to kill QEMU")]
    Kill(#[from] host::qemu::start::Error),
    /// QEMU refused.
    #[error("failed to stop or resume the processors")]
    Monitor(#[from] host::qemu::monitor::Error),
    /// QEMU's monitor is not connected at the moment.
    #[error("the monitor of QEMU process {pid} is not connected; it is tried again")]
    NoMonitor {
        /// Its process.
        pid: i32,
    },
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::Api(error) => error.category(),
            Error::Kill(error) => error.category(),
            Error::Monitor(_) | Error::NoMonitor { .. } => "QemuUnresponsive",
        }
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}
