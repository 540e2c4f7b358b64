//! What every failure of a reconcile can be asked: which label it counts under, and when trying again makes sense.

use std::time::Duration;

/// When a failed reconcile is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Soon, then ever more slowly.
    Backoff,
    /// At once or nearly so: somebody wrote in between, which is nobody's fault and worth no warning.
    Reread,
    /// When the object or something it names changes; until then it would fail in the same way.
    OnChange,
    /// After this long.
    After(Duration),
}

/// A failure that knows its label and its remedy's clock.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// PascalCase word for metrics and for a condition's reason.
    fn category(&self) -> &'static str;
    /// When to try again.
    fn retry(&self) -> Retry;
}

/// An error with all its causes in one sentence, as a condition or a log line shows it.
pub fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // Libraries often print their cause themselves; saying it twice helps nobody.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_sentence_names_every_cause_once() {
        assert_eq!(sentence(&Outer(std::io::Error::other("disk full"))), "outer: disk full");
        assert_eq!(sentence(&Outer(std::io::Error::other("outer"))), "outer");
    }
}
