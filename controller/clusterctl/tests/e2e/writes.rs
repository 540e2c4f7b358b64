//! What it costs the store to bring objects up, counted from outside: every write of an object is a version of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

/// Versions of each object by name, until it was ready.
type Versions = BTreeMap<String, (BTreeSet<String>, bool)>;

/// Counts the writes of all objects of one kind until each is ready for the first time.
pub struct Writes {
    seen: Arc<Mutex<Versions>>,
    _watch: AbortOnDropHandle<()>,
}

impl Writes {
    /// Begins to count; returns once the watch stands.
    pub async fn of<K>(client: &Client, is_ready: fn(&K) -> bool) -> Result<Writes>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Versions::new()));
        let (stands, listed) = tokio::sync::oneshot::channel();
        let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
        let watch = tokio::spawn(follow(events.boxed(), seen.clone(), stands, is_ready));
        let watch = AbortOnDropHandle::new(watch);
        tokio::time::timeout(Duration::from_secs(30), listed).await.context("no watch")?.context("no watch")?;
        Ok(Writes { seen, _watch: watch })
    }

    /// Writes of each object that has become ready.
    pub fn until_ready(&self) -> BTreeMap<String, usize> {
        let seen = self.seen.lock().unwrap_or_else(|broken| broken.into_inner());
        seen.iter().filter(|(_, (_, ready))| *ready).map(|(name, (all, _))| (name.clone(), all.len())).collect()
    }
}

async fn follow<K: Resource>(
    mut events: futures::stream::BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    seen: Arc<Mutex<Versions>>,
    stands: tokio::sync::oneshot::Sender<()>,
    is_ready: fn(&K) -> bool,
) {
    let mut stands = Some(stands);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let mut seen = seen.lock().unwrap_or_else(|broken| broken.into_inner());
                let (versions, ready) = seen.entry(object.name_any()).or_default();
                if !*ready {
                    versions.extend(object.resource_version());
                    *ready = is_ready(&object);
                }
            }
            Ok(watcher::Event::InitDone) => drop(stands.take().map(|stands| stands.send(()))),
            Ok(watcher::Event::Init | watcher::Event::Delete(_)) | Err(_) => {}
        }
    }
}
