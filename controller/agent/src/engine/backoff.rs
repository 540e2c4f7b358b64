//! How long each object waits before it is tried again, doubling with every failure in a row.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::Kind;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row of every object that has any.
pub(super) struct Backoffs<K: Kind>(Mutex<HashMap<ObjectRef<K>, u32>>);

impl<K: Kind> Default for Backoffs<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Backoffs<K> {
    /// Counts a failure and says how long to wait.
    pub(super) fn next(&self, object: &ObjectRef<K>) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let failures = all.entry(object.clone()).or_default();
        let wait = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
        *failures += 1;
        wait
    }

    /// Forgets an object's failures.
    pub(super) fn forget(&self, object: &ObjectRef<K>) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_minute_and_a_success_starts_over() {
        let all = Backoffs::<crds::Port>::default();
        let port = ObjectRef::new("a").within("t");
        assert_eq!(all.next(&port), FIRST);
        assert_eq!(all.next(&port), FIRST * 2);
        assert_eq!(all.next(&ObjectRef::new("b").within("t")), FIRST, "every object has its own");
        let longest = (0..40).map(|_| all.next(&port)).max();
        assert_eq!(longest, Some(LONGEST));
        all.forget(&port);
        assert_eq!(all.next(&port), FIRST);
    }
}
