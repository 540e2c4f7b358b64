//! Where frames for machines on other hosts go, and what the bridge answers in their stead.
//!
//! For each machine elsewhere ("peer") there are three entries, in three tables of the kernel:
//!
//! ```text
//!  tunnel's forwarding table    MAC ──► the other host's address on the underlay
//!  bridge's forwarding table    MAC ──► the tunnel; sticky, so that no guest here can draw the address to itself
//!  bridge's neighbour table     IP  ──► MAC, with which the bridge answers its own guests' questions
//! ```
//!
//! The tables are compared with what is wanted and changed by element: one machine more among thousands is three
//! messages. What is in them by hand (or left by us) and not wanted goes; what the kernel learned of guests here stays.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::observe::failure;
use super::{Change, Changes, LinkName, Links, Mac, Result};

const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// A machine of the same network on another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Hardware address of its card.
    pub mac: Mac,
    /// Its address in the network.
    pub address: IpAddr,
    /// Its host's address on the underlay.
    pub host: Ipv4Addr,
}

/// One entry of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Entry {
    /// Of the tunnel; without a destination when it has none that we would write.
    Tunnel(Mac, Option<Ipv4Addr>),
    /// Of the bridge, on the tunnel's port; whether it is sticky.
    Port(Mac, bool),
    /// Of the bridge's neighbours.
    Neighbour(IpAddr, Mac),
}

impl Entry {
    /// What tells entries of one table apart: writing an entry replaces the one with the same key.
    fn key(&self) -> (u8, u128) {
        let number = |mac: &Mac| mac.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        match self {
            Entry::Tunnel(mac, _) => (0, number(mac)),
            Entry::Port(mac, _) => (1, number(mac)),
            Entry::Neighbour(IpAddr::V4(address), _) => (2, u32::from(*address).into()),
            Entry::Neighbour(IpAddr::V6(address), _) => (3, u128::from(*address)),
        }
    }
}

/// What there is to do, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    remove: Vec<Entry>,
    write: Vec<Entry>,
}

fn plan(peers: &[Peer], found: &HashSet<Entry>) -> Plan {
    let wanted: HashSet<Entry> = peers.iter().flat_map(entries).collect();
    let write: Vec<Entry> = wanted.difference(found).copied().collect();
    let replaced: HashSet<(u8, u128)> = write.iter().map(Entry::key).collect();
    let remove = found.difference(&wanted).filter(|entry| !replaced.contains(&entry.key())).copied().collect();
    Plan { remove, write }
}

fn entries(peer: &Peer) -> [Entry; 3] {
    [Entry::Tunnel(peer.mac, Some(peer.host)), Entry::Port(peer.mac, true), Entry::Neighbour(peer.address, peer.mac)]
}

impl Links {
    /// Makes the three tables hold exactly these peers; of peers with one address the caller has chosen one. Without a
    /// tunnel there is only the neighbour table to empty.
    ///
    /// # Errors
    /// The kernel's; the bridge must be there.
    pub async fn ensure_peers(&self, tunnel: &LinkName, bridge: &LinkName, peers: &[Peer]) -> Result<Changes> {
        let bridge_index = self.index_of(bridge.as_str()).await?;
        let tunnel_index = self.find(tunnel.as_str()).await?.map(|link| link.index);
        let mut found = self.neighbours(bridge, bridge_index).await?;
        if let Some(index) = tunnel_index {
            found.extend(self.forwarding(tunnel, index).await?);
        }
        let plan = plan(peers, &found);
        let place = |entry: &Entry| match entry {
            Entry::Neighbour(..) => Some(bridge_index),
            Entry::Tunnel(..) | Entry::Port(..) => tunnel_index,
        };
        for entry in &plan.remove {
            if let Some(index) = place(entry) {
                self.remove_entry(tunnel, index, entry).await?;
            }
        }
        for entry in &plan.write {
            match place(entry) {
                Some(index) => self.write_entry(tunnel, index, entry).await?,
                None => return Err(super::Error::NotFound { name: tunnel.to_string() }),
            }
        }
        Ok(match plan == Plan::default() {
            true => Changes::default(),
            false => {
                let (written, removed) = (plan.write.len(), plan.remove.len());
                let message = format!("entries for other hosts at {tunnel}: {written} written, {removed} removed");
                Change::new("PeersChanged", message).into()
            }
        })
    }

    async fn forwarding(&self, tunnel: &LinkName, index: u32) -> Result<HashSet<Entry>> {
        let messages = self.dump(tunnel, AddressFamily::Bridge, index).await?;
        Ok(messages.iter().filter(|message| message.header.ifindex == index).filter_map(to_forwarding).collect())
    }

    async fn neighbours(&self, bridge: &LinkName, index: u32) -> Result<HashSet<Entry>> {
        let mut messages = self.dump(bridge, AddressFamily::Inet, index).await?;
        messages.extend(self.dump(bridge, AddressFamily::Inet6, index).await?);
        Ok(messages.iter().filter(|message| message.header.ifindex == index).filter_map(to_neighbour).collect())
    }

    async fn dump(&self, name: &LinkName, family: AddressFamily, index: u32) -> Result<Vec<NeighbourMessage>> {
        let mut request = self.handle.neighbours().get().set_address_family(family);
        request.message_mut().attributes.push(NeighbourAttribute::IfIndex(index));
        let all = request.execute().try_collect().await;
        all.map_err(|error| failure("list the neighbours of", name.as_str(), error))
    }

    async fn write_entry(&self, tunnel: &LinkName, index: u32, entry: &Entry) -> Result<()> {
        let table = self.handle.neighbours();
        let request = match entry {
            Entry::Tunnel(mac, to) => {
                let request = table.add_bridge(index, mac).flags(NeighbourFlags::Own);
                match to {
                    Some(host) => request.destination((*host).into()),
                    None => request,
                }
            }
            Entry::Port(mac, _) => table
                .add_bridge(index, mac)
                .flags(NeighbourFlags::Controller | NeighbourFlags::Sticky)
                .state(NeighbourState::Noarp),
            Entry::Neighbour(address, mac) => table.add(index, *address).link_layer_address(mac),
        };
        let done = request.replace().execute().await;
        done.map_err(|error| failure(&format!("write {entry:?} at"), tunnel.as_str(), error))
    }

    async fn remove_entry(&self, tunnel: &LinkName, index: u32, entry: &Entry) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = index;
        message.header.family = AddressFamily::Bridge;
        match entry {
            Entry::Tunnel(mac, to) => {
                message.header.flags = NeighbourFlags::Own;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
                message.attributes.extend(to.map(|host| NeighbourAttribute::Destination(host.into())));
            }
            Entry::Port(mac, _) => {
                message.header.flags = NeighbourFlags::Controller;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
            }
            Entry::Neighbour(address, _) => {
                message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
                message.attributes.push(NeighbourAttribute::Destination((*address).into()));
            }
        }
        match self.handle.neighbours().del(message).execute().await {
            Err(error) if !was_gone(&error) => Err(failure(&format!("remove {entry:?} at"), tunnel.as_str(), error)),
            _ => Ok(()),
        }
    }
}

fn was_gone(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            message.to_io().raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error())
        }
        _ => false,
    }
}

fn mac_of(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

fn destination_of(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        // In a forwarding table, whose family is the bridge's, the address comes as bare bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from)
        }
        _ => None,
    })
}

/// An entry of the tunnel's own table, or of its bridge's; the tunnel's own hardware address is neither's.
fn to_forwarding(message: &NeighbourMessage) -> Option<Entry> {
    let mac = mac_of(message)?;
    if message.header.flags.contains(NeighbourFlags::Own) {
        let to = destination_of(message).and_then(|to| if let IpAddr::V4(host) = to { Some(host) } else { None });
        return Some(Entry::Tunnel(mac, to));
    }
    let of_bridge = message.attributes.iter().any(|one| matches!(one, NeighbourAttribute::Controller(_)));
    let sticky = message.header.flags.contains(NeighbourFlags::Sticky) && state(message) & NUD_NOARP != 0;
    (of_bridge && state(message) & NUD_PERMANENT == 0).then_some(Entry::Port(mac, sticky))
}

/// Only what was written by somebody: the rest the kernel asked its guests for.
fn to_neighbour(message: &NeighbourMessage) -> Option<Entry> {
    let written = state(message) & NUD_PERMANENT != 0;
    written.then_some(Entry::Neighbour(destination_of(message)?, mac_of(message)?))
}

fn state(message: &NeighbourMessage) -> u16 {
    message.header.state.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(number: u8, host: u8) -> Peer {
        Peer {
            mac: [2, 0, 0, 0, 0, number],
            address: IpAddr::from([10, 0, 0, number]),
            host: Ipv4Addr::new(100, 64, 0, host),
        }
    }

    fn of(peers: &[Peer]) -> HashSet<Entry> {
        peers.iter().flat_map(entries).collect()
    }

    #[test]
    fn converged_tables_need_nothing_and_one_more_peer_three_entries() {
        let many: Vec<Peer> = (0..100).map(|number| peer(number, 1)).collect();
        assert_eq!(plan(&many, &of(&many)), Plan::default());
        let step = plan(&many, &of(&many[1..]));
        assert_eq!((step.write.len(), step.remove.len()), (3, 0));
    }

    #[test]
    fn an_address_of_ipv6_is_one_entry_more() {
        let (four, six) = (peer(7, 1), Peer { address: "fd00::7".parse().unwrap(), ..peer(7, 1) });
        let step = plan(&[four, six], &of(&[four]));
        assert_eq!((step.write, step.remove.len()), (vec![Entry::Neighbour(six.address, six.mac)], 0));
        let back = plan(&[four], &of(&[four, six]));
        assert_eq!((back.remove, back.write.len()), (vec![Entry::Neighbour(six.address, six.mac)], 0));
    }

    #[test]
    fn a_peer_that_moved_is_one_entry_replaced_with_no_gap() {
        let step = plan(&[peer(7, 2)], &of(&[peer(7, 1)]));
        assert_eq!(step.write, [Entry::Tunnel(peer(7, 2).mac, Some(peer(7, 2).host))]);
        assert_eq!(step.remove, []);
    }

    proptest! {
        #[test]
        fn whatever_was_there_one_round_leaves_exactly_the_peers(
            wanted in proptest::collection::hash_map(0u8..20, 1u8..4, 0..12),
            before in proptest::collection::hash_map(0u8..20, 1u8..4, 0..12),
            stray in proptest::collection::hash_set(0u8..20, 0..4),
        ) {
            let wanted: Vec<Peer> = wanted.into_iter().map(|(number, host)| peer(number, host)).collect();
            let before: Vec<Peer> = before.into_iter().map(|(number, host)| peer(number, host)).collect();
            let mut tables = of(&before);
            for number in stray {
                let entry = Entry::Port(peer(number, 1).mac, false);
                tables.retain(|other| other.key() != entry.key());
                tables.insert(entry);
            }
            let step = plan(&wanted, &tables);
            tables.retain(|entry| !step.remove.contains(entry));
            for entry in &step.write {
                tables.retain(|other| other.key() != entry.key());
                tables.insert(*entry);
            }
            prop_assert_eq!(&tables, &of(&wanted));
            prop_assert_eq!(plan(&wanted, &tables), Plan::default());
        }
    }
}
