//! Tunnels: the port through which a bridge reaches the same network's bridges on other hosts.
//!
//! A tunnel is made from the underlay's namespace straight into the network's: its frames travel where its maker stands,
//! and the network sees nothing of the way. No default destination and no learning: it carries a frame only to a host
//! that [`Links::ensure_peers`] named for the frame's address. So the bridge is told, too, never to flood into it, and to
//! answer questions for addresses itself ("neighbour suppression"): nothing addressed to all ever crosses.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use futures::{StreamExt, TryStreamExt};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkBridgePort, LinkVxlan};

use super::observe::{failure, is_absent};
use super::{Change, Changes, LinkName, Links, Port, Result};
use crate::netns::Namespace;

/// Where tunnels listen (RFC 7348 §4.1 and IANA's register).
pub const VXLAN_PORT: u16 = 4789;
/// What the outer headers take from each packet: Ethernet, IPv4, UDP and VXLAN.
pub const VXLAN_OVERHEAD: u32 = 50;

/// A tunnel as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Its name.
    pub name: LinkName,
    /// The network's identifier, the same on every host: 24 bits.
    pub vni: u32,
    /// This host's address on the underlay.
    pub local: Ipv4Addr,
    /// Bridge it is a port of.
    pub bridge: LinkName,
    /// Largest packet, as of the bridge.
    pub mtu: u32,
    /// Owner's UID.
    pub alias: String,
}

/// A link that carries the tunnel's name.
#[derive(Debug, Default)]
struct Found {
    index: u32,
    is_vxlan: bool,
    vni: Option<u32>,
    local: Option<Ipv4Addr>,
    port: Option<u16>,
    learns: bool,
    /// Settings of a port of a bridge that differ from [`QUIET`], counted with those that are missing.
    loud: bool,
}

/// What a bridge does by itself with a port, all of it off, and the answering that is on.
const QUIET: [InfoBridgePort; 5] = [
    InfoBridgePort::Learning(false),
    InfoBridgePort::UnicastFlood(false),
    InfoBridgePort::MulticastFlood(false),
    InfoBridgePort::BroadcastFlood(false),
    InfoBridgePort::NeighSupress(true),
];

impl Found {
    /// Whether nothing is wrong that only making it anew sets right.
    fn is(&self, wanted: &Vxlan) -> bool {
        self.is_vxlan
            && self.vni == Some(wanted.vni)
            && self.local == Some(wanted.local)
            && self.port == Some(VXLAN_PORT)
            && !self.learns
    }
}

impl Links {
    /// Makes the tunnel be there, quiet and connected to its bridge. `underlay` is the door to the namespace its frames
    /// travel in, `namespace` the one that this door leads to.
    ///
    /// # Errors
    /// The kernel's; also while a tunnel of the same identifier is about to go with its namespace.
    pub async fn ensure_vxlan(&self, underlay: &Links, namespace: &Namespace, vxlan: &Vxlan) -> Result<Changes> {
        let mut changes = Changes::default();
        let name = &vxlan.name;
        let found = self.tunnel(name).await?;
        if let Some(other) = found.as_ref().filter(|found| !found.is(vxlan)) {
            self.delete_index(name, other.index).await?;
            changes.push(Change::new("LinkDeleted", format!("deleted link {name}, which was another tunnel")));
        }
        if found.is_none() || !changes.is_empty() {
            underlay.create_vxlan(namespace, vxlan).await?;
            changes.push(Change::new("LinkCreated", format!("made tunnel {name}")));
        }
        let port = Port {
            name: name.clone(),
            bridge: Some(vxlan.bridge.clone()),
            mtu: vxlan.mtu,
            alias: vxlan.alias.clone(),
            addresses: None,
            mac: None,
        };
        changes.extend(self.ensure_port(&port).await?);
        // Only now, for a port that leaves its bridge forgets its settings.
        if let Some(loud) = self.tunnel(name).await?.filter(|found| found.loud) {
            let message =
                QUIET.into_iter().fold(LinkBridgePort::new(loud.index), |port, one| port.append_info_data(one));
            let done = self.handle.link().set_port(message.build()).execute().await;
            done.map_err(|error| failure("silence", name.as_str(), error))?;
            changes.push(Change::new("LinkChanged", format!("set link {name} to flood and learn nothing")));
        }
        Ok(changes)
    }

    async fn create_vxlan(&self, namespace: &Namespace, vxlan: &Vxlan) -> Result<()> {
        // In one step, so that a crash leaves no tunnel in the underlay.
        let message = LinkVxlan::new(vxlan.name.as_str(), vxlan.vni)
            .local(vxlan.local)
            .port(VXLAN_PORT)
            .learning(false)
            .mtu(vxlan.mtu)
            .setns_by_fd(namespace.as_fd().as_raw_fd());
        let made = self.handle.link().add(message.build()).execute().await;
        made.map_err(|error| failure("make", vxlan.name.as_str(), error))
    }

    async fn tunnel(&self, name: &LinkName) -> Result<Option<Found>> {
        let mut replies = self.handle.link().get().match_name(name.as_str()).execute().boxed();
        match replies.try_next().await {
            Ok(message) => Ok(message.as_ref().map(to_found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failure("look up", name.as_str(), error)),
        }
    }
}

fn to_found(message: &LinkMessage) -> Found {
    let mut found = Found { index: message.header.index, loud: true, ..Found::default() };
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    for info in infos.flatten() {
        match info {
            LinkInfo::Kind(kind) => found.is_vxlan = *kind == InfoKind::Vxlan,
            LinkInfo::Data(InfoData::Vxlan(data)) => data.iter().for_each(|one| match one {
                InfoVxlan::Id(vni) => found.vni = Some(*vni),
                InfoVxlan::Local(address) => found.local = Some(*address),
                InfoVxlan::Port(port) => found.port = Some(*port),
                InfoVxlan::Learning(learns) => found.learns = *learns,
                _ => {}
            }),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)) => {
                found.loud = !QUIET.iter().all(|quiet| settings.contains(quiet));
            }
            _ => {}
        }
    }
    found
}
