//! Who waits for changes, as the cache sees them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::task::AtomicWaker;

use crate::history::{Ring, Sequence};
use crate::{Event, Revision};

/// Nothing unseen.
const NONE: Sequence = Sequence::MAX;

/// One watch's place in the history. Its fields change only under the cache's lock: `unseen` is lowered by the writer
/// (write lock) and raised by the reader (read lock), so that the two never interleave.
pub(crate) struct Watcher {
    prefix: Arc<str>,
    pub(crate) from: Revision,
    /// The first event this watch has not been given and that may concern it.
    unseen: AtomicU64,
    lagged: AtomicBool,
    closed: AtomicBool,
    pub(crate) waker: AtomicWaker,
}

/// What [`Watcher::take`] found.
pub(crate) enum Taken {
    Events(Vec<Event>),
    /// All there is up to this revision has been taken.
    Nothing(Revision),
    Lagged,
    Closed,
}

impl Watcher {
    pub(crate) fn new(prefix: &str, from: Revision) -> Self {
        Self {
            prefix: prefix.into(),
            from,
            unseen: AtomicU64::new(NONE),
            lagged: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Finds the place to begin. A watch that nothing concerned never has one, however far the history moves.
    pub(crate) fn start(&self, history: &Ring) {
        let mut past = history.from(history.after(self.from));
        let first = past.find(|(_, event)| self.concerns(event));
        self.unseen.store(first.map_or(NONE, |(at, _)| at), Ordering::Release);
    }

    fn concerns(&self, event: &Event) -> bool {
        event.revision() > self.from && event.entry.key.starts_with(&*self.prefix)
    }

    pub(crate) fn take(&self, history: &Ring, revision: Revision, limit: usize) -> Taken {
        let unseen = self.unseen.load(Ordering::Acquire);
        if self.lagged.load(Ordering::Acquire) {
            return Taken::Lagged;
        }
        if self.closed.load(Ordering::Acquire) {
            return Taken::Closed;
        }
        if unseen == NONE {
            return Taken::Nothing(revision);
        }
        if history.has_passed(unseen) {
            self.lagged.store(true, Ordering::Release);
            return Taken::Lagged;
        }
        let mut batch = Vec::new();
        for (at, event) in history.from(unseen).filter(|(_, event)| self.concerns(event)) {
            if batch.len() == limit {
                self.unseen.store(at, Ordering::Release);
                return Taken::Events(batch);
            }
            batch.push(event.clone());
        }
        self.unseen.store(NONE, Ordering::Release);
        if batch.is_empty() { Taken::Nothing(revision) } else { Taken::Events(batch) }
    }

    fn notify(&self, at: Sequence) {
        self.unseen.fetch_min(at, Ordering::AcqRel);
        self.waker.wake();
    }
}

/// All watchers, by prefix: most share a few.
#[derive(Default)]
pub(crate) struct Watchers {
    by_prefix: BTreeMap<Arc<str>, Vec<Arc<Watcher>>>,
}

impl Watchers {
    pub(crate) fn add(&mut self, watcher: Arc<Watcher>) {
        self.by_prefix.entry(watcher.prefix.clone()).or_default().push(watcher);
    }

    pub(crate) fn remove(&mut self, watcher: &Arc<Watcher>) {
        if let Some(group) = self.by_prefix.get_mut(&watcher.prefix) {
            group.retain(|other| !Arc::ptr_eq(other, watcher));
            if group.is_empty() {
                self.by_prefix.remove(&watcher.prefix);
            }
        }
    }

    pub(crate) fn notify(&self, key: &str, at: Sequence) {
        let concerned = self.by_prefix.iter().filter(|(prefix, _)| key.starts_with(&***prefix));
        for watcher in concerned.flat_map(|(_, group)| group) {
            watcher.notify(at);
        }
    }

    /// The history has a gap: everyone lists again.
    pub(crate) fn lag_all(&self) {
        for watcher in self.by_prefix.values().flatten() {
            watcher.lagged.store(true, Ordering::Release);
            watcher.waker.wake();
        }
    }

    /// The store goes away: streams end.
    pub(crate) fn close_all(&self) {
        for watcher in self.by_prefix.values().flatten() {
            watcher.closed.store(true, Ordering::Release);
            watcher.waker.wake();
        }
    }
}
