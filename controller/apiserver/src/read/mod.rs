//! Reading objects: one, many, and what changes.

mod list;
mod snapshots;
mod stream;
mod watch;

pub(crate) use list::{Item, Page, SLICE, Selection};
pub(crate) use snapshots::Snapshots;

use std::sync::Arc;

use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{Object, View};
use crate::server::Server;
use crate::storage;

impl Server {
    /// One object, for a caller who may see it. `resourceVersion=0` reads the cache as it is; anything else sees every write before it.
    pub(crate) async fn get(&self, call: &Call) -> Result<View, Error> {
        let key = storage::key(&self.store, &call.resource.definition, call.namespace.as_deref(), &call.name);
        self.reach(call.query.revision.unwrap_or(0)).await?;
        let entry = match call.query.revision {
            Some(0) => self.store.get_stale(&key),
            _ => None,
        };
        let entry = match entry {
            Some(entry) => entry,
            None => self.store.get(&key).await?.ok_or_else(|| Error::NotFound(call.resource.subject(&call.name)))?,
        };
        let object: Arc<Object> = Object::of(&entry)?;
        let view = call.resource.view(&object);
        call.may_see(view.value())?;
        Ok(view)
    }
}
