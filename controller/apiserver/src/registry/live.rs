//! Keeps the catalog equal to the stored CRDs.
//!
//! ```text
//! CRDs in the store ─ watch ─► rebuild: names accepted in order of creation ─► Catalog
//!                                 └► status (Established, NamesAccepted, storedVersions) when it differs
//! ```
//!
//! A CRD compiled once is not compiled again until it changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use store::{Consistency, Entry, Revision, Store, WatchItem};

use super::{CRD_GROUP, CRD_PLURAL, Catalog, Registry, crd_status};
use crate::error::Error;
use crate::object::Object;
use crate::schema::{self, Definition};
use crate::text;

/// Wait before reading again after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// The task that follows the CRDs.
pub struct Live {
    store: Store,
    registry: Arc<Registry>,
    builtin: Vec<Arc<Definition>>,
    compiled: HashMap<String, (Value, Arc<Definition>)>,
}

impl Live {
    /// A follower with only the built-in kinds known yet.
    #[must_use]
    pub fn new(store: Store, registry: Arc<Registry>) -> Self {
        let builtin = schema::builtin().into_iter().map(|d| with_connect(&registry, d)).collect();
        Self { store, registry, builtin, compiled: HashMap::new() }
    }

    fn prefix(&self) -> String {
        self.store.keys().collection(CRD_GROUP, CRD_PLURAL)
    }

    /// Reads all CRDs and publishes a catalog; returns the revision it reflects.
    pub async fn rebuild(&mut self) -> Result<Revision, Error> {
        let (mut entries, revision) = self.store.list(&self.prefix(), Consistency::Linearizable).await?;
        entries.sort_by_key(|entry| entry.create_revision);
        let mut accepted: Vec<Arc<Object>> = Vec::new();
        let mut definitions = self.builtin.clone();
        let mut compiled = HashMap::new();
        for entry in &entries {
            let crd = Object::of(entry)?;
            let before: Vec<&Value> = accepted.iter().map(|object| &object.value).collect();
            let (status, serve) = crd_status(&crd.value, &before);
            if serve {
                accepted.push(crd.clone());
                if let Some(definition) = self.compile(&entry.key, &crd.value) {
                    compiled.insert(entry.key.to_string(), (crd.value["spec"].clone(), definition.clone()));
                    definitions.push(definition);
                }
            }
            self.write_status(entry, &crd, status).await;
        }
        self.compiled = compiled;
        self.registry.publish(Catalog::new(definitions, revision));
        Ok(revision)
    }

    fn compile(&self, key: &str, crd: &Value) -> Option<Arc<Definition>> {
        let wanted = |d: &Definition| self.registry.connect_of(d) == d.connect;
        if let Some((spec, definition)) = self.compiled.get(key)
            && *spec == crd["spec"]
            && definition.terminating == crate::object::is_deleting(crd)
            && wanted(definition)
        {
            return Some(definition.clone());
        }
        match Definition::from_crd(crd) {
            Ok(definition) => Some(with_connect(&self.registry, definition)),
            Err(errors) => {
                tracing::warn!(key, errors = schema::aggregate(&errors), "stored CRD cannot be served");
                None
            }
        }
    }

    /// Writes the status when it differs; a lost race is settled by the watch event of the winner.
    async fn write_status(&self, entry: &Entry, crd: &Object, status: Value) {
        if crd.value["status"] == status {
            return;
        }
        let mut value = crd.value.clone();
        value["status"] = status;
        crate::object::set_meta(&mut value, "resourceVersion", None);
        if let Err(error) = self.store.update(&entry.key, Bytes::from(value.to_string()), entry.mod_revision).await {
            tracing::debug!(key = %entry.key, error = text::chain(&error), "CRD status not written");
        }
    }

    /// Follows changes for ever.
    pub async fn run(mut self, mut from: Revision) {
        loop {
            match self.store.watch(&self.prefix(), from) {
                Ok(mut watch) => self.follow(&mut watch).await,
                Err(error) => tracing::debug!(error = text::chain(&error), "CRD watch starts anew"),
            }
            from = loop {
                match self.rebuild().await {
                    Ok(revision) => break revision,
                    Err(error) => tracing::warn!(error = text::chain(&error), "CRDs could not be read"),
                }
                tokio::time::sleep(RETRY).await;
            };
        }
    }

    /// Rebuilds after every change until the watch loses its place.
    async fn follow(&mut self, watch: &mut store::Watch) {
        let registry = self.registry.clone();
        loop {
            tokio::select! {
                item = watch.next() => match item {
                    Some(Ok(WatchItem::Progress(_))) => continue,
                    Some(Ok(WatchItem::Event(_))) => {}
                    Some(Err(_)) | None => return,
                },
                () = registry.connect_changed.notified() => {}
            }
            if let Err(error) = self.rebuild().await {
                tracing::warn!(error = text::chain(&error), "CRDs could not be read");
                return;
            }
        }
    }
}

fn with_connect(registry: &Registry, mut definition: Definition) -> Arc<Definition> {
    definition.connect = registry.connect_of(&definition);
    Arc::new(definition)
}
