//! The names of objects that want a look, each at most once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;
use prometheus::IntGauge;

use crate::Kind;
use crate::metrics::METRICS;

/// The receiving end, for [`crate::run`].
pub type Requests<K> = UnboundedReceiver<ObjectRef<K>>;

/// Wakes objects of one kind. Unbounded in form, bounded in fact: a name waits at most once.
pub struct Queue<K: Kind> {
    sender: UnboundedSender<ObjectRef<K>>,
    names: Arc<Mutex<Names<K>>>,
}

impl<K: Kind> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), names: self.names.clone() }
    }
}

struct Names<K: Kind> {
    waiting: HashSet<ObjectRef<K>>,
    looked_at: HashSet<ObjectRef<K>>,
    /// Shared by all queues of the kind, so that each adds and takes away its own.
    depth: IntGauge,
}

impl<K: Kind> Names<K> {
    /// An object that is being looked at and was woken again does not count: it waits for nobody but itself.
    fn counts(&self, object: &ObjectRef<K>) -> bool {
        self.waiting.contains(object) && !self.looked_at.contains(object)
    }

    /// Makes a change and counts what it made of the object.
    fn change<T>(&mut self, object: &ObjectRef<K>, change: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.counts(object);
        let done = change(self);
        match (before, self.counts(object)) {
            (false, true) => self.depth.inc(),
            (true, false) => self.depth.dec(),
            (false, false) | (true, true) => {}
        }
        done
    }
}

impl<K: Kind> Drop for Names<K> {
    fn drop(&mut self) {
        let counted = self.waiting.difference(&self.looked_at).count();
        self.depth.sub(i64::try_from(counted).unwrap_or(i64::MAX));
    }
}

/// A queue and its receiving end.
pub fn queue<K: Kind>() -> (Queue<K>, Requests<K>) {
    let (sender, requests) = unbounded();
    // The gauge exists from now on: a loop with nothing to do has a depth of zero, and not none.
    let depth = METRICS.queue_depth.with_label_values(&[K::kind(&()).as_ref()]);
    let names = Names { waiting: HashSet::new(), looked_at: HashSet::new(), depth };
    (Queue { sender, names: Arc::new(Mutex::new(names)) }, requests)
}

impl<K: Kind> Queue<K> {
    /// Asks for a look at the object; does nothing when it is waiting already.
    pub fn wake(&self, object: ObjectRef<K>) {
        let mut names = self.lock();
        if names.change(&object, |names| names.waiting.insert(object.clone())) {
            // Closed only when the process is stopping.
            let _ = self.sender.unbounded_send(object);
        }
    }

    /// As [`Queue::wake`], by name.
    pub fn wake_named(&self, namespace: &str, name: &str) {
        self.wake(ObjectRef::new(name).within(namespace));
    }

    /// The look begins: from now on a wake-up means another one.
    pub(crate) fn begin(&self, object: &ObjectRef<K>) {
        self.lock().change(object, |names| {
            names.waiting.remove(object);
            names.looked_at.insert(object.clone());
        });
    }

    /// The look is over.
    pub(crate) fn end(&self, object: &ObjectRef<K>) {
        self.lock().change(object, |names| names.looked_at.remove(object));
    }

    /// The object is gone, so nobody will look.
    pub(crate) fn gone(&self, object: &ObjectRef<K>) {
        self.lock().change(object, |names| names.waiting.remove(object));
    }

    fn lock(&self) -> MutexGuard<'_, Names<K>> {
        self.names.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};

    #[test]
    fn a_name_waits_once_and_again_after_its_look_began() {
        let (queue, mut requests) = queue::<ConfigMap>();
        queue.wake_named("t", "a");
        queue.wake_named("t", "a");
        queue.wake_named("t", "b");
        let a = requests.try_recv().unwrap();
        assert_eq!(a.name, "a");
        queue.begin(&a);
        queue.wake_named("t", "a");
        let rest: Vec<_> = std::iter::from_fn(|| requests.try_recv().ok()).map(|r| r.name).collect();
        assert_eq!(rest, ["b", "a"]);
    }

    #[test]
    fn the_depth_counts_who_waits_for_a_look() {
        let depth = || METRICS.queue_depth.with_label_values(&["Secret"]).get();
        let (queue, _requests) = queue::<Secret>();
        let (a, b) = (ObjectRef::new("a").within("t"), ObjectRef::new("b").within("t"));
        queue.wake(a.clone());
        queue.wake(b.clone());
        assert_eq!(depth(), 2);
        queue.begin(&a);
        assert_eq!(depth(), 1);
        queue.wake(a.clone());
        assert_eq!(depth(), 1, "it is being looked at");
        queue.end(&a);
        assert_eq!(depth(), 2, "and wants another look");
        queue.gone(&b);
        assert_eq!(depth(), 1);
        drop(queue);
        assert_eq!(depth(), 0, "nothing waits for a loop that has ended");
    }
}
