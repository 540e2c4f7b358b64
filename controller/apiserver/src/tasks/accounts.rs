//! Every Namespace has a ServiceAccount `default`, as programs expect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use store::{Entry, Event, EventKind};

use super::{Follower, follow};
use crate::error::Error;
use crate::object::{Object, is_deleting, meta};
use crate::server::Server;
use crate::storage;

/// Looks again at namespaces in which the account could not be made.
const AGAIN: Duration = Duration::from_secs(1);
const NAME: &str = "default";

struct Accounts {
    server: Arc<Server>,
    /// Namespaces that may lack the account.
    look: BTreeSet<String>,
}

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let follower = Accounts { server: server.clone(), look: BTreeSet::new() };
    follow(&server, server.options.garbage_scan, follower).await;
}

impl Accounts {
    fn note(&mut self, entry: &Entry) {
        if let Ok(object) = Object::of(entry)
            && !is_deleting(&object.value)
        {
            self.look.insert(meta(&object.value, "name").to_owned());
        }
    }
}

impl Follower for Accounts {
    fn relisted(&mut self, entries: &[Entry]) {
        for entry in entries {
            if storage::parse_key(&self.server.store, &entry.key).is_some_and(|key| key.is("", "namespaces")) {
                self.note(entry);
            }
        }
    }

    fn seen(&mut self, event: &Event) {
        let Some(key) = storage::parse_key(&self.server.store, &event.entry.key) else { return };
        let removed = event.kind == EventKind::Delete;
        if key.is("", "namespaces") && !removed {
            self.note(&event.entry);
        } else if key.is("", "serviceaccounts") && removed && key.name == NAME {
            self.look.extend(key.namespace.map(str::to_owned));
        }
    }

    async fn settle(&mut self) -> Option<Duration> {
        for namespace in std::mem::take(&mut self.look) {
            match self.server.ensure_account(&namespace).await {
                // It is there, or its namespace is going.
                Ok(()) | Err(Error::AlreadyExists(_) | Error::NotFound(_) | Error::Forbidden { .. }) => {}
                Err(error) => {
                    tracing::debug!(namespace, %error, "default account not made yet");
                    self.look.insert(namespace);
                }
            }
        }
        (!self.look.is_empty()).then_some(AGAIN)
    }
}

impl Server {
    async fn ensure_account(&self, namespace: &str) -> Result<(), Error> {
        let resource = self.builtin("", "serviceaccounts")?;
        let key = storage::key(&self.store, &resource.definition, Some(namespace), NAME);
        if self.store.get_stale(&key).is_some() {
            return Ok(());
        }
        self.check_namespace(&resource, Some(namespace), NAME).await?;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": namespace},
        });
        self.make(&resource, account).await.map(drop)
    }
}
