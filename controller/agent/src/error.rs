//! How the agent's writes to the API fail.

use control_loop::{Failure, Retry};

/// The API could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A request failed.
    #[error("failed to {verb} {kind} {name}")]
    Request {
        /// What was asked.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object changed under every attempt.
    #[error("{kind} {name} changed under {attempts} attempts to write it")]
    Contended {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// Attempts made.
        attempts: u32,
    },
}

impl Failure for ApiError {
    fn category(&self) -> &'static str {
        match self {
            ApiError::Request { .. } => "ApiUnavailable",
            ApiError::Contended { .. } => "Conflict",
        }
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_fought_over_says_so() {
        let said = ApiError::Contended { kind: "Port".into(), name: "a".into(), attempts: 3 };
        assert_eq!(control_loop::sentence(&said), "Port a changed under 3 attempts to write it");
    }
}
