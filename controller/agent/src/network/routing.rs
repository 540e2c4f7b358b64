//! Routing at the bridge of the sender's host: between a network's own subnets, and to the routers that lead to other networks.
//!
//! Both ranges are directly at the bridge, so the kernel's own routes suffice: it only has to be allowed to pass on. Whoever is
//! elsewhere has a written neighbour entry, which leads to the tunnel as if a guest here had sent. What is allowed for one network's
//! bridge has no way out of the network: the namespace has no other link with an address, and no routes but those to routers, which
//! are on the network, too.
//!
//! Where guests have IPv6 the bridge is a router to them even when there is one range only: they know it by its link-local address, and
//! forget a router that does not call itself one.

use std::io;

use host::link::{Change, LinkName, Links, ensure_no_own_addresses, ensure_passing_on, ensure_router};
use host::netns::{self, Namespace};

use super::error::Error;
use super::hands::{link_failed, netns_failed};
use super::plan::Wanted;

const STEP: &str = "let the bridge route";

/// Makes the bridge the only link with IPv6, before it is there.
pub(super) async fn prepare_six(namespace: &Namespace, wanted: &Wanted) -> Result<(), Error> {
    if wanted.subnets.have_six() {
        done(ensure_no_own_addresses(namespace).await)?;
    }
    Ok(())
}

/// Leads to other networks, exactly as routers say.
pub(super) async fn lead_on(links: &Links, bridge: &LinkName, wanted: &Wanted) -> Result<Vec<Change>, Error> {
    let done = links.ensure_routes(bridge, &wanted.routing.routes).await;
    Ok(done.map_err(|source| link_failed("set the routes to other networks", source))?.into_iter().collect())
}

/// Lets the bridge route when there are several subnets, other networks, or IPv6. It is not taken back: subnets do not go, load balancers
/// need the same, and where no route leads nothing is passed on to.
pub(super) async fn route_between(
    namespace: &Namespace,
    bridge: &LinkName,
    wanted: &Wanted,
) -> Result<Option<Change>, Error> {
    let mut changed = false;
    if wanted.subnets.are_several() || !wanted.routing.routes.is_empty() {
        changed |= done(ensure_passing_on(namespace, bridge).await)?;
    }
    if wanted.subnets.have_six() {
        changed |= done(ensure_router(namespace, bridge).await)?;
    }
    Ok(changed.then(|| Change::new("RoutingChanged", format!("let bridge {bridge} route between the subnets"))))
}

fn done(changed: netns::Result<io::Result<bool>>) -> Result<bool, Error> {
    changed.map_err(|source| netns_failed(STEP, source))?.map_err(|source| Error::Host {
        step: STEP.to_owned(),
        category: "LinkFailed",
        retry: true,
        source: source.into(),
    })
}
