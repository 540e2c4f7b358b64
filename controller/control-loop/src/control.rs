//! One kind's loop, whole: its own watch with a cache, and the watches of other kinds that wake its objects.

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::watch::listen;
use crate::{Cache, Kind, Pace, Queue, Reconciler, Requests, queue, run, watch};

type Kin<K> = Box<dyn Fn(&K) -> Vec<ObjectRef<K>> + Send>;

/// A loop that does not run yet.
///
/// Objects are woken by name; what is heard of another kind is not kept, so only the loop's own kind costs memory.
pub struct ControlLoop<K: Kind> {
    api: Api<K>,
    kin: Option<Kin<K>>,
    cache: Cache<K>,
    writer: crate::Writer<K>,
    queue: Queue<K>,
    requests: Requests<K>,
    others: Vec<BoxFuture<'static, ()>>,
    shutdown: CancellationToken,
}

impl<K: Kind + DeserializeOwned> ControlLoop<K> {
    /// A loop over the objects of `api`, which runs until `shutdown`.
    pub fn new(api: Api<K>, shutdown: CancellationToken) -> Self {
        let ((cache, writer), (queue, requests)) = (Cache::new(), queue());
        Self { api, kin: None, cache, writer, queue, requests, others: Vec::new(), shutdown }
    }

    /// What the loop has heard of its own kind.
    pub fn cache(&self) -> Cache<K> {
        self.cache.clone()
    }

    /// Wakes the owner of every object of another kind that comes, changes or goes.
    #[must_use]
    pub fn owns<C: Kind + DeserializeOwned>(self, api: Api<C>) -> Self {
        self.wakes(api, |child| {
            let meta = child.meta();
            let owners = meta.owner_references.iter().flatten();
            owners.filter_map(|owner| ObjectRef::from_owner_ref(meta.namespace.as_deref(), owner, ())).collect()
        })
    }

    /// Wakes the objects that `concerned` names whenever an object of another kind comes, changes or goes.
    #[must_use]
    pub fn wakes<C: Kind + DeserializeOwned>(
        mut self,
        api: Api<C>,
        concerned: impl Fn(&C) -> Vec<ObjectRef<K>> + Send + 'static,
    ) -> Self {
        let queue = self.queue.clone();
        let wake = move |changed: &C| concerned(changed).into_iter().for_each(|name| queue.wake(name));
        self.others.push(listen(api, wake, self.shutdown.clone()).boxed());
        self
    }

    /// Wakes the objects that `concerned` names whenever another one of the same kind comes, changes or goes.
    #[must_use]
    pub fn wakes_kin(mut self, concerned: impl Fn(&K) -> Vec<ObjectRef<K>> + Send + 'static) -> Self {
        self.kin = Some(Box::new(concerned));
        self
    }

    /// Runs until `shutdown`; nothing is reconciled before the loop's own kind has been listed once.
    pub async fn run<R: Reconciler<Kind = K>>(self, reconciler: R, pace: Pace) {
        let Self { api, kin, cache, writer, queue, requests, others, shutdown } = self;
        let wakers = queue.clone();
        let concerned = move |changed: &K| kin.iter().flat_map(|kin| kin(changed)).for_each(|name| wakers.wake(name));
        let mut watches = JoinSet::new();
        watches.spawn(watch(api, None, writer, Some(queue.clone()), concerned, shutdown.clone()));
        others.into_iter().for_each(|other| drop(watches.spawn(other)));
        cache.ready().await;
        run(reconciler, cache, queue, requests, pace, shutdown).await;
    }
}

#[cfg(test)]
mod tests;
