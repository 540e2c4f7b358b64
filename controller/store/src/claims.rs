//! Who was told that a revision is theirs: nobody else may be.
//!
//! Whoever lost the answer to a write finds it in the history by what it looks like, and another caller's write of the same
//! bytes over the same version looks the same. One of the two was made. It does not matter whose it was, as long as one
//! caller alone is told that it was theirs; so whoever is about to be told takes the revision first.

use std::sync::{Mutex, PoisonError};

use crate::Revision;

/// How many of the newest revisions are remembered: more than etcd makes while one write waits for its outcome.
const REMEMBERED: usize = 1 << 16;

pub(crate) struct Claims {
    /// The newest revision taken, of those that share a place. Zeroed at birth: pages that nobody has touched cost nothing.
    places: Mutex<Vec<u64>>,
}

impl Claims {
    pub(crate) fn new() -> Self {
        Self { places: Mutex::new(vec![0; REMEMBERED]) }
    }

    /// Nobody was told of any revision that there is.
    pub(crate) fn forget(&self) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).fill(0);
    }

    /// Takes a revision; `false` when it is taken already, or so old that nobody can tell.
    pub(crate) fn take(&self, revision: Revision) -> bool {
        let revision = revision.get();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(revision).unwrap_or_default() % REMEMBERED;
        match places.get_mut(place) {
            Some(taken) if *taken < revision => {
                *taken = revision;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_taken_once_and_what_is_forgotten_is_nobodys() {
        let claims = Claims::new();
        let far = 7 + REMEMBERED as u64;
        assert!(claims.take(Revision::new(8)) && claims.take(Revision::new(7)));
        assert!(!claims.take(Revision::new(7)) && !claims.take(Revision::new(8)));
        assert!(claims.take(Revision::new(far)));
        assert!(!claims.take(Revision::new(7)) && !claims.take(Revision::new(far)));
        claims.forget();
        assert!(claims.take(Revision::new(7)));
    }
}
