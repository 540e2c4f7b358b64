//! Objects of an earlier version are brought up to the present schema: defaults that came later, and the stored version.
//!
//! Once for each kind at the start, and again when its CRD changes. What is up to date is not written. An object that the
//! present schema would refuse keeps what is wrong with it: it is served as it is, and its next writer is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::Consistency;

use crate::error::Error;
use crate::object::Object;
use crate::registry::Resource;
use crate::schema::Definition;
use crate::server::Server;
use crate::write::Change;
use crate::{storage, text};

/// Wait before a kind that could not be upgraded is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let mut changes = server.registry.changes();
    let mut done: HashMap<String, Arc<Definition>> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let mut failed = false;
        for definition in server.registry.catalog().definitions.iter().filter(|definition| !definition.builtin) {
            // A kind is compiled once for each state of its CRD.
            if done.get(&definition.storage_resource).is_some_and(|known| Arc::ptr_eq(known, definition)) {
                continue;
            }
            match server.upgrade(definition).await {
                Ok(count) => {
                    if count > 0 {
                        tracing::info!(
                            kind = definition.kind,
                            count,
                            "brought stored objects up to the present schema"
                        );
                    }
                    done.insert(definition.storage_resource.clone(), definition.clone());
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(
                        kind = definition.kind,
                        error = text::chain(&error),
                        "stored objects stay as they are"
                    );
                }
            }
        }
        let again = async {
            match failed {
                true => tokio::time::sleep(AGAIN).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

impl Server {
    /// Rewrites the objects of a kind that the present schema would store otherwise; returns how many.
    async fn upgrade(&self, definition: &Arc<Definition>) -> Result<usize, Error> {
        let resource = Resource::stored(definition);
        let prefix = storage::prefix(&self.store, definition, None);
        let (entries, _) = self.store.list(&prefix, Consistency::Any).await?;
        let mut count = 0;
        for entry in entries {
            let object = Object::of(&entry)?;
            if upgraded(&resource, &object).is_none() {
                continue;
            }
            let (namespace, name) = storage::place(&object.value);
            let change = |object: &Arc<Object>| Ok(upgraded(&resource, object).map_or(Change::Keep, Change::Put));
            match self.modify(&resource, (namespace.as_deref(), &name), false, change).await {
                Ok(_) => count += 1,
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }
}

/// The object as it would be stored today; `None` when it is so already.
fn upgraded(resource: &Resource, object: &Arc<Object>) -> Option<serde_json::Value> {
    let mut new = resource.view(object).into_value();
    resource.version().schema.default(&mut new);
    (new != object.value).then_some(new)
}
