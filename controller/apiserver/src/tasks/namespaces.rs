//! Deleting a namespace deletes its content first.
//!
//! ```text
//! Active ─ DELETE ─► Terminating (spec.finalizers: kubernetes) ─ content gone ─► finalizer off ─► gone
//!                       ├ nothing new can be made in it
//!                       └ its conditions say what it waits for
//! ```

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use store::{Entry, Event, EventKind};
use tokio::time::Instant;

use super::remains::Remains;
use super::{Follower, follow};
use crate::error::Error;
use crate::object::{Object, View, finalizers, is_deleting, meta};
use crate::registry::Resource;
use crate::server::Server;
use crate::write::Change;
use crate::{storage, text};

/// Looks again at namespaces that do not empty, in case a wake-up was missed.
const AGAIN: Duration = Duration::from_secs(10);

struct Namespaces {
    server: Arc<Server>,
    terminating: BTreeSet<String>,
    /// Something happened that may have emptied one of them.
    look: bool,
    due: Instant,
}

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let follower =
        Namespaces { server: server.clone(), terminating: BTreeSet::new(), look: false, due: Instant::now() };
    follow(&server, server.options.garbage_scan, follower).await;
}

impl Namespaces {
    fn note(&mut self, entry: &Entry) {
        let Ok(object) = Object::of(entry) else { return };
        if is_deleting(&object.value) {
            self.terminating.insert(meta(&object.value, "name").to_owned());
            self.look = true;
        }
    }
}

impl Follower for Namespaces {
    fn relisted(&mut self, entries: &[Entry]) {
        self.terminating.clear();
        for entry in entries {
            if storage::parse_key(&self.server.store, &entry.key).is_some_and(|k| k.is("", "namespaces")) {
                self.note(entry);
            }
        }
    }

    fn seen(&mut self, event: &Event) {
        let Some(key) = storage::parse_key(&self.server.store, &event.entry.key) else { return };
        let removed = event.kind == EventKind::Delete;
        if key.is("", "namespaces") {
            if removed {
                self.terminating.remove(key.name);
            } else {
                self.note(&event.entry);
            }
        } else if removed && key.namespace.is_some_and(|namespace| self.terminating.contains(namespace)) {
            self.look = true;
        }
    }

    async fn settle(&mut self) -> Option<Duration> {
        if self.terminating.is_empty() {
            return None;
        }
        let wait = self.due.saturating_duration_since(Instant::now());
        if !std::mem::take(&mut self.look) && !wait.is_zero() {
            return Some(wait);
        }
        self.due = Instant::now() + AGAIN;
        for namespace in self.terminating.clone() {
            match self.server.empty_namespace(&namespace).await {
                Ok(left) if left.is_empty() => match self.server.finalize_namespace(&namespace).await {
                    Ok(()) | Err(Error::NotFound(_)) => {
                        self.terminating.remove(&namespace);
                    }
                    Err(error) => tracing::warn!(namespace, %error, "namespace not finalized"),
                },
                Ok(left) => {
                    tracing::debug!(namespace, left = left.len(), "namespace still has content");
                    if let Err(error) = self.server.explain_namespace(&namespace, &left).await {
                        tracing::warn!(namespace, %error, "what a namespace waits for could not be written down");
                    }
                }
                Err(error) => tracing::warn!(namespace, %error, "namespace not emptied"),
            }
        }
        (!self.terminating.is_empty()).then_some(AGAIN)
    }
}

impl Server {
    /// Deletes everything in a namespace; returns what still waits for a finalizer.
    async fn empty_namespace(&self, namespace: &str) -> Result<Remains, Error> {
        let catalog = self.registry.catalog();
        let mut folders = HashSet::new();
        let mut left = Remains::default();
        for definition in &catalog.definitions {
            if definition.namespaced && folders.insert(definition.storage_resource.clone()) {
                let resource = Resource::stored(definition);
                let note = |object: &View| left.note(definition.qualified(), object);
                self.drain(&resource, Some(namespace), note).await?;
            }
        }
        Ok(left)
    }

    /// Writes down in a namespace's status what it waits for.
    async fn explain_namespace(&self, name: &str, left: &Remains) -> Result<(), Error> {
        let resource = self.builtin("", "namespaces")?;
        let change = |object: &Arc<Object>| {
            let mut new = object.value.clone();
            new["status"] = left.status(&object.value["status"], &text::now());
            let told = !is_deleting(&new) || new == object.value;
            Ok(if told { Change::Keep } else { Change::Put(new) })
        };
        match self.modify(&resource, (None, name), false, change).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the namespace's own finalizer off.
    async fn finalize_namespace(&self, name: &str) -> Result<(), Error> {
        let resource = self.builtin("", "namespaces")?;
        let change = |object: &Arc<Object>| {
            let mut new = object.value.clone();
            if !is_deleting(&new) {
                return Ok(Change::Keep);
            }
            new["spec"]["finalizers"] = json!([]);
            let free = finalizers(&new).next().is_none();
            Ok(match free {
                true => Change::Remove(new),
                false if new == object.value => Change::Keep,
                false => Change::Put(new),
            })
        };
        self.modify(&resource, (None, name), false, change).await.map(drop)
    }
}
