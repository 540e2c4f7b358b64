//! The rules as the store's cache has them at this moment.
//!
//! Nothing runs in the background: a decision first takes in what the store's watch has for it, which is nothing in the
//! usual case and costs two uncontended locks. So whoever has been told that a binding was made, or taken away, meets the
//! new rules with the next request to this server, and no decision asks etcd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use futures::{FutureExt, StreamExt};
use store::{Consistency, Entry, EventKind, Store, Watch, WatchItem};

use super::policy::{GROUP, Policy};
use crate::error::Error;
use crate::object::Object;
use crate::registry::Resource;
use crate::storage;

/// The rules, kept as new as the store's cache.
pub(crate) struct Index {
    store: Store,
    watch: Mutex<Option<Watch>>,
    policy: RwLock<Policy>,
}

impl Index {
    /// The rules of a store.
    pub(crate) async fn new(store: Store) -> Result<Self, Error> {
        let index = Self { store, watch: Mutex::new(None), policy: RwLock::default() };
        // The first reading must know what was acknowledged before we began.
        index.store.list(&index.prefix(), Consistency::Linearizable).await?;
        drop(index.current());
        Ok(index)
    }

    fn prefix(&self) -> String {
        format!("{}{GROUP}/", self.store.keys().prefix())
    }

    /// The rules of now.
    pub(crate) fn current(&self) -> RwLockReadGuard<'_, Policy> {
        self.refresh();
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects of a kind as the store's cache has them.
    pub(crate) fn objects(&self, resource: &Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.listed(&storage::prefix(&self.store, &resource.definition, namespace))
    }

    /// The same of one namespace, as they are stored.
    pub(crate) fn objects_of(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Object>> {
        self.listed(&self.store.keys().in_namespace(group, plural, namespace))
    }

    fn listed(&self, prefix: &str) -> Vec<Arc<Object>> {
        let listed = self.store.list(prefix, Consistency::Any).now_or_never();
        let entries = listed.and_then(Result::ok).map(|(entries, _)| entries).unwrap_or_default();
        entries.iter().filter_map(|entry| Object::of(entry).ok()).collect()
    }

    fn refresh(&self) {
        let mut watch = self.lock();
        loop {
            let Some(events) = watch.as_mut() else {
                *watch = self.relist();
                if watch.is_none() {
                    // Without a view of the store the last known rules stand.
                    return;
                }
                continue;
            };
            match events.next().now_or_never() {
                None => return,
                Some(Some(Ok(WatchItem::Progress(_)))) => {}
                Some(Some(Ok(WatchItem::Event(event)))) => {
                    let entry = (event.kind == EventKind::Put).then_some(&event.entry);
                    let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
                    self.take_in(&mut policy, &event.entry.key, entry);
                }
                Some(Some(Err(_)) | None) => *watch = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew from the cache, as after a gap in the history.
    fn relist(&self) -> Option<Watch> {
        let prefix = self.prefix();
        let (entries, revision) = self.store.list(&prefix, Consistency::Any).now_or_never()?.ok()?;
        let watch = self.store.watch(&prefix, revision).ok()?;
        let mut fresh = Policy::default();
        for entry in &entries {
            self.take_in(&mut fresh, &entry.key, Some(entry));
        }
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Some(watch)
    }

    fn take_in(&self, policy: &mut Policy, key: &str, entry: Option<&Entry>) {
        let Some(key) = storage::parse_key(&self.store, key) else { return };
        // What cannot be read grants nothing.
        let object = entry.and_then(|entry| Object::of(entry).ok());
        let value = object.as_ref().map(|object| &object.value);
        let namespace = key.namespace.unwrap_or("");
        match key.resource {
            "roles" | "clusterroles" => policy.set_role(namespace, key.name, value),
            "rolebindings" | "clusterrolebindings" => policy.set_binding(namespace, key.name, value),
            _ => {}
        }
    }
}
