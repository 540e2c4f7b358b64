//! Routing between a network's own subnets, at the bridge of the sender's host.
//!
//! Both ranges are directly at the bridge, so the kernel's own routes suffice: it only has to be allowed to pass on. Whoever is
//! elsewhere has a written neighbour entry, which leads to the tunnel as if a guest here had sent. What is allowed for one network's
//! bridge has no way out of the network: the namespace has no other link with an address, and no default route.

use host::link::{Change, LinkName, ensure_passing_on};
use host::netns::Namespace;

use super::error::Error;
use super::hands::netns_failed;
use super::plan::Wanted;

/// Lets the bridge route when there are several subnets. It is not taken back: subnets do not go, and load balancers need the same.
pub(super) async fn route_between(
    namespace: &Namespace,
    bridge: &LinkName,
    wanted: &Wanted,
) -> Result<Option<Change>, Error> {
    if !wanted.subnets.are_several() {
        return Ok(None);
    }
    let step = "let the bridge route";
    let changed = ensure_passing_on(namespace, bridge).await.map_err(|source| netns_failed(step, source))?;
    let changed = changed.map_err(|source| Error::Host {
        step: step.to_owned(),
        category: "LinkFailed",
        retry: true,
        source: source.into(),
    })?;
    Ok(changed.then(|| Change::new("RoutingChanged", format!("let bridge {bridge} route between the subnets"))))
}
