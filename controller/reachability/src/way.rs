//! Which Routers lead from one network to another, as their statuses say, which hosts go by.
//!
//! ```text
//!  Port ─► its network's routes ─► router ─┬─► the other Port's network
//!                                          └─► a network between ─► next router ─► …
//! ```
//!
//! Routers are of IPv4, and of one namespace with their networks. What is passed on by a guest is nobody's to derive: what becomes of
//! it there is the guest's own affair.

use std::net::Ipv4Addr;

use crds::router::RouterInterface;
use crds::router::routes::Hop;
use crds::{Router, RouterStatus};

use crate::endpoint::Endpoint;
use crate::world::World;

/// As many routers as a packet that begins with the usual 64 hops to live could pass at most (RFC 1700, "IP time to live").
const FURTHEST: usize = 64;

/// A router on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed<'a> {
    /// The router.
    pub(crate) router: &'a Router,
    /// Where the packet comes in.
    pub(crate) entry: &'a RouterInterface,
    /// Where it goes out.
    pub(crate) exit: &'a RouterInterface,
}

impl World {
    /// The routers from one Port to the other, in order: none within one network, nothing where no way leads.
    pub(crate) fn way(&self, from: &Endpoint, to: &Endpoint) -> Option<Vec<Passed<'_>>> {
        if from.shares_network_with(to) {
            return Some(Vec::new());
        }
        let address = to.address?;
        let own = from.subnets.as_ref().is_none_or(|subnets| subnets.around(address).is_some());
        if own || from.namespace != to.namespace {
            return None;
        }
        let routers = self.routers(&from.namespace);
        let mut via = longest(self.routes(&from.namespace, &from.network), address)?.via?;
        let (mut network, mut passed) = (from.network.as_str(), Vec::new());
        while passed.len() < FURTHEST {
            let (router, status, entry) = routers.iter().find_map(|router| {
                let status = router.status.as_ref()?;
                let has = |one: &&RouterInterface| {
                    one.network == network && one.place().is_some_and(|place| place.addr() == via)
                };
                Some((router.as_ref(), status, status.interfaces.iter().find(has)?))
            })?;
            let (exit, next) = way_out(status, address)?;
            passed.push(Passed { router, entry, exit });
            match next {
                None => return (exit.network == to.network).then_some(passed),
                Some(next) => (network, via) = (exit.network.as_str(), next),
            }
        }
        None
    }

    /// Whether what one says reaches the other's network, and an answer the one's.
    pub(crate) fn is_joined(&self, from: &Endpoint, to: &Endpoint) -> bool {
        self.way(from, to).is_some() && self.way(to, from).is_some()
    }
}

/// Where a router sends what is for the address: by that interface, to whoever is named, or right there.
fn way_out(status: &RouterStatus, address: Ipv4Addr) -> Option<(&RouterInterface, Option<Ipv4Addr>)> {
    let right_there = |one: &RouterInterface| one.place().map(|place| Hop { destination: place.trunc(), via: None });
    let each = |one| right_there(one).into_iter().chain(status.routes_at(one)).map(move |hop| (one, hop));
    let all = status.interfaces.iter().flat_map(each).filter(|(_, hop)| hop.destination.contains(&address));
    all.max_by_key(|(_, hop)| hop.destination.prefix_len()).map(|(one, hop)| (one, hop.via))
}

/// The route to the address: the most exact one, as the kernel chooses.
fn longest(routes: &[Hop], address: Ipv4Addr) -> Option<&Hop> {
    routes.iter().filter(|hop| hop.destination.contains(&address)).max_by_key(|hop| hop.destination.prefix_len())
}
