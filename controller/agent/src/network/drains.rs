//! Conversations with backends that get no new ones: they go on for a while, then they are ended.
//!
//! A backend is live while it gets new connections. When it no longer is, its conversations are spared for as long as its load
//! balancer says. Afterwards the kernel is made to forget every translated conversation that is neither with a live backend nor
//! spared. When the agent starts it knows of no backend that went before: what is not live then has as long as the longest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::balancer::{Balancer, Protocol, ServiceId};
use host::conntrack::{self, Flow};
use host::netns::Namespace;
use tokio::task::JoinSet;
use tokio::time::Instant;

use control_loop::sentence;

/// Where a conversation leads: from which protocol, address and port to which backend and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way(Protocol, Ipv4Addr, u16, Ipv4Addr, u16);

impl Way {
    fn of(flow: &Flow) -> Option<Way> {
        // IANA, "Assigned Internet Protocol Numbers".
        let protocol = match flow.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return None,
        };
        Some(Way(protocol, flow.address, flow.port, flow.backend, flow.target_port))
    }
}

/// All networks here that have load balancers.
#[derive(Default)]
pub struct Drains(Mutex<HashMap<String, Network>>);

#[derive(Default)]
struct Network {
    ways: Arc<Mutex<Ways>>,
    timers: JoinSet<()>,
    /// Whether it was followed before.
    is_known: bool,
}

#[derive(Debug, Default)]
struct Ways {
    /// Those to live backends, and the seconds for which they are spared afterwards.
    live: BTreeMap<Way, u32>,
    spared: BTreeMap<Way, Instant>,
}

impl Ways {
    /// Notes which are live from now on; after how many seconds there will be something to end.
    fn follow(&mut self, live: BTreeMap<Way, u32>, now: Instant) -> BTreeSet<u32> {
        let mut waits = BTreeSet::new();
        for (way, seconds) in std::mem::take(&mut self.live) {
            if !live.contains_key(&way) {
                self.spared.insert(way, now + Duration::from_secs(seconds.into()));
                waits.insert(seconds);
            }
        }
        self.spared.retain(|way, _| !live.contains_key(way));
        self.live = live;
        waits
    }

    /// Whether what leads there may go on.
    fn goes_on(&self, way: &Way, now: Instant) -> bool {
        self.live.contains_key(way) || self.spared.get(way).is_some_and(|end| *end > now)
    }
}

impl Drains {
    fn networks(&self) -> MutexGuard<'_, HashMap<String, Network>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what will be live, before the kernel is told: conversations begin as soon as it is.
    pub fn expect(&self, uid: &str, balancer: &Balancer, drains: &BTreeMap<ServiceId, u32>) {
        let mut networks = self.networks();
        let network = networks.entry(uid.to_owned()).or_default();
        lock(&network.ways).live.extend(live(balancer, drains));
    }

    /// Notes what is live in the network, after the kernel has been told. `drains`: seconds by service.
    pub fn follow(&self, uid: &str, namespace: &Namespace, balancer: &Balancer, drains: &BTreeMap<ServiceId, u32>) {
        let live = live(balancer, drains);
        let mut networks = self.networks();
        let network = networks.entry(uid.to_owned()).or_default();
        while network.timers.try_join_next().is_some() {}
        let mut waits = lock(&network.ways).follow(live, Instant::now());
        if !std::mem::replace(&mut network.is_known, true) {
            waits.extend(drains.values().max());
        }
        for seconds in waits {
            let (ways, namespace) = (network.ways.clone(), namespace.clone());
            network.timers.spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                end(&namespace, &ways).await;
            });
        }
    }

    /// The network is here no more.
    pub fn forget(&self, uid: &str) {
        self.networks().remove(uid);
    }
}

fn lock(ways: &Mutex<Ways>) -> MutexGuard<'_, Ways> {
    ways.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live(balancer: &Balancer, drains: &BTreeMap<ServiceId, u32>) -> BTreeMap<Way, u32> {
    let ways = balancer.services.iter().flat_map(|service| {
        let seconds = drains.get(&service.id).copied().unwrap_or_default();
        service.backends.iter().map(move |backend| {
            (Way(service.protocol, service.address, service.port, backend.address, service.target_port), seconds)
        })
    });
    ways.collect()
}

async fn end(namespace: &Namespace, ways: &Arc<Mutex<Ways>>) {
    let now = Instant::now();
    lock(ways).spared.retain(|_, end| *end > now);
    let ways = ways.clone();
    // Asked of each as it is found, for in the meantime more may be live.
    forget(namespace, move |flow| Way::of(flow).is_some_and(|way| !lock(&ways).goes_on(&way, now))).await;
}

/// Ends all conversations with backends.
pub(super) async fn end_all(namespace: &Namespace) {
    forget(namespace, |_| true).await;
}

async fn forget(namespace: &Namespace, doomed: impl Fn(&Flow) -> bool + Send + 'static) {
    match conntrack::forget(namespace, doomed).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "ended conversations with backends that are no more"),
        Err(error) => tracing::warn!(error = sentence(&error), "failed to end conversations with former backends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(backend: u8) -> Way {
        Way(Protocol::Tcp, [10, 9, 0, 50].into(), 80, [10, 9, 0, backend].into(), 8080)
    }

    #[test]
    fn what_is_no_longer_live_is_spared_for_its_time_unless_it_comes_back() {
        let (mut ways, start) = (Ways::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ways.follow([(way(2), 30), (way(3), 5)].into(), at(0)), [].into());
        assert_eq!(ways.follow([(way(4), 9)].into(), at(10)), [5, 30].into());
        let go_on = |ways: &Ways, now| (2..5).filter(|backend| ways.goes_on(&way(*backend), now)).collect::<Vec<_>>();
        assert_eq!(go_on(&ways, at(11)), [2, 3, 4]);
        assert_eq!(go_on(&ways, at(15)), [2, 4]);
        assert_eq!(ways.follow([(way(2), 30)].into(), at(20)), [9].into());
        assert_eq!(go_on(&ways, at(60)), [2], "it is live again");
    }
}
