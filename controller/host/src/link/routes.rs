//! Routes by a link that we make: exactly those that are wanted, and nobody else's touched.
//!
//! Ours carry a protocol number of their own, so what the kernel makes with an address, or somebody by hand, is told from them. With
//! a link's last address the kernel drops all its routes; they are made anew with the next.

use std::net::Ipv4Addr;

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::RouteMessageBuilder;

use super::observe::failure;
use super::{Change, Changes, LinkName, Links, Result};

/// Who made a route: a number that nothing in `rt_protos` stands for.
const OURS: RouteProtocol = RouteProtocol::Other(0x70);

/// Where a range is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The range.
    pub destination: Ipv4Net,
    /// Who passes on what is sent there; none when it is right at the link.
    pub via: Option<Ipv4Addr>,
}

impl Links {
    /// Makes exactly these of our routes lead out by the link. Whoever they lead to has to be in reach of the link's addresses, or of
    /// a route without `via` that stands before.
    ///
    /// # Errors
    /// The kernel's, and that there is no such link.
    pub async fn ensure_routes(&self, link: &LinkName, wanted: &[Route]) -> Result<Changes> {
        let mut changes = Changes::default();
        let index = self.index_of(link.as_str()).await?;
        let failed = |action: &'static str| move |error| failure(action, link.as_str(), error);
        let mut ask = RouteMessage::default();
        ask.header.address_family = AddressFamily::Inet;
        let listed: Vec<RouteMessage> =
            self.handle.route().get(ask).execute().try_collect().await.map_err(failed("list the routes of"))?;
        let mut found = Vec::new();
        for message in listed {
            let Some(route) = ours_by(&message, index) else { continue };
            if wanted.contains(&route) {
                found.push(route);
                continue;
            }
            self.handle.route().del(message).execute().await.map_err(failed("remove a route by"))?;
            changes.push(Change::new("RouteChanged", format!("removed the route to {}", route.destination)));
        }
        for route in wanted.iter().filter(|route| !found.contains(route)) {
            let message = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).protocol(OURS);
            let message = message.destination_prefix(route.destination.addr(), route.destination.prefix_len());
            let message = match route.via {
                Some(via) => message.gateway(via),
                None => message.scope(RouteScope::Link),
            };
            // In place of what somebody else has put there for the same range.
            let added = self.handle.route().add(message.build()).replace().execute().await;
            added.map_err(failed("add a route by"))?;
            changes.push(Change::new("RouteChanged", format!("added the route to {}", route.destination)));
        }
        Ok(changes)
    }
}

/// The route, when we made it and it leads out by that link.
fn ours_by(message: &RouteMessage, link: u32) -> Option<Route> {
    let (mut by, mut to, mut via) = (None, Ipv4Addr::UNSPECIFIED, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => by = Some(*index),
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(to, message.header.destination_prefix_length).ok()?;
    (message.header.protocol == OURS && by == Some(link)).then_some(Route { destination, via })
}
