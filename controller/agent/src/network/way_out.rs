//! The way out of a router that is here.
//!
//! ```text
//!  router's namespace                                   outside
//!  rlPORT … (routes) … uxROUTER 203.0.113.7/32 ════════ pxHOST 169.254.1.1
//!                       default via 169.254.1.1          203.0.113.7/32 is at this link; floating ones are behind 203.0.113.7
//! ```
//!
//! The router's address there is given for as long as this host may have the router, as those in its networks are: with it go the way
//! out, and the answer to whoever is outside and asks for it. Routes outside stay then, and lead to nobody, until the next host puts its
//! own in their place.

use std::net::Ipv4Addr;
use std::time::Instant;

use crds::router::RouterExternal;
use crds::{Router, RouterStatus};
use host::link::{Change, Port, Route, Veth, ensure_forwarding, ensure_passing_on};
use host::nft::Place;
use host::outside::{self, Outside, Stands};
use ipnet::{IpNet, Ipv4Net};
use kube::ResourceExt;

use super::error::Error;
use super::hands::{HostHands, link_failed, netns_failed, nft_failed};
use super::routers::Leg;
use super::terms::link;
use crate::layout;
use crate::names::{self, Names};

/// How the table stood when it was last written, in the router's directory; as long as it is there, so may the way be.
const WAY: &str = "outside.json";
/// The next hop for all: an address of the link's own range (RFC 3927), the same outside of each router.
const NEXT: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Largest packet on the cable.
const MTU: u32 = 1500;

/// A router's way out, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOut {
    /// The router's end of the cable.
    pub inner: String,
    /// The end outside.
    pub outer: String,
    /// Its table in the packet filter.
    pub table: String,
    /// The router's address outside.
    pub address: Ipv4Addr,
    /// Floating addresses with whom they lead to.
    pub floating: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// The ranges inside.
    pub inside: Vec<Ipv4Net>,
}

impl WayOut {
    /// What the status says of it; none when what it says is not ours.
    pub fn of(names: &Names, router: &Router, status: &RouterStatus) -> Option<WayOut> {
        let external: &RouterExternal = status.external.as_ref()?;
        let uid = router.uid()?;
        let behind = status.static_routes.iter().filter_map(|one| one.destination.parse().ok());
        Some(WayOut {
            inner: names::way_out(&uid),
            outer: names.way_end(&uid),
            table: names::translation(&uid),
            address: external.address.parse().ok()?,
            floating: external
                .floating
                .iter()
                .filter_map(|one| Some((one.address.parse().ok()?, one.target.parse().ok()?)))
                .collect(),
            inside: status.interfaces.iter().flat_map(|one| one.parsed_ranges()).chain(behind).collect(),
        })
    }

    /// How all of it is reached from outside.
    fn led_in(&self) -> Vec<Route> {
        let route = |address, via| Route { destination: Ipv4Net::from(address), via };
        let floating = self.floating.iter().map(|(address, _)| route(*address, Some(self.address)));
        [route(self.address, None)].into_iter().chain(floating).collect()
    }
}

impl HostHands {
    /// Makes the router's way out be as its status says, or not be. The door to the router's namespace is open.
    pub(super) async fn lay_way_out(&self, leg: &Leg) -> Result<Vec<Change>, Error> {
        let dir = self.layout.router(&leg.router.uid);
        let Some((way, outside)) = leg.way.as_ref().zip(self.outside.as_ref()) else {
            return if dir.join(WAY).exists() { self.take_way_out(leg).await } else { Ok(Vec::new()) };
        };
        let failed = |source| link_failed("lay the way out", source);
        let (namespace, inside) = self.door_of(&leg.netns)?;
        let (inner, outer) = (link(&way.inner)?, link(&way.outer)?);
        // First of all what may pass.
        let mut changes = self.write_way_out(leg, way).await?;
        if inside.find(inner.as_str()).await.map_err(failed)?.is_none() {
            // The other end of one whose namespace is on its way to be gone.
            changes.extend(outside.links.delete(&outer).await.map_err(failed)?);
        }
        let peer_namespace = Some(outside.namespace.clone());
        let cable = Veth { name: inner.clone(), peer: outer.clone(), peer_namespace };
        changes.extend(inside.ensure_veth(&cable).await.map_err(failed)?);
        let alias = leg.router.uid.clone();
        let end = |name, addresses| Port { name, bridge: None, mtu: MTU, alias: alias.clone(), addresses, mac: None };
        changes.extend(inside.ensure_port(&end(inner.clone(), None)).await.map_err(failed)?);
        let next = vec![IpNet::from(std::net::IpAddr::V4(NEXT))];
        changes.extend(outside.links.ensure_port(&end(outer.clone(), Some(next))).await.map_err(failed)?);
        let step = "let the way out pass on";
        let passing = [
            ensure_passing_on(&namespace, &inner).await.map_err(|source| netns_failed(step, source))?,
            ensure_forwarding(&outside.namespace, &outer).await.map_err(|source| netns_failed(step, source))?,
        ];
        for passing in passing {
            let changed = passing.map_err(|source| Error::Host {
                step: step.to_owned(),
                category: "LinkFailed",
                retry: true,
                source: source.into(),
            })?;
            let message = || format!("let the way out of router {} pass on", leg.router.name);
            changes.extend(changed.then(|| Change::new("RoutingChanged", message())));
        }
        if let Some(left) = self.tenure.left(Instant::now()) {
            changes.extend(inside.ensure_leased(&inner, way.address.into(), left).await.map_err(failed)?);
            let out = [
                Route { destination: NEXT.into(), via: None },
                Route { destination: Ipv4Net::default(), via: Some(NEXT) },
            ];
            changes.extend(inside.ensure_routes(&inner, &out).await.map_err(failed)?);
            changes.extend(outside.links.ensure_routes(&outer, &way.led_in()).await.map_err(failed)?);
        }
        Ok(changes)
    }

    async fn write_way_out(&self, leg: &Leg, way: &WayOut) -> Result<Vec<Change>, Error> {
        let dir = self.layout.router(&leg.router.uid);
        let before: Option<Stands> = layout::recall(&dir, WAY);
        if before.is_none() {
            // Whoever finds the file knows that there may be something to remove.
            layout::note(&dir, WAY, &Stands::default())?;
        }
        let before = before.unwrap_or_default();
        let mut stands = before.clone();
        let wanted = Outside {
            link: link(&way.inner)?,
            address: way.address,
            floating: way.floating.clone(),
            inside: way.inside.clone(),
        };
        let done = outside::ensure(&self.place_of(&leg.netns, &way.table)?, &wanted, &mut stands).await;
        let done = done.map_err(|source| nft_failed("translate on the way out", source))?;
        if stands != before {
            layout::note(&dir, WAY, &stands)?;
        }
        Ok(done.into_iter().collect())
    }

    async fn take_way_out(&self, leg: &Leg) -> Result<Vec<Change>, Error> {
        let uid = &leg.router.uid;
        let (_, inside) = self.door_of(&leg.netns)?;
        // Both ends go, and the routes outside with theirs.
        let gone = inside.delete(&link(&names::way_out(uid))?).await;
        let gone = gone.map_err(|source| link_failed("take the way out away", source))?;
        let removed = outside::remove(&self.place_of(&leg.netns, &names::translation(uid))?).await;
        removed.map_err(|source| nft_failed("take the way out away", source))?;
        layout::forget(&self.layout.router(uid), WAY)?;
        Ok(gone.into_iter().collect())
    }

    fn place_of(&self, netns: &str, table: &str) -> Result<Place, Error> {
        let (namespace, _) = self.door_of(netns)?;
        self.filter_in(namespace, table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floating_addresses_are_behind_the_routers_own() {
        let router: Router = serde_json::from_value(json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
            "metadata": {"name": "r", "namespace": "t", "uid": "cccccccc-1111-4333-8444-555555555555"},
            "spec": {"networks": ["n"]},
            "status": {"interfaces": [{"network": "n", "port": "p", "address": "10.1.0.2", "ranges": ["10.1.0.0/24"]}],
                "staticRoutes": [{"destination": "10.9.0.0/16", "nextHop": "10.1.0.7"}],
                "external": {"network": "x", "address": "203.0.113.7",
                    "floating": [{"address": "203.0.113.20", "serviceIP": "s", "target": "10.1.0.5"}]}},
        }))
        .unwrap();
        let way = WayOut::of(&Names::new("test", "host0"), &router, router.status.as_ref().unwrap()).unwrap();
        let told = |route: &Route| (route.destination.to_string(), route.via.map(|via| via.to_string()));
        let led: Vec<_> = way.led_in().iter().map(told).collect();
        let via = Some("203.0.113.7".to_owned());
        assert_eq!(led, [("203.0.113.7/32".to_owned(), None), ("203.0.113.20/32".to_owned(), via)]);
        assert_eq!(way.inside.len(), 2, "what is behind somebody inside is inside");
    }
}
