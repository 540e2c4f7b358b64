//! How long each object waits before it is tried again, doubling with every failure in a row.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use crate::Kind;

/// The first wait and the longest one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    first: Duration,
    longest: Duration,
}

/// After a failure.
pub(crate) const FAILED: Steps = Steps { first: Duration::from_millis(200), longest: Duration::from_secs(60) };
/// After somebody else's write: the cache has it in a moment, unless its watch is interrupted.
pub(crate) const OUTDATED: Steps = Steps { first: Duration::from_millis(25), longest: Duration::from_secs(1) };

/// Failures in a row of every object that has any.
pub(crate) struct Backoffs<K: Kind>(Mutex<HashMap<ObjectRef<K>, u32>>);

impl<K: Kind> Default for Backoffs<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Backoffs<K> {
    /// Counts a failure and says how long to wait.
    pub(crate) fn next(&self, object: &ObjectRef<K>, steps: Steps) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let failures = all.entry(object.clone()).or_default();
        let wait = steps.first.saturating_mul(1 << (*failures).min(16)).min(steps.longest);
        *failures += 1;
        wait
    }

    /// Forgets an object's failures.
    pub(crate) fn forget(&self, object: &ObjectRef<K>) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn waits_double_to_a_minute_and_a_success_starts_over() {
        let all = Backoffs::<ConfigMap>::default();
        let a = ObjectRef::new("a").within("t");
        assert_eq!(all.next(&a, FAILED), FAILED.first);
        assert_eq!(all.next(&a, FAILED), FAILED.first * 2);
        assert_eq!(all.next(&ObjectRef::new("b").within("t"), FAILED), FAILED.first, "every object has its own");
        assert_eq!((0..40).map(|_| all.next(&a, FAILED)).max(), Some(FAILED.longest));
        assert_eq!(all.next(&a, OUTDATED), OUTDATED.longest);
        all.forget(&a);
        assert_eq!(all.next(&a, OUTDATED), OUTDATED.first);
    }
}
