//! The cache, shared: one lock, and a signal for whoever waits for it to reach a revision.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::Revision;
use crate::cache::Cache;

pub(crate) struct Memory {
    cache: RwLock<Cache>,
    reached: watch::Sender<Revision>,
}

impl Memory {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache: RwLock::new(cache), reached: watch::Sender::new(Revision::ZERO) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cache and tells those who wait; under the lock, so that they hear revisions in order.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Cache) -> R) -> R {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let before = cache.revision();
        let result = change(&mut cache);
        if cache.revision() != before {
            self.reached.send_replace(cache.revision());
        }
        result
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.reached.borrow()
    }

    /// Waits until the cache stands at `wanted` or later; `false` when the deadline comes first.
    pub(crate) async fn reaches(&self, wanted: Revision, deadline: Instant) -> bool {
        if self.revision() >= wanted {
            return true;
        }
        let mut reached = self.reached.subscribe();
        timeout_at(deadline, reached.wait_for(|now| *now >= wanted)).await.is_ok_and(|seen| seen.is_ok())
    }
}
