//! The cables of the routers that are on this host.

use std::collections::BTreeSet;
use std::time::Instant;

use host::link::{Change, Port, Veth, ensure_passing_on};

use super::error::Error;
use super::hands::{HostHands, link_failed, netns_failed};
use super::plan::Wanted;
use super::routers::Leg;
use super::terms::link;
use crate::layout;
use crate::names;

impl HostHands {
    /// Makes the routers' places in the network be here, and no others. Those of a host whose tenure has ended are none.
    pub(super) async fn lay_legs(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        if wanted.routing.legs.is_empty() && self.layout.has_no_router() {
            // Not one question to the kernel where there is nothing to ask about.
            return Ok(Vec::new());
        }
        let _turn = self.laying.lock().await;
        let (_, links) = self.door(wanted)?;
        let failed = |source| link_failed("look for routers", source);
        let kept: BTreeSet<&str> = wanted.routing.legs.iter().map(|leg| leg.outer.as_str()).collect();
        let mut changes = Vec::new();
        let found = links.observe().await.map_err(failed)?;
        let excess = found.iter().filter(|one| names::is_leg(&one.name) && !kept.contains(one.name.as_str()));
        for name in excess.map(|one| link(&one.name)) {
            changes.extend(links.delete(&name?).await.map_err(failed)?);
        }
        for leg in &wanted.routing.legs {
            changes.extend(self.lay(wanted, leg).await?);
        }
        Ok(changes)
    }

    async fn lay(&self, wanted: &Wanted, leg: &Leg) -> Result<Vec<Change>, Error> {
        let failed = |source| link_failed("connect the router", source);
        layout::ensure_owned(&self.layout.router(&leg.router.uid), &leg.router)?;
        let mut changes: Vec<Change> = self.open(&leg.netns).await?.into_iter().collect();
        let (namespace, inside) = self.door_of(&leg.netns)?;
        let (_, links) = self.door(wanted)?;
        let (outer, inner) = (link(&leg.outer)?, link(&leg.inner)?);
        let cable = Veth { name: outer.clone(), peer: inner.clone(), peer_namespace: Some(namespace.clone()) };
        changes.extend(links.ensure_veth(&cable).await.map_err(failed)?);
        let end =
            |name, bridge, mac| Port { name, bridge, mtu: wanted.mtu, alias: leg.port.clone(), addresses: None, mac };
        let at_bridge = end(outer, Some(link(&wanted.bridge)?), None);
        changes.extend(links.ensure_port(&at_bridge).await.map_err(failed)?);
        changes.extend(inside.ensure_port(&end(inner.clone(), None, Some(leg.mac))).await.map_err(failed)?);
        let step = "let the router pass on";
        let passing = ensure_passing_on(&namespace, &inner).await.map_err(|source| netns_failed(step, source))?;
        let changed = passing.map_err(|source| Error::Host {
            step: step.to_owned(),
            category: "LinkFailed",
            retry: true,
            source: source.into(),
        })?;
        changes
            .extend(changed.then(|| Change::new("RoutingChanged", format!("let router {} pass on", leg.router.name))));
        // Without an address it has no way anywhere, and the kernel sees to it that it has none when nobody prolongs it.
        if let Some(left) = self.tenure.left(Instant::now()) {
            changes.extend(inside.ensure_leased(&inner, leg.address, left).await.map_err(failed)?);
            changes.extend(inside.ensure_routes(&inner, &leg.routes).await.map_err(failed)?);
        }
        changes.extend(self.lay_way_out(leg).await?);
        Ok(changes)
    }

    /// Removes the namespaces of routers of which no leg is here.
    pub(super) async fn forget_routers(&self, needed: &BTreeSet<String>) -> Result<(), Error> {
        let _turn = self.laying.lock().await;
        for owner in layout::owned(&self.layout.routers())?.into_iter().filter(|owner| !needed.contains(&owner.uid)) {
            let netns = self.names.cell(&owner.uid);
            self.doors.close(&netns);
            let deleted = self.namespaces.delete(&netns).await;
            deleted.map_err(|source| netns_failed("delete a router's namespace", source))?;
            layout::remove(&self.layout.router(&owner.uid))?;
        }
        Ok(())
    }
}
