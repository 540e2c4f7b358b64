//! The cache, shared: one lock, and a bell for each who waits for it to reach a revision.
//!
//! Every write waits for those before it, and they are many at once: a signal that woke all of them at every revision would
//! wake each several times for nothing. So those who wait stand in the order of what they wait for, and a change wakes those
//! whom it concerns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::Revision;
use crate::cache::Cache;

pub(crate) struct Memory {
    cache: RwLock<Cache>,
    /// The cache's revision, to be read without its lock.
    revision: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Who waits, by the revision and a number of their own.
#[derive(Default)]
struct Waiting {
    bells: BTreeMap<Place, oneshot::Sender<()>>,
    next: u64,
}

type Place = (Revision, u64);

impl Memory {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache: RwLock::new(cache), revision: AtomicU64::default(), waiting: Mutex::default() }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the cache, and tells those who waited for what it has reached.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Cache) -> R) -> R {
        let (result, moved) = {
            let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
            let before = cache.revision();
            let result = change(&mut cache);
            let now = cache.revision();
            if now != before {
                // Under the lock, so that it never goes back behind another's.
                self.revision.store(now.get(), Ordering::Release);
            }
            (result, (now != before).then_some(now))
        };
        if let Some(now) = moved {
            self.tell(now);
        }
        result
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision::new(self.revision.load(Ordering::Acquire))
    }

    /// Waits until the cache stands at `wanted` or later; `false` when the deadline comes first.
    pub(crate) async fn reaches(&self, wanted: Revision, deadline: Instant) -> bool {
        if self.revision() >= wanted {
            return true;
        }
        let (_turn, rung) = self.turn(wanted);
        // Whoever moved the revision before we stood in line could not ring for us; whoever does it now will.
        if self.revision() >= wanted {
            return true;
        }
        timeout_at(deadline, rung).await.is_ok_and(|rung| rung.is_ok())
    }

    fn turn(&self, wanted: Revision) -> (Turn<'_>, oneshot::Receiver<()>) {
        let (bell, rung) = oneshot::channel();
        let mut waiting = self.waiting();
        let place = (wanted, waiting.next);
        waiting.next += 1;
        waiting.bells.insert(place, bell);
        (Turn { memory: self, place }, rung)
    }

    fn tell(&self, now: Revision) {
        let reached = {
            let mut waiting = self.waiting();
            let later = waiting.bells.split_off(&(now.next(), 0));
            std::mem::replace(&mut waiting.bells, later)
        };
        for bell in reached.into_values() {
            // One that has given up does not care.
            let _ = bell.send(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line; given up when dropped.
struct Turn<'m> {
    memory: &'m Memory,
    place: Place,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.memory.waiting().bells.remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::History;
    use crate::cache::Change;
    use crate::keys::Keys;

    fn memory() -> Arc<Memory> {
        let limits = History { events: 100, bytes: usize::MAX };
        Arc::new(Memory::new(Cache::new(Keys::new("/registry/"), limits, Arc::default())))
    }

    fn acknowledge(memory: &Memory, revision: u64) {
        let (key, revision) = ("/registry/a/b".into(), Revision::new(revision));
        memory.change(|cache| {
            cache.acknowledged(Change { key, value: Some(bytes::Bytes::new()), create_revision: None, revision });
        });
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn each_is_woken_by_what_reaches_its_revision_and_nobody_stays_in_line() {
        let memory = memory();
        let mut waiters = Vec::new();
        for wanted in [3, 1, 2, 2] {
            let memory = memory.clone();
            let waiting = async move { memory.reaches(Revision::new(wanted), soon()).await };
            let mut waiting = Box::pin(waiting);
            assert!(futures::poll!(&mut waiting).is_pending());
            waiters.push((wanted, waiting));
        }
        assert_eq!(memory.waiting().bells.len(), 4);
        for revision in 1..=3 {
            acknowledge(&memory, revision);
            for (wanted, waiting) in &mut waiters {
                if *wanted == revision {
                    assert!(waiting.as_mut().await);
                }
            }
            let left = waiters.iter().filter(|(wanted, _)| *wanted > revision).count();
            assert_eq!(memory.waiting().bells.len(), left);
        }
        assert!(memory.reaches(Revision::new(3), Instant::now()).await, "it is there already");
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_the_line() {
        let memory = memory();
        assert!(!memory.reaches(Revision::new(1), Instant::now()).await);
        let mut waiting = Box::pin(memory.reaches(Revision::new(1), soon()));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert!(memory.waiting().bells.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost_between_looking_and_standing_in_line() {
        let memory = memory();
        let writer = memory.clone();
        let writing = std::thread::spawn(move || (1..=20_000).for_each(|revision| acknowledge(&writer, revision)));
        for wanted in 1..=20_000 {
            assert!(memory.reaches(Revision::new(wanted), soon()).await, "{wanted}");
        }
        writing.join().unwrap();
    }
}
