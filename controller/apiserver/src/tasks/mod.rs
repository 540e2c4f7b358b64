//! What the server does on its own: finish deletions of namespaces and CRDs, collect garbage, forget old events,
//! bring objects of earlier versions up to date.
//!
//! Each task keeps its own small index of the store, fed by one ordered watch from one list, and acts on the index.
//! Wake-ups carry no orders: an event only says what to look at again. Everything a task does goes through the same
//! doors as a client's request and may be done twice, so several servers over one store do no harm.

pub(crate) mod accounts;
pub(crate) mod events;
pub(crate) mod garbage;
pub(crate) mod instances;
pub(crate) mod namespaces;
mod remains;
pub(crate) mod upgrade;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use store::{Consistency, Entry, Event, WatchItem};

use crate::error::Error;
use crate::object::View;
use crate::registry::Resource;
use crate::server::Server;
use crate::write::DeleteOptions;
use crate::{storage, text};

/// Wait before reading anew after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// A task's view of the store.
pub(crate) trait Follower: Send {
    /// Begins anew from everything there is.
    fn relisted(&mut self, entries: &[Entry]);
    /// Notes one change.
    fn seen(&mut self, event: &Event);
    /// Does what is to be done; `Some` asks to be called again after a while even if nothing changes.
    fn settle(&mut self) -> impl Future<Output = Option<Duration>> + Send;
}

/// Feeds a follower for ever; begins anew every `scan`, and whenever the watch loses its place.
pub(crate) async fn follow(server: &Arc<Server>, scan: Duration, mut follower: impl Follower) {
    let root = server.store.keys().prefix().to_owned();
    loop {
        let (entries, revision) = match server.store.list(&root, Consistency::Linearizable).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::debug!(error = text::chain(&error), "the store could not be listed");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        follower.relisted(&entries);
        drop(entries);
        if let Ok(watch) = server.store.watch(&root, revision) {
            let over = tokio::time::sleep(scan);
            tokio::select! {
                () = feed(watch, &mut follower) => {}
                () = over => {}
            }
        }
    }
}

/// Feeds a follower until the watch ends.
async fn feed(mut watch: store::Watch, follower: &mut impl Follower) {
    loop {
        let again = follower.settle().await;
        let next = match again {
            Some(after) => tokio::time::timeout(after, watch.next()).await.ok(),
            None => Some(watch.next().await),
        };
        let Some(mut item) = next else { continue };
        loop {
            match item {
                Some(Ok(WatchItem::Event(event))) => follower.seen(&event),
                Some(Ok(WatchItem::Progress(_))) => {}
                Some(Err(_)) | None => return,
            }
            match watch.next().now_or_never() {
                Some(more) => item = more,
                None => break,
            }
        }
    }
}

impl Server {
    /// Deletes all objects of a kind, in one namespace or everywhere; tells of each that is still there.
    pub(crate) async fn drain(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        mut left: impl FnMut(&View),
    ) -> Result<(), Error> {
        let prefix = storage::prefix(&self.store, &resource.definition, namespace);
        let (entries, _) = self.store.list(&prefix, Consistency::Linearizable).await?;
        for entry in entries {
            let object = crate::object::Object::of(&entry)?;
            let (namespace, name) = storage::place(&object.value);
            let place = (namespace.as_deref(), name.as_str());
            match self.delete(resource, place, &DeleteOptions::default()).await {
                Ok(done) if done.removed => {}
                Err(Error::NotFound(_)) => {}
                Ok(done) => left(&done.view),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
