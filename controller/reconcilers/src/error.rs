//! What can go wrong in a reconciler, and what to do about it.

use std::time::Duration;

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

    /// A stable word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => "conflict",
                kube::Error::Api(_) => "refused",
                _ => "unavailable",
            },
            Self::Incomplete(_) => "incomplete",
        }
    }

    /// When to try again after `failures` failures in a row. A conflict is ordinary: somebody wrote in between.
    #[must_use]
    pub fn retry(&self, failures: u32) -> Duration {
        if self.category() == "conflict" {
            return Duration::from_millis(50 * u64::from(failures.min(20)));
        }
        Duration::from_millis(250) * 2u32.pow(failures.min(7))
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
    fn back_off_grows_and_is_bounded() {
        let error = Error::Incomplete("uid");
        assert!(error.retry(1) < error.retry(3));
        assert_eq!(error.retry(7), error.retry(1000));
        assert!(error.retry(1000) <= Duration::from_secs(60));
    }
}
