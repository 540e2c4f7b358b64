//! The collector's deeds, each through the same doors a client uses.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::Garbage;
use crate::error::Error;
use crate::object::{finalizers, is_deleting, meta, set_finalizers, set_meta};
use crate::registry::Resource;
use crate::storage;
use crate::write::{Change, DeleteOptions, FOREGROUND, ORPHAN, Policy};

impl Garbage {
    /// Objects in namespaces that do not exist: what slipped in while one was going.
    pub(super) fn suspect_homeless(&mut self) {
        let store = &self.server.store;
        let parse = |key| storage::parse_key(store, key);
        let homes: HashSet<&str> =
            self.nodes.keys().filter_map(|k| parse(k)).filter(|k| k.is("", "namespaces")).map(|k| k.name).collect();
        let homeless: Vec<Arc<str>> = self
            .nodes
            .keys()
            .filter(|key| parse(key).and_then(|k| k.namespace).is_some_and(|ns| !homes.contains(ns)))
            .cloned()
            .collect();
        self.suspects.extend(homeless.into_iter().map(|key| (key, ())));
    }

    /// Deletes an object none of whose owners exists, or makes it forget those that do not.
    pub(super) async fn collect(&self, key: &Arc<str>) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(()) };
        let Some((resource, namespace, name)) = self.locate(key) else { return Ok(()) };
        let place = (namespace.as_deref(), name.as_str());
        let homeless = namespace.as_deref().is_some_and(|namespace| !self.exists(namespace));
        let gone: Vec<Arc<str>> =
            node.owners.iter().map(|o| o.uid.clone()).filter(|uid| !self.owns(uid, key)).collect();
        let result = if homeless || (!node.owners.is_empty() && gone.len() == node.owners.len()) {
            let uid = Some(node.uid.to_string());
            let options = DeleteOptions { uid, ..DeleteOptions::default() };
            self.server.delete(&resource, place, &options).await.map(drop)
        } else if gone.is_empty() {
            Ok(())
        } else {
            self.disown(&resource, place, &node.uid, &gone).await
        };
        tolerate(result)
    }

    fn exists(&self, namespace: &str) -> bool {
        let key = self.server.store.keys().object("", "namespaces", None, namespace);
        self.server.store.get_stale(&key).is_some()
    }

    /// Answers the finalizer by which an owner waits for its dependents.
    pub(super) async fn answer(&self, uid: &Arc<str>) -> Result<(), Error> {
        let Some(key) = self.keys.get(uid) else { return Ok(()) };
        let Some((resource, namespace, name)) = self.locate(key) else { return Ok(()) };
        let Some(entry) = self.server.store.get_stale(key) else { return Ok(()) };
        let owner = crate::object::Object::of(&entry)?;
        if !is_deleting(&owner.value) {
            return Ok(());
        }
        let has = |finalizer: &str| finalizers(&owner.value).any(|f| f == finalizer);
        let done = if has(ORPHAN) {
            self.orphan_dependents(uid).await?;
            ORPHAN
        } else if has(FOREGROUND) {
            if self.delete_dependents(uid).await? > 0 {
                return Ok(());
            }
            FOREGROUND
        } else {
            return Ok(());
        };
        let change = |object: &Arc<crate::object::Object>| {
            let mut new = object.value.clone();
            let rest: Vec<String> = finalizers(&new).filter(|f| *f != done).map(str::to_owned).collect();
            set_finalizers(&mut new, &rest);
            Ok(match rest.is_empty() && !crate::special::holds(&resource, &new) {
                true => Change::Remove(new),
                false if new == object.value => Change::Keep,
                false => Change::Put(new),
            })
        };
        tolerate(self.server.modify(&resource, (namespace.as_deref(), &name), false, change).await.map(drop))
    }

    /// The objects that an owner owns. One in another namespace may name it and still is none of its business: whoever
    /// writes there must not hold up what is deleted here.
    fn dependents_of(&self, uid: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        self.dependents.get(uid).into_iter().flatten().filter(|key| self.owns(uid, key))
    }

    async fn orphan_dependents(&self, uid: &Arc<str>) -> Result<(), Error> {
        for key in self.dependents_of(uid) {
            let (Some(node), Some((resource, namespace, name))) = (self.nodes.get(key), self.locate(key)) else {
                continue;
            };
            let place = (namespace.as_deref(), name.as_str());
            tolerate(self.disown(&resource, place, &node.uid, std::slice::from_ref(uid)).await)?;
        }
        Ok(())
    }

    /// Deletes the dependents of a waiting owner; returns how many still block it.
    async fn delete_dependents(&self, uid: &Arc<str>) -> Result<usize, Error> {
        let mut blocking = 0;
        for key in self.dependents_of(uid) {
            let (Some(node), Some((resource, namespace, name))) = (self.nodes.get(key), self.locate(key)) else {
                continue;
            };
            let place = (namespace.as_deref(), name.as_str());
            let kept = node.owners.iter().any(|owner| owner.uid != *uid && self.stays(&owner.uid, key));
            if kept {
                tolerate(self.disown(&resource, place, &node.uid, std::slice::from_ref(uid)).await)?;
                continue;
            }
            let options = DeleteOptions {
                policy: Some(Policy::Foreground),
                uid: Some(node.uid.to_string()),
                ..DeleteOptions::default()
            };
            if !node.waiting {
                tolerate(self.server.delete(&resource, place, &options).await.map(drop))?;
            }
            let blocks = node.owners.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion);
            let present = self.server.store.get_stale(key).is_some();
            blocking += usize::from(blocks && present);
        }
        Ok(blocking)
    }

    /// Whether an owner exists and is not itself waiting to go.
    fn stays(&self, owner: &Arc<str>, dependent: &str) -> bool {
        let waits = self.keys.get(owner).and_then(|key| self.nodes.get(key)).is_some_and(|node| node.waiting);
        self.owns(owner, dependent) && !waits
    }

    /// Takes references to `gone` owners off an object.
    async fn disown(
        &self,
        resource: &Resource,
        place: (Option<&str>, &str),
        uid: &str,
        gone: &[Arc<str>],
    ) -> Result<(), Error> {
        let change = |object: &Arc<crate::object::Object>| {
            if meta(&object.value, "uid") != uid {
                return Ok(Change::Keep);
            }
            let mut new = object.value.clone();
            let before = new["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            let is_gone = |r: &Value| r["uid"].as_str().is_some_and(|uid| gone.iter().any(|g| **g == *uid));
            let after: Vec<Value> = before.iter().filter(|r| !is_gone(r)).cloned().collect();
            if after.len() == before.len() {
                return Ok(Change::Keep);
            }
            set_meta(&mut new, "ownerReferences", (!after.is_empty()).then_some(Value::Array(after)));
            Ok(Change::Put(new))
        };
        self.server.modify(resource, place, false, change).await.map(drop)
    }

    /// The kind, namespace and name behind a key, when the kind is served.
    fn locate(&self, key: &str) -> Option<(Resource, Option<String>, String)> {
        let parsed = storage::parse_key(&self.server.store, key)?;
        let catalog = self.server.registry.catalog();
        let definition = catalog.definition(parsed.group, parsed.resource)?;
        let namespace = parsed.namespace.map(str::to_owned);
        Some((Resource::stored(definition), namespace, parsed.name.to_owned()))
    }
}

/// What vanished or was replaced meanwhile needs nothing more.
fn tolerate(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::NotFound(_) | Error::Conflict(..)) => Ok(()),
        other => other,
    }
}
