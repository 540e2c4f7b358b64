//! One watch a kind: it fills a shared cache and tells who may be concerned.

use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::failure::sentence;
use crate::{Kind, Queue};

/// What this process last heard of one kind.
pub struct Cache<K: Kind>(Store<K>);

impl<K: Kind> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> Cache<K> {
    /// An empty cache and the end that fills it.
    pub fn new() -> (Self, Writer<K>) {
        let (store, writer) = reflector::store();
        (Self(store), writer)
    }

    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.get(&ObjectRef::new(name).within(namespace))
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.state()
    }

    /// The objects of one namespace that `wanted` picks.
    pub fn pick(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0.state_filter(|object| object.meta().namespace.as_deref() == Some(namespace) && wanted(object))
    }

    /// The names of the objects that `wanted` picks.
    pub fn names(&self, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>> {
        self.0.state_filter(|object| wanted(object)).iter().map(|object| ObjectRef::from_obj(&**object)).collect()
    }

    /// Waits for the first full list.
    pub async fn ready(&self) {
        // The writer is dropped only when the process stops.
        let _ = self.0.wait_until_ready().await;
    }

    /// As kube-runtime knows it.
    pub fn store(&self) -> Store<K> {
        self.0.clone()
    }
}

/// Follows the objects of `api` until `shutdown`. Every object heard of is queued, then shown to `concerned`, which wakes
/// the objects of other kinds that look at this one.
pub async fn watch<K: Kind + DeserializeOwned>(
    api: Api<K>,
    fields: Option<String>,
    mut cache: Writer<K>,
    queue: Option<Queue<K>>,
    concerned: impl Fn(&K) + Send,
    shutdown: CancellationToken,
) {
    let config = fields.iter().fold(watcher::Config::default(), |config, fields| config.fields(fields));
    let mut events = std::pin::pin!(watcher(api, config).default_backoff().take_until(shutdown.cancelled()));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                cache.apply_watcher_event(&event);
                heard(&cache, event, queue.as_ref(), &concerned);
            }
            Err(error) => broke_off::<K>(&error),
        }
    }
}

/// Shows every object of `api` that is there, comes, changes or goes to `concerned`, until `shutdown`; keeps none.
pub(crate) async fn listen<K: Kind + DeserializeOwned>(
    api: Api<K>,
    concerned: impl Fn(&K) + Send,
    shutdown: CancellationToken,
) {
    let events = watcher(api, watcher::Config::default()).default_backoff().take_until(shutdown.cancelled());
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object) | watcher::Event::Delete(object)) => {
                concerned(&object)
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => broke_off::<K>(&error),
        }
    }
}

fn broke_off<K: Kind>(error: &watcher::Error) {
    tracing::warn!(kind = %K::kind(&()), error = sentence(error), "the watch broke off; it is taken up again");
}

fn heard<K: Kind>(cache: &Writer<K>, event: watcher::Event<K>, queue: Option<&Queue<K>>, concerned: &impl Fn(&K)) {
    match event {
        watcher::Event::Apply(object) => {
            wake(queue, &object);
            concerned(&object);
        }
        watcher::Event::Delete(object) => {
            if let Some(queue) = queue {
                queue.gone(&ObjectRef::from_obj(&object));
            }
            concerned(&object);
        }
        // During a list the cache still shows the old state; everything is looked at once the new one stands.
        watcher::Event::Init | watcher::Event::InitApply(_) => {}
        watcher::Event::InitDone => {
            for object in cache.as_reader().state() {
                wake(queue, &object);
                concerned(&object);
            }
        }
    }
}

fn wake<K: Kind>(queue: Option<&Queue<K>>, object: &K) {
    if let Some(queue) = queue {
        tracing::trace!(kind = %K::kind(&()), name = object.name_any(), "heard of");
        queue.wake(ObjectRef::from_obj(object));
    }
}
