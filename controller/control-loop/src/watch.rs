//! One watch a kind: it fills a shared cache and tells who may be concerned.

use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store, store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

use crate::failure::sentence;
use crate::{Kind, Queue};

/// What this process last heard of one kind.
pub struct Cache<K: Kind> {
    store: Store<K>,
    /// Whether a list was heard to its end. The store tells that, too, but remembers only the last of all who wait for it.
    listed: signal::Receiver<bool>,
}

impl<K: Kind> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), listed: self.listed.clone() }
    }
}

/// The end that fills a cache.
pub struct Writer<K: Kind> {
    store: store::Writer<K>,
    listed: signal::Sender<bool>,
}

impl<K: Kind> Writer<K> {
    /// Takes in what a watch heard.
    pub fn apply_watcher_event(&mut self, event: &watcher::Event<K>) {
        self.store.apply_watcher_event(event);
        if matches!(event, watcher::Event::InitDone) {
            self.listed.send_replace(true);
        }
    }
}

impl<K: Kind> Cache<K> {
    /// An empty cache and the end that fills it.
    pub fn new() -> (Self, Writer<K>) {
        let ((store, filled), (tell, listed)) = (reflector::store(), signal::channel(false));
        (Self { store, listed }, Writer { store: filled, listed: tell })
    }

    /// The object of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The objects of one namespace that `wanted` picks.
    pub fn pick(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.store.state_filter(|object| object.meta().namespace.as_deref() == Some(namespace) && wanted(object))
    }

    /// The names of the objects that `wanted` picks.
    pub fn names(&self, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<K>> {
        self.store.state_filter(|object| wanted(object)).iter().map(|object| ObjectRef::from_obj(&**object)).collect()
    }

    /// Waits for the first full list.
    pub async fn ready(&self) {
        // The writer is dropped only when the process stops.
        let _ = self.listed.clone().wait_for(|listed| *listed).await;
    }

    /// Whether the first full list is here.
    pub fn is_ready(&self) -> bool {
        *self.listed.borrow()
    }

    /// As kube-runtime knows it.
    pub fn store(&self) -> Store<K> {
        self.store.clone()
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
                heard(&cache.store.as_reader(), event, queue.as_ref(), &concerned);
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

fn heard<K: Kind>(cache: &Store<K>, event: watcher::Event<K>, queue: Option<&Queue<K>>, concerned: &impl Fn(&K)) {
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
            for object in cache.state() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[tokio::test]
    async fn all_who_wait_for_the_first_list_hear_of_it_whoever_asks_meanwhile() {
        let (cache, mut writer) = Cache::<ConfigMap>::new();
        let wait = || {
            tokio::spawn({
                let cache = cache.clone();
                async move { cache.ready().await }
            })
        };
        let waiting: Vec<_> = (0..10).map(|_| wait()).collect();
        tokio::task::yield_now().await;
        assert!(!cache.is_ready() && cache.ready().now_or_never().is_none());
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let all = futures::future::join_all(waiting);
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("somebody was forgotten");
        assert!(told.iter().all(Result::is_ok) && cache.is_ready());
    }
}
