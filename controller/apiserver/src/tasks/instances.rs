//! Deleting a CRD deletes its objects first, while the kind is still served and its finalizers can be answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use store::{Entry, Event, EventKind};
use tokio::time::Instant;

use super::{Follower, follow};
use crate::error::Error;
use crate::object::{Object, finalizers, is_deleting, meta, set_finalizers};
use crate::registry::{CRD_GROUP, CRD_PLURAL, Resource};
use crate::server::Server;
use crate::special::CRD_FINALIZER;
use crate::storage;
use crate::write::Change;

/// Looks again at CRDs whose objects do not go, in case a wake-up was missed.
const AGAIN: Duration = Duration::from_secs(10);

struct Instances {
    server: Arc<Server>,
    /// CRD name → (group, plural).
    terminating: BTreeMap<String, (String, String)>,
    /// Something happened that may have removed the last object of one of them.
    look: bool,
    due: Instant,
}

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let follower = Instances { server: server.clone(), terminating: BTreeMap::new(), look: false, due: Instant::now() };
    follow(&server, server.options.garbage_scan, follower).await;
}

impl Instances {
    fn note(&mut self, entry: &Entry) {
        let Ok(object) = Object::of(entry) else { return };
        let crd = &object.value;
        if is_deleting(crd) && finalizers(crd).any(|f| f == CRD_FINALIZER) {
            let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
            let kind = (text(&crd["spec"]["group"]), text(&crd["spec"]["names"]["plural"]));
            self.terminating.insert(meta(crd, "name").to_owned(), kind);
            self.look = true;
        }
    }
}

impl Follower for Instances {
    fn relisted(&mut self, entries: &[Entry]) {
        self.terminating.clear();
        for entry in entries {
            if storage::parse_key(&self.server.store, &entry.key).is_some_and(|k| k.is(CRD_GROUP, CRD_PLURAL)) {
                self.note(entry);
            }
        }
    }

    fn seen(&mut self, event: &Event) {
        let Some(key) = storage::parse_key(&self.server.store, &event.entry.key) else { return };
        if key.is(CRD_GROUP, CRD_PLURAL) {
            if event.kind == EventKind::Delete {
                self.terminating.remove(key.name);
            } else {
                self.note(&event.entry);
            }
        } else if event.kind == EventKind::Delete {
            let ours = |(group, plural): &(String, String)| key.is(group, plural);
            self.look |= self.terminating.values().any(ours);
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
        for (name, (group, plural)) in self.terminating.clone() {
            match self.server.finish_crd(&name, &group, &plural).await {
                Ok(0) | Err(Error::NotFound(_)) => {
                    self.terminating.remove(&name);
                }
                Ok(left) => tracing::debug!(name, left, "objects of a deleted CRD still wait"),
                Err(error) => tracing::warn!(name, %error, "CRD not finished"),
            }
        }
        (!self.terminating.is_empty()).then_some(AGAIN)
    }
}

impl Server {
    /// Deletes a CRD's objects and, when none is left, takes its finalizer off; returns how many are left.
    async fn finish_crd(&self, name: &str, group: &str, plural: &str) -> Result<usize, Error> {
        let catalog = self.registry.catalog();
        if let Some(definition) = catalog.definition(group, plural).filter(|d| !d.builtin) {
            let mut left = 0;
            self.drain(&Resource::stored(definition), None, |_| left += 1).await?;
            if left > 0 {
                return Ok(left);
            }
        }
        let resource = self.builtin(CRD_GROUP, CRD_PLURAL)?;
        let change = |object: &Arc<Object>| {
            let mut new = object.value.clone();
            let rest: Vec<String> = finalizers(&new).filter(|f| *f != CRD_FINALIZER).map(str::to_owned).collect();
            set_finalizers(&mut new, &rest);
            Ok(if rest.is_empty() { Change::Remove(new) } else { Change::Put(new) })
        };
        self.modify(&resource, (None, name), false, change).await?;
        Ok(0)
    }
}
