//! The garbage collector: dependents of gone owners go too.
//!
//! Every object has a uid that is never used twice, and a dependent can only name an owner that existed before it. All
//! changes arrive in one order, so an owner that the index does not know when it sees the dependent is gone for good.
//!
//! ```text
//! owner gone ─────────────► dependents: no owner left → delete; some left → forget the gone ones
//! owner + foregroundDeletion ► dependents deleted (foreground); blocking ones gone → finalizer off
//! owner + orphan ───────────► dependents forget it → finalizer off
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use store::{Entry, Event, EventKind};

use super::{Follower, follow};
use crate::object::Object;
use crate::server::Server;

mod collect;

/// Looks again at work that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// The part of a stored object the collector reads.
#[derive(Debug, Deserialize)]
struct Stored {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(deserialize_with = "shared")]
    uid: Arc<str>,
    owner_references: Vec<Reference>,
    finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    #[serde(deserialize_with = "shared")]
    uid: Arc<str>,
    block_owner_deletion: bool,
}

/// Of an object that has just been written somebody has the parsed form; it is not made for this.
fn metadata_of(entry: &Entry) -> Option<Metadata> {
    match entry.known::<Object>() {
        Some(object) => Metadata::deserialize(object.value.get("metadata")?).ok(),
        None => serde_json::from_slice::<Stored>(&entry.value).ok().map(|stored| stored.metadata),
    }
}

fn shared<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(from).map(Arc::from)
}

/// What the collector knows of an object.
#[derive(Debug)]
struct Node {
    uid: Arc<str>,
    owners: Vec<Reference>,
    /// Being deleted with a finalizer that is the collector's to answer.
    waiting: bool,
}

/// The collector's index.
struct Garbage {
    server: Arc<Server>,
    nodes: HashMap<Arc<str>, Node>,
    keys: HashMap<Arc<str>, Arc<str>>,
    dependents: HashMap<Arc<str>, HashSet<Arc<str>>>,
    /// Keys of objects that may have lost an owner.
    suspects: BTreeMap<Arc<str>, ()>,
    /// Uids of owners whose finalizer may be answered.
    waiting: HashSet<Arc<str>>,
}

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let garbage = Garbage {
        server: server.clone(),
        nodes: HashMap::new(),
        keys: HashMap::new(),
        dependents: HashMap::new(),
        suspects: BTreeMap::new(),
        waiting: HashSet::new(),
    };
    follow(&server, server.options.garbage_scan, garbage).await;
}

impl Garbage {
    fn put(&mut self, entry: &Entry) {
        let Some(metadata) = metadata_of(entry) else { return };
        self.forget(&entry.key);
        let ours = |f: &String| f == crate::write::ORPHAN || f == crate::write::FOREGROUND;
        let waiting = metadata.deletion_timestamp.is_some() && metadata.finalizers.iter().any(ours);
        if waiting {
            self.waiting.insert(metadata.uid.clone());
        }
        for owner in &metadata.owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(entry.key.clone());
        }
        self.keys.insert(metadata.uid.clone(), entry.key.clone());
        let node = Node { uid: metadata.uid, owners: metadata.owner_references, waiting };
        self.nodes.insert(entry.key.clone(), node);
    }

    /// Takes an object out of the index and returns what was known of it.
    fn forget(&mut self, key: &Arc<str>) -> Option<Node> {
        let node = self.nodes.remove(key)?;
        if self.keys.get(&node.uid) == Some(key) {
            self.keys.remove(&node.uid);
        }
        for owner in &node.owners {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(node)
    }

    fn suspect_if_dangling(&mut self, key: &Arc<str>) {
        let Some(node) = self.nodes.get(key) else { return };
        if node.owners.iter().any(|owner| !self.owns(&owner.uid, key)) {
            self.suspects.insert(key.clone(), ());
        }
    }

    /// Whether an owner exists where a dependent may name it: in its namespace, or in none.
    fn owns(&self, owner: &Arc<str>, dependent: &str) -> bool {
        let namespace = |key| crate::storage::parse_key(&self.server.store, key).and_then(|k| k.namespace);
        let Some(key) = self.keys.get(owner) else { return false };
        let at = namespace(key);
        at.is_none() || at == namespace(dependent)
    }
}

impl Follower for Garbage {
    fn relisted(&mut self, entries: &[Entry]) {
        self.nodes.clear();
        self.keys.clear();
        self.dependents.clear();
        self.waiting.clear();
        for entry in entries {
            self.put(entry);
        }
        for entry in entries {
            self.suspect_if_dangling(&entry.key);
        }
        self.suspect_homeless();
    }

    fn seen(&mut self, event: &Event) {
        let key = &event.entry.key;
        if event.kind == EventKind::Put {
            self.put(&event.entry);
            self.suspect_if_dangling(key);
            return;
        }
        let Some(node) = self.forget(key) else { return };
        self.suspects.remove(key);
        self.waiting.remove(&node.uid);
        for dependent in self.dependents.get(&node.uid).into_iter().flatten() {
            self.suspects.insert(dependent.clone(), ());
        }
        for owner in &node.owners {
            let waits = self.keys.get(&owner.uid).and_then(|key| self.nodes.get(key)).is_some_and(|n| n.waiting);
            if waits {
                self.waiting.insert(owner.uid.clone());
            }
        }
    }

    async fn settle(&mut self) -> Option<Duration> {
        let mut failed = false;
        for uid in std::mem::take(&mut self.waiting) {
            if let Err(error) = self.answer(&uid).await {
                tracing::debug!(%error, uid = &*uid, "an owner's dependents are not settled yet");
                self.waiting.insert(uid);
                failed = true;
            }
        }
        for key in std::mem::take(&mut self.suspects).into_keys() {
            if let Err(error) = self.collect(&key).await {
                tracing::debug!(%error, key = &*key, "garbage not collected yet");
                self.suspects.insert(key, ());
                failed = true;
            }
        }
        failed.then_some(AGAIN)
    }
}
