//! Routers in a network: who of the network leads elsewhere, and what of it is on this host. Pure.
//!
//! A router's place in a network is a Port that it owns. Everybody sends to it as to any other Port, so it is found where it was
//! elected to be and nowhere else. On that host it is a cable instead of a guest:
//!
//! ```text
//!  network's namespace                 router's namespace               another network's namespace
//!  brNETWORK ── rtPORT ═══════════════ rlPORT   (routes)   rlPORT' ═══════════════ rtPORT' ── brNETWORK'
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use crds::router::RouterInterface;
use crds::router::routes::{Hop, routes_of};
use crds::{Port, Router};
use host::link::Route;
use ipnet::Ipv4Net;
use kube::{Resource, ResourceExt};

use super::plan::{Wanted, WantedPort};
use super::way_out::WayOut;
use crate::layout::Owner;
use crate::names::{self, Names};

/// What networks know of routers, and what of these is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Where other networks are, from this one.
    pub routes: Vec<Route>,
    /// The routers that are here.
    pub legs: Vec<Leg>,
}

/// A router's place in a network, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The router.
    pub router: Owner,
    /// Its namespace.
    pub netns: String,
    /// UID of the Port that holds the address.
    pub port: String,
    /// The cable's end at the network's bridge.
    pub outer: String,
    /// The cable's end in the router's namespace.
    pub inner: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its address, with the range that it is in.
    pub address: Ipv4Net,
    /// What is reached there, besides that range.
    pub routes: Vec<Route>,
    /// The router's way out, which all its places here have in common.
    pub way: Option<WayOut>,
}

/// Whether the Port holds a router's address.
pub fn is_leg(port: &Port) -> bool {
    router_of(port).is_some()
}

/// UID of the router that the Port holds an address of.
pub fn router_of(port: &Port) -> Option<String> {
    let kind = Router::kind(&());
    let owners = port.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true) && owner.kind == kind).map(|owner| owner.uid.clone()).next()
}

/// What `routers`, those of the namespace, are to the network on the host `me`. Only who was elected has legs, whatever else a Port says.
pub fn routing(names: &Names, wanted: &Wanted, ports: &[Arc<Port>], routers: &[Arc<Router>], me: &str) -> Routing {
    let network = wanted.owner.name.as_str();
    let routes = routes_of(network, routers).into_iter().map(route).collect();
    let mut legs: Vec<Leg> = Vec::new();
    for router in routers {
        let Some(status) = &router.status else { continue };
        let here = status.host.as_deref() == Some(me) && router.metadata.deletion_timestamp.is_none();
        for interface in status.interfaces.iter().filter(|one| here && one.network == network) {
            let own = |port: &&Arc<Port>| port.name_any() == interface.port && router_of(port) == router.uid();
            let Some(port) = ports.iter().find(own) else { continue };
            let port = wanted.ports.iter().find(|one| Some(&one.uid) == port.metadata.uid.as_ref());
            let routes = status.routes_at(interface).into_iter().map(route).collect();
            let leg = port.and_then(|port| leg(names, router, interface, port, routes));
            legs.extend(leg.map(|leg| Leg { way: WayOut::of(names, router, status), ..leg }));
        }
    }
    Routing { routes, legs }
}

fn leg(names: &Names, router: &Router, at: &RouterInterface, port: &WantedPort, routes: Vec<Route>) -> Option<Leg> {
    let uid = router.uid().unwrap_or_default();
    let address = at.place().filter(|place| Some(place.addr()) == port.ip)?;
    Some(Leg {
        netns: names.cell(&uid),
        router: Owner { namespace: router.namespace().unwrap_or_default(), name: router.name_any(), uid },
        outer: names::leg(&port.uid),
        inner: names::inner_leg(&port.uid),
        port: port.uid.clone(),
        mac: port.mac,
        address,
        routes,
        way: None,
    })
}

fn route(hop: Hop) -> Route {
    let via: Option<Ipv4Addr> = hop.via;
    Route { destination: hop.destination, via }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{samples, wanted};
    use super::*;
    use serde_json::json;

    fn router(host: &str, address: &str) -> Arc<Router> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
                "metadata": {"name": "r", "namespace": "t", "uid": "cccccccc-1111-4333-8444-555555555555"},
                "spec": {"networks": ["net", "far"]},
                "status": {"host": host, "interfaces": [
                    {"network": "net", "port": "p2", "address": address, "ranges": ["10.9.0.0/24", "10.9.7.0/24"]},
                    {"network": "far", "port": "r.far", "address": "10.5.0.2", "ranges": ["10.5.0.0/16"]},
                ]},
            }))
            .unwrap(),
        )
    }

    fn owned(uid: &str) -> Arc<Port> {
        let mut port = (*samples::port(2)).clone();
        port.metadata.owner_references = serde_json::from_value(json!([
            {"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router", "name": "r", "uid": uid, "controller": true},
        ]))
        .unwrap();
        Arc::new(port)
    }

    fn found(port: Arc<Port>, router: Arc<Router>) -> Routing {
        let network = wanted(&samples::names(), &samples::network(), std::slice::from_ref(&port)).unwrap();
        routing(&samples::names(), &network, &[port], &[router], "host0")
    }

    const UID: &str = "cccccccc-1111-4333-8444-555555555555";

    #[test]
    fn the_elected_host_has_the_leg_and_everybody_the_routes() {
        let here = found(owned(UID), router("host0", "10.9.0.2"));
        let leg = &here.legs[0];
        assert_eq!((leg.outer.as_str(), leg.inner.as_str()), ("rtaaaaaaaabb02", "rlaaaaaaaabb02"));
        assert_eq!(leg.address.to_string(), "10.9.0.2/24");
        assert_eq!(leg.routes, [Route { destination: "10.9.7.0/24".parse().unwrap(), via: None }]);
        let there = found(owned(UID), router("host1", "10.9.0.2"));
        assert!(there.legs.is_empty(), "who is not elected has none, though it still has the Port");
        let far = Route { destination: "10.5.0.0/16".parse().unwrap(), via: Some([10, 9, 0, 2].into()) };
        assert_eq!((&here.routes[..], &there.routes[..]), (&[far][..], &[far][..]));
    }

    #[test]
    fn a_port_of_somebody_elses_or_with_another_address_is_no_leg() {
        assert!(found(samples::port(2), router("host0", "10.9.0.2")).legs.is_empty());
        assert!(found(owned("another"), router("host0", "10.9.0.2")).legs.is_empty());
        assert!(found(owned(UID), router("host0", "10.9.0.3")).legs.is_empty());
    }
}
