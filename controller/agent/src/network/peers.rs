//! The ports of the networks carried here, wherever they are.
//!
//! One watch for each network that has a port here, begun with the first and ended with the last: a host hears of the
//! networks it carries and of no other, however many there are. What is heard is kept apart from this host's own ports,
//! for which this agent answers; of the others it reads the addresses and the host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::Port;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use control_loop::{Cache, Queue, watch};

/// How long a network waits to hear of its ports elsewhere before what is here goes ahead.
const PATIENCE: Duration = Duration::from_secs(2);

/// Namespace and name of a network.
type Name = (String, String);

/// All networks that are followed.
pub struct Peers {
    client: Client,
    host: String,
    local: Cache<Port>,
    queue: Queue<Port>,
    followed: Mutex<HashMap<Name, Followed>>,
}

struct Followed {
    ports: Cache<Port>,
    _watch: AbortOnDropHandle<()>,
}

impl Peers {
    /// Nobody yet. `local` and `queue` are this host's ports, one of which is woken when a network's others change.
    pub fn new(client: Client, host: &str, local: Cache<Port>, queue: Queue<Port>) -> Peers {
        Peers { client, host: host.to_owned(), local, queue, followed: Mutex::default() }
    }

    /// The network's ports on all hosts; none until they have been heard, which wakes a port here.
    pub fn follow(&self, namespace: &str, network: &str) -> Option<Vec<Arc<Port>>> {
        let name = (namespace.to_owned(), network.to_owned());
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let one = followed.entry(name).or_insert_with_key(|name| self.begin(name));
        one.ports.is_ready().then(|| one.ports.all())
    }

    /// Waits until the network's ports have been heard, though not for ever: what is here must not hang on the API.
    pub async fn heard(&self, namespace: &str, network: &str) {
        let ports = {
            let name = (namespace.to_owned(), network.to_owned());
            let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
            if !followed.contains_key(&name) {
                // A port that went without a word (its finalizer was taken off) has left its network's watch behind.
                followed.retain(|(namespace, network), _| self.is_here(namespace, network));
            }
            followed.entry(name).or_insert_with_key(|name| self.begin(name)).ports.clone()
        };
        // When time is up the first list wakes a port as soon as it comes.
        let _ = tokio::time::timeout(PATIENCE, ports.ready()).await;
    }

    /// No port of the network is here any more.
    pub fn forget(&self, namespace: &str, network: &str) {
        let name = (namespace.to_owned(), network.to_owned());
        self.followed.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }

    fn is_here(&self, namespace: &str, network: &str) -> bool {
        !self.local.pick(namespace, |port| port.spec.network == network).is_empty()
    }

    fn begin(&self, name: &Name) -> Followed {
        let (ports, writer) = Cache::new();
        let api = Api::namespaced(self.client.clone(), &name.0);
        let fields = Some(format!("spec.network={}", name.1));
        let (heard, host) = (self.waker(name), self.host.clone());
        let first = (ports.clone(), self.waker(name));
        let elsewhere = move |port: &Port| {
            // Those here have a watch of their own.
            if port.spec.host.as_deref() != Some(host.as_str()) {
                heard();
            }
        };
        let task = tokio::spawn(async move {
            let all = watch(api, fields, writer, None, elsewhere, CancellationToken::new());
            let told = async {
                first.0.ready().await;
                first.1();
            };
            futures::join!(all, told);
        });
        Followed { ports, _watch: AbortOnDropHandle::new(task) }
    }

    /// Wakes some port of the network on this host.
    fn waker(&self, name: &Name) -> impl Fn() + Send + use<> {
        let (local, queue, (namespace, network)) = (self.local.clone(), self.queue.clone(), name.clone());
        move || wake_one(&local, &queue, &namespace, &network)
    }

    /// Wakes a port of each network here: the way to another host may have changed.
    pub fn wake_all(local: &Cache<Port>, queue: &Queue<Port>) {
        Peers::wake_each(&local.all(), queue);
    }

    /// Wakes a port of each of the tenant's networks here.
    pub fn wake_tenant(local: &Cache<Port>, queue: &Queue<Port>, namespace: &str) {
        Peers::wake_each(&local.pick(namespace, |_| true), queue);
    }

    fn wake_each(ports: &[Arc<Port>], queue: &Queue<Port>) {
        let mut woken = std::collections::HashSet::new();
        for port in ports {
            let name = (port.metadata.namespace.clone().unwrap_or_default(), port.spec.network.clone());
            if woken.insert(name) {
                queue.wake(kube::runtime::reflector::ObjectRef::from_obj(&**port));
            }
        }
    }
}

/// Wakes some port of the network on this host.
pub(super) fn wake_one(local: &Cache<Port>, queue: &Queue<Port>, namespace: &str, network: &str) {
    if let Some(port) = local.pick(namespace, |port| port.spec.network == network).first() {
        queue.wake(kube::runtime::reflector::ObjectRef::from_obj(&**port));
    }
}
