//! For how long this host may still do what only one host may: until a while after the API last heard of it.
//!
//! Whoever is silent for forty seconds is given up for lost, and another host is elected. By then this one must have stopped, so its
//! tenure is shorter, and counts from before the word was sent. It is written into the kernel (see [`host::link`]), which ends it
//! when nobody is here to.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a heartbeat is good for. Less than what a host is given up after (40 s), more than two beats (20 s) that fail.
const TENURE: Duration = Duration::from_secs(30);

/// Until when.
#[derive(Debug, Default)]
pub struct Tenure(Mutex<Option<Instant>>);

impl Tenure {
    /// A word that was sent at `moment` was heard.
    pub fn heard(&self, moment: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(moment + TENURE);
    }

    /// How much is left at `now`, in whole seconds; none when it has ended.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let end = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = end.saturating_duration_since(now).as_secs();
        (left > 0).then(|| Duration::from_secs(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_before_the_host_is_given_up_and_begins_with_the_first_word() {
        let (tenure, start) = (Tenure::default(), Instant::now());
        assert_eq!(tenure.left(start), None);
        tenure.heard(start);
        assert_eq!(tenure.left(start), Some(TENURE));
        assert_eq!(tenure.left(start + TENURE), None);
        tenure.heard(start + Duration::from_secs(10));
        assert!(tenure.left(start + TENURE).is_some_and(|left| left <= Duration::from_secs(10)));
    }
}
