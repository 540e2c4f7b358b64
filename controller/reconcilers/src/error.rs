//! What can go wrong in a reconciler, and what to do about it.

use control_loop::{Failure, Retry};

/// A reconcile that did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API refused or did not answer.
    #[error("failed to {action}")]
    Api {
        /// What was tried, as an infinitive.
        action: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object lacks what the API always sets.
    #[error("object has no {0}")]
    Incomplete(&'static str),
}

impl Error {
    /// Names the action that an API error interrupted.
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => "Conflict",
                kube::Error::Api(_) => "Refused",
                _ => "ApiUnavailable",
            },
            Self::Incomplete(_) => "Incomplete",
        }
    }

    fn retry(&self) -> Retry {
        match self.category() {
            "Conflict" => Retry::Reread,
            _ => Retry::Backoff,
        }
    }
}

/// Whether an API error says that the object is not there.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_conflict_is_nobodys_fault() {
        let refused = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            Error::api("change it")(kube::Error::Api(Box::new(status)))
        };
        assert_eq!((refused(409).category(), refused(409).retry()), ("Conflict", Retry::Reread));
        assert_eq!((refused(422).category(), refused(422).retry()), ("Refused", Retry::Backoff));
        assert_eq!(Error::Incomplete("uid").retry(), Retry::Backoff);
    }
}
