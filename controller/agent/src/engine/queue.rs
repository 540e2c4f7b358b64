//! The names of objects that want a look, each at most once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::runtime::reflector::ObjectRef;

use super::Kind;
use crate::metrics::METRICS;

/// The receiving end, for [`super::run`].
pub type Requests<K> = UnboundedReceiver<ObjectRef<K>>;

/// Wakes objects of one kind. Unbounded in form, bounded in fact: a name waits at most once.
pub struct Queue<K: Kind> {
    sender: UnboundedSender<ObjectRef<K>>,
    waiting: Arc<Mutex<HashSet<ObjectRef<K>>>>,
}

impl<K: Kind> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waiting: self.waiting.clone() }
    }
}

/// A queue and its receiving end.
pub fn queue<K: Kind>() -> (Queue<K>, Requests<K>) {
    let (sender, requests) = unbounded();
    (Queue { sender, waiting: Arc::default() }, requests)
}

impl<K: Kind> Queue<K> {
    /// Asks for a look at the object; does nothing when it is waiting already.
    pub fn wake(&self, object: ObjectRef<K>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|broken| broken.into_inner());
        if waiting.insert(object.clone()) {
            count::<K>(waiting.len());
            // Closed only when the agent is stopping.
            let _ = self.sender.unbounded_send(object);
        }
    }

    /// As [`Queue::wake`], by name.
    pub fn wake_named(&self, namespace: &str, name: &str) {
        self.wake(ObjectRef::new(name).within(namespace));
    }

    /// The look begins: from now on a wake-up means another one.
    pub(super) fn begin(&self, object: &ObjectRef<K>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(|broken| broken.into_inner());
        waiting.remove(object);
        count::<K>(waiting.len());
    }

    /// The object is gone, so nobody will look.
    pub(super) fn gone(&self, object: &ObjectRef<K>) {
        self.begin(object);
    }
}

fn count<K: Kind>(waiting: usize) {
    METRICS.queue_depth.with_label_values(&[K::kind(&()).as_ref()]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Volume;

    #[test]
    fn a_name_waits_once_and_again_after_its_look_began() {
        let (queue, mut requests) = queue::<Volume>();
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
}
