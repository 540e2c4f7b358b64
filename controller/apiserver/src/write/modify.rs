//! The one loop through which stored objects change.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use store::{Entry, Revision};

use crate::error::Error;
use crate::object::Object;
use crate::registry::Resource;
use crate::request::body;
use crate::server::Server;
use crate::storage;

/// What to do with an object.
pub(crate) enum Change {
    /// Nothing.
    Keep,
    /// Store this document, given in the addressed version; its `managedFields` stay.
    Put(Value),
    /// Store this document with these `managedFields`.
    PutOwned(Value, Bytes),
    /// Remove the object; the document is its last state.
    Remove(Value),
}

/// What became of it.
pub(crate) struct Modified {
    /// The state now, or the last one of a removed object.
    pub object: Arc<Object>,
    /// Whether the object is gone.
    pub removed: bool,
    /// When this state began.
    pub revision: Revision,
    /// Whether that was by this change.
    pub changed: bool,
}

impl Modified {
    /// What would come of a dry run, or of a change that changes nothing.
    fn not(object: Arc<Object>, removed: bool, entry: &Entry) -> Self {
        Self { object, removed, revision: entry.mod_revision, changed: false }
    }
}

/// Lost races before giving up; each means that somebody else's write went through.
const ATTEMPTS: usize = 64;

impl Server {
    /// Applies `change` to the stored object until it is written, kept or refused.
    ///
    /// The cache may lag behind other writers, so a refusal or a no-op decided from it is confirmed once against the
    /// truth.
    pub(crate) async fn modify(
        &self,
        resource: &Resource,
        (namespace, name): (Option<&str>, &str),
        dry_run: bool,
        mut change: impl FnMut(&Arc<Object>) -> Result<Change, Error>,
    ) -> Result<Modified, Error> {
        let key = storage::key(&self.store, &resource.definition, namespace, name);
        let mut known = self.store.get_stale(&key);
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let Some(entry) = known.clone() else {
                match self.refresh(&key, &mut fresh).await? {
                    Some(entry) => known = Some(entry),
                    None => return Err(Error::NotFound(resource.subject(name))),
                }
                continue;
            };
            let object = Object::of(&entry)?;
            let decided = change(&object);
            if !fresh && matches!(decided, Err(_) | Ok(Change::Keep)) {
                let now = self.refresh(&key, &mut fresh).await?;
                if now.as_ref().is_none_or(|now| !storage::same(now, &entry)) {
                    known = now;
                    if known.is_none() {
                        return Err(Error::NotFound(resource.subject(name)));
                    }
                    continue;
                }
            }
            let attempt = match decided? {
                Change::Keep => return Ok(Modified::not(object, false, &entry)),
                Change::Put(value) => self.put(resource, &entry, value, object.managed.clone(), dry_run).await,
                Change::PutOwned(value, managed) => self.put(resource, &entry, value, managed, dry_run).await,
                Change::Remove(value) => self.remove(resource, &entry, value, object.managed.clone(), dry_run).await,
            };
            match attempt {
                Ok(done) => return Ok(done),
                Err(store::Error::Conflict { current, .. }) => {
                    known = Some(current);
                    fresh = true;
                }
                Err(error) => return Err(storage::refused(error, resource.subject(name))),
            }
        }
        Err(storage::modified(resource.subject(name)))
    }

    /// The truth, asked for at most once: what a lost race brings is the truth already.
    async fn refresh(&self, key: &str, fresh: &mut bool) -> Result<Option<Entry>, Error> {
        if *fresh {
            return Ok(None);
        }
        *fresh = true;
        Ok(self.store.get(key).await?)
    }

    async fn put(
        &self,
        resource: &Resource,
        entry: &Entry,
        value: Value,
        managed: Bytes,
        dry_run: bool,
    ) -> Result<Modified, store::Error> {
        let (value, text) = storage::encode(resource, value, &managed);
        // A patch may grow an object; it may not grow past what a body could bring.
        if text.bytes.len() > body::LIMIT {
            let (key, size, limit) = (entry.key.to_string(), text.bytes.len(), body::LIMIT);
            return Err(store::Error::TooLarge { key, size, limit });
        }
        if dry_run {
            let object = Arc::new(Object::new(value, managed, entry.mod_revision));
            return Ok(Modified::not(object, false, entry));
        }
        let written = self.store.update(&entry.key, text.bytes.clone(), entry.mod_revision).await?;
        self.metrics.wrote(&resource.definition.plural);
        let object = Arc::new(Object::stored(value, managed, &text, written.mod_revision));
        written.remember(object.clone());
        self.note_chore("update", resource, &object, written.mod_revision);
        Ok(Modified { object, removed: false, revision: written.mod_revision, changed: true })
    }

    async fn remove(
        &self,
        resource: &Resource,
        entry: &Entry,
        mut value: Value,
        managed: Bytes,
        dry_run: bool,
    ) -> Result<Modified, store::Error> {
        resource.definition.encode(&mut value);
        if dry_run {
            let object = Arc::new(Object::new(value, managed, entry.mod_revision));
            return Ok(Modified::not(object, true, entry));
        }
        let revision = self.store.delete(&entry.key, entry.mod_revision).await?;
        self.metrics.wrote(&resource.definition.plural);
        let object = Arc::new(Object::new(value, managed, revision));
        self.note_chore("delete", resource, &object, revision);
        Ok(Modified { object, removed: true, revision, changed: true })
    }
}
