//! Everything under the root prefix, in memory and in order, with its recent history and its watchers.
//!
//! Two sources feed it: etcd's watch, and the acknowledgements of our own writes, which usually arrive first. The
//! watch is complete but delayed; an acknowledgement is immediate but says nothing about what came before it. Since a
//! write of ours is one revision with one change, an acknowledged `n` can be applied at once when the cache stands at
//! `n-1`; otherwise it waits in `early` for the gap to close:
//!
//! ```text
//!   acknowledged n ── n = revision+1 ──► apply, then whatever of `early` follows
//!                 └── n > revision+1 ──► early
//!   watched r ────── r > revision ────► apply early < r, then r      (r <= revision: a duplicate, skipped)
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::history::Ring;
use crate::keys::Keys;
use crate::parsed::Parsed;
use crate::watcher::{Taken, Watcher, Watchers};
use crate::{Entry, Event, EventKind, History, Revision};

/// One key's change, as told by the watch or by an acknowledgement.
pub(crate) struct Change {
    pub(crate) key: Arc<str>,
    /// The new value; `None` when the key went away.
    pub(crate) value: Option<Bytes>,
    /// Known from the watch; an acknowledgement leaves it to the cache.
    pub(crate) create_revision: Option<Revision>,
    pub(crate) revision: Revision,
}

pub(crate) struct Cache {
    keys: Keys,
    parsed: Arc<Parsed>,
    entries: BTreeMap<Arc<str>, Entry>,
    revision: Revision,
    early: BTreeMap<Revision, Change>,
    history: Ring,
    watchers: Watchers,
    /// The fence key's `mod_revision`; zero while it does not exist.
    fence: Revision,
}

impl Cache {
    pub(crate) fn new(keys: Keys, history: History, parsed: Arc<Parsed>) -> Self {
        Self {
            keys,
            parsed,
            entries: BTreeMap::new(),
            revision: Revision::ZERO,
            early: BTreeMap::new(),
            history: Ring::new(history),
            watchers: Watchers::default(),
            fence: Revision::ZERO,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn fence(&self) -> Revision {
        self.fence
    }

    pub(crate) fn history(&self) -> &Ring {
        &self.history
    }

    pub(crate) fn watchers(&mut self) -> &mut Watchers {
        &mut self.watchers
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries whose key starts with `prefix`, in key order.
    pub(crate) fn under(&self, prefix: &str) -> impl Iterator<Item = &Entry> {
        self.entries
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// The entry that a write at `revision` made, as long as somebody still remembers it.
    pub(crate) fn written(&self, key: &str, revision: Revision) -> Option<Entry> {
        if let Some(entry) = self.entries.get(key).filter(|entry| entry.mod_revision == revision) {
            return Some(entry.clone());
        }
        let before = Revision::new(revision.get().saturating_sub(1));
        self.history
            .since(before)
            .take_while(|event| event.revision() == revision)
            .find(|event| &*event.entry.key == key)
            .map(|event| event.entry.clone())
    }

    /// Takes in all changes the watch reported for one revision.
    pub(crate) fn watched(&mut self, revision: Revision, changes: Vec<Change>) {
        if revision <= self.revision {
            return;
        }
        // What the watch should have told before: it is known to have lost events.
        let later = self.early.split_off(&revision);
        for (at, change) in std::mem::replace(&mut self.early, later) {
            self.apply(change);
            self.revision = at;
        }
        self.early.remove(&revision);
        for change in changes {
            self.apply(change);
        }
        self.revision = revision;
        self.follow_up();
    }

    /// Takes in a write of ours that etcd has acknowledged.
    pub(crate) fn acknowledged(&mut self, change: Change) {
        if change.revision > self.revision {
            self.early.insert(change.revision, change);
            self.follow_up();
        }
    }

    fn follow_up(&mut self) {
        while let Some(change) = self.early.remove(&self.revision.next()) {
            self.revision = change.revision;
            self.apply(change);
        }
    }

    fn apply(&mut self, change: Change) {
        if self.keys.is_internal(&change.key) {
            if *change.key == *self.keys.fence() {
                self.fence = change.value.map_or(Revision::ZERO, |_| change.revision);
            }
            return;
        }
        let event = match change.value {
            Some(value) => self.put(change.key, value, change.create_revision, change.revision),
            None => self.remove(&change.key, change.revision),
        };
        if let Some(event) = event {
            let key = event.entry.key.clone();
            let at = self.history.push(event);
            self.watchers.notify(&key, at);
        }
    }

    fn put(&mut self, key: Arc<str>, value: Bytes, created: Option<Revision>, revision: Revision) -> Option<Event> {
        let previous = self.entries.get(&*key).cloned();
        let created = created.or(previous.as_ref().map(|entry| entry.create_revision)).unwrap_or(revision);
        let key = previous.as_ref().map_or(key, |entry| entry.key.clone());
        let entry = Entry::new(&self.parsed, key.clone(), value, created, revision);
        self.entries.insert(key, entry.clone());
        Some(Event { kind: EventKind::Put, entry, previous })
    }

    fn remove(&mut self, key: &str, revision: Revision) -> Option<Event> {
        let previous = self.entries.remove(key)?;
        let (key, created) = (previous.key.clone(), previous.create_revision);
        let entry = Entry::new(&self.parsed, key, Bytes::new(), created, revision);
        Some(Event { kind: EventKind::Delete, entry, previous: Some(previous) })
    }

    /// Registers a watcher, or says from where the history is known.
    pub(crate) fn subscribe(&mut self, watcher: &Arc<Watcher>) -> Result<(), Revision> {
        if watcher.from < self.history.floor() {
            return Err(self.history.floor());
        }
        watcher.start(&self.history);
        self.watchers.add(watcher.clone());
        Ok(())
    }

    /// Hands out what a watcher has not seen yet, at most `limit` events.
    pub(crate) fn take(&self, watcher: &Watcher, limit: usize) -> Taken {
        watcher.take(&self.history, self.revision, limit)
    }

    /// Makes the cache equal to a full list taken `at`, except where it already knows something newer.
    ///
    /// `reset` means that etcd lost its past (another data directory, an old backup): nothing known counts any more.
    /// Returns how many keys differed. Unless the list proves that nothing was missed, the history has a gap: all
    /// watchers are told to list again.
    pub(crate) fn replace(&mut self, listed: Listing, at: Revision, reset: bool) -> usize {
        if reset {
            self.entries.clear();
            self.early.clear();
            self.history.restart(at);
            self.revision = Revision::ZERO;
        }
        let skipped = at > self.revision;
        let stale = self.differences(&listed, at);
        self.fence = self.fence.max(listed.fence);
        let found: BTreeMap<Arc<str>, Entry> =
            listed.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        for key in &stale {
            match found.get(key) {
                Some(entry) => self.entries.insert(key.clone(), entry.clone()),
                None => self.entries.remove(key),
            };
        }
        if skipped || !stale.is_empty() {
            self.revision = self.revision.max(at);
            self.early = self.early.split_off(&self.revision.next());
            self.history.restart(self.revision);
            self.watchers.lag_all();
            self.follow_up();
        }
        stale.len()
    }

    /// The keys on which the cache and a list taken `at` disagree, other than by changes after `at`.
    pub(crate) fn differences(&self, listed: &Listing, at: Revision) -> Vec<Arc<str>> {
        let gone_since: std::collections::HashSet<&str> = self
            .history
            .since(at)
            .filter(|event| event.kind == EventKind::Delete)
            .map(|event| &*event.entry.key)
            .collect();
        // Deletions after `at` may have been forgotten already: then absence proves nothing.
        let absence_counts = self.history.floor() <= at;
        let mut differing = Vec::new();
        let mut known = std::collections::HashSet::with_capacity(listed.entries.len());
        for entry in &listed.entries {
            known.insert(&*entry.key);
            let differs = match self.entries.get(&*entry.key) {
                Some(cached) => cached.mod_revision <= at && cached.mod_revision != entry.mod_revision,
                None => absence_counts && !gone_since.contains(&*entry.key),
            };
            if differs {
                differing.push(entry.key.clone());
            }
        }
        for (key, cached) in &self.entries {
            if cached.mod_revision <= at && !known.contains(&**key) {
                differing.push(key.clone());
            }
        }
        differing
    }
}

/// A full list of the root prefix.
#[derive(Default)]
pub(crate) struct Listing {
    /// All entries but the store's own.
    pub(crate) entries: Vec<Entry>,
    /// The fence key's `mod_revision`.
    pub(crate) fence: Revision,
    /// The first key whose value could not be opened.
    pub(crate) closed: Option<(String, crate::seal::Closed)>,
    /// A restore was interrupted.
    pub(crate) half_restored: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/registry/things/a";
    const B: &str = "/registry/things/b";

    fn cache() -> Cache {
        let limits = History { events: 100, bytes: usize::MAX };
        Cache::new(Keys::new("/registry/"), limits, Arc::default())
    }

    fn at(revision: u64) -> Revision {
        Revision::new(revision)
    }

    fn put(key: &str, revision: u64) -> Change {
        let value = Some(Bytes::from(revision.to_string()));
        Change { key: key.into(), value, create_revision: None, revision: at(revision) }
    }

    fn delete(key: &str, revision: u64) -> Change {
        Change { value: None, ..put(key, revision) }
    }

    fn seen(cache: &Cache) -> Vec<u64> {
        cache.history().since(Revision::ZERO).map(|event| event.revision().get()).collect()
    }

    fn entry(key: &str, revision: u64) -> Entry {
        Entry::new(&Arc::default(), key.into(), Bytes::new(), at(revision), at(revision))
    }

    fn listing(entries: Vec<Entry>) -> Listing {
        Listing { entries, ..Listing::default() }
    }

    #[test]
    fn an_acknowledgement_that_comes_early_waits_for_what_is_before_it() {
        let mut cache = cache();
        cache.acknowledged(put(A, 3));
        assert_eq!(cache.revision(), at(0));
        cache.acknowledged(put(B, 1));
        assert_eq!(cache.revision(), at(1));
        cache.watched(at(2), vec![put(B, 2)]);
        assert_eq!((cache.revision(), seen(&cache)), (at(3), vec![1, 2, 3]));
    }

    #[test]
    fn what_was_acknowledged_is_not_told_again_by_the_watch() {
        let mut cache = cache();
        cache.acknowledged(put(A, 1));
        cache.watched(at(1), vec![put(A, 1)]);
        cache.acknowledged(put(A, 1));
        assert_eq!(seen(&cache), [1]);
    }

    #[test]
    fn an_acknowledged_write_that_the_watch_lost_is_told_in_its_place() {
        let mut cache = cache();
        cache.watched(at(5), vec![put(A, 5)]);
        cache.acknowledged(put(B, 7));
        cache.watched(at(9), vec![delete(A, 9)]);
        assert_eq!((cache.revision(), seen(&cache)), (at(9), vec![5, 7, 9]));
        assert!(cache.get(A).is_none() && cache.get(B).is_some());
    }

    #[test]
    fn all_changes_of_a_foreign_transaction_are_told() {
        let mut cache = cache();
        cache.watched(at(4), vec![put(A, 4), put(B, 4)]);
        assert_eq!(seen(&cache), [4, 4]);
    }

    #[test]
    fn the_stores_own_keys_move_the_revision_and_nothing_else() {
        let mut cache = cache();
        let fence = cache.keys.fence();
        cache.watched(at(2), vec![put(&fence, 2)]);
        assert_eq!((cache.revision(), cache.fence(), cache.len()), (at(2), at(2), 0));
        assert_eq!(seen(&cache), [0u64; 0]);
    }

    #[test]
    fn a_list_differs_by_what_the_watch_lost_and_not_by_what_is_newer() {
        let mut cache = cache();
        cache.watched(at(1), vec![put(A, 1)]);
        cache.watched(at(9), vec![delete(A, 9)]);
        cache.watched(at(10), vec![put(B, 10)]);
        let same = listing(vec![entry(A, 1)]);
        assert_eq!(cache.differences(&same, at(5)), [0u8; 0].map(|_| Arc::from("")));
        let lost_put = listing(vec![entry("/registry/things/c", 3)]);
        assert_eq!(cache.differences(&lost_put, at(10)).len(), 2, "c is missing, b is not listed");
    }

    #[test]
    fn a_list_heals_the_cache_and_lags_its_watchers() {
        let mut cache = cache();
        cache.watched(at(5), vec![put(A, 5)]);
        let watcher = Arc::new(Watcher::new("/registry/", at(5)));
        cache.subscribe(&watcher).unwrap();
        assert_eq!(cache.replace(listing(vec![entry(A, 5)]), at(5), false), 0);
        assert!(matches!(cache.take(&watcher, 10), Taken::Nothing(_)), "nothing was wrong");
        assert_eq!(cache.replace(listing(vec![entry(B, 4)]), at(5), false), 2);
        assert!(matches!(cache.take(&watcher, 10), Taken::Lagged));
        assert!(cache.get(A).is_none() && cache.get(B).is_some());
    }

    #[test]
    fn a_list_of_an_etcd_that_lost_its_past_counts_alone() {
        let mut cache = cache();
        cache.watched(at(50), vec![put(A, 50)]);
        cache.replace(listing(vec![entry(B, 2)]), at(3), true);
        assert_eq!(cache.revision(), at(3));
        assert!(cache.get(A).is_none() && cache.get(B).is_some());
    }
}
