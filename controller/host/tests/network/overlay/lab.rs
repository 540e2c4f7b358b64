//! Hosts that are joined, networks that span them, and guests on these.

use std::net::Ipv6Addr;
use std::time::Instant;

use host::link::{
    Bridge, Changes, LinkName, Mac, Peer, Port, VXLAN_OVERHEAD, Veth, Vxlan, ensure_no_own_addresses, ensure_router,
    stable_mac,
};
use host::tap::{Spec, Tap};
use ipnet::IpNet;

use crate::lab::{DEADLINE, Room};

pub const MTU: u32 = 1450;

pub fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// Hosts on one switch.
pub struct Hosts {
    pub underlays: Vec<Room>,
    pub switch: Room,
}

impl Hosts {
    pub async fn new(count: u8) -> Hosts {
        let switch = Room::new().await;
        let bridge =
            Bridge { name: name("switch"), addresses: Vec::new(), mtu: MTU + VXLAN_OVERHEAD, alias: "switch".into() };
        switch.links.ensure_bridge(&bridge).await.unwrap();
        let mut underlays = Vec::new();
        for host in 0..count {
            let room = Room::new().await;
            let far = name(&format!("h{host}"));
            let cable =
                Veth { name: name("uplink"), peer: far.clone(), peer_namespace: Some(switch.namespace.clone()) };
            room.links.ensure_veth(&cable).await.unwrap();
            let end = Port {
                name: name("uplink"),
                bridge: None,
                mtu: MTU + VXLAN_OVERHEAD,
                alias: "uplink".into(),
                addresses: Some(vec![IpNet::new(address(host).into(), 16).unwrap()]),
                mac: None,
            };
            room.links.ensure_port(&end).await.unwrap();
            let far = Port { name: far, bridge: Some(name("switch")), addresses: None, ..end };
            switch.links.ensure_port(&far).await.unwrap();
            underlays.push(room);
        }
        Hosts { underlays, switch }
    }
}

/// A host's address on the underlay.
pub fn address(host: u8) -> std::net::Ipv4Addr {
    [100, 64, 0, host + 1].into()
}

/// One network on every host: 10.1.0.0/24, whoever else has it.
pub struct Network {
    pub vni: u32,
    pub cells: Vec<Room>,
    /// Whether guests have IPv6, too: fd00:1::/64.
    pub six: bool,
    guests: Vec<Peer>,
}

impl Network {
    pub async fn new(hosts: &Hosts, vni: u32) -> Network {
        let mut cells = Vec::new();
        for _ in &hosts.underlays {
            let cell = Room::new().await;
            let bridge = Bridge {
                name: name("br"),
                addresses: vec!["10.1.0.1/24".parse().unwrap()],
                mtu: MTU,
                alias: format!("network-{vni}"),
            };
            cell.links.ensure_bridge(&bridge).await.unwrap();
            cells.push(cell);
        }
        let network = Network { vni, cells, six: false, guests: Vec::new() };
        network.ensure(hosts).await;
        network
    }

    pub fn tunnel(&self, host: u8) -> Vxlan {
        Vxlan {
            name: name("vx"),
            vni: self.vni,
            local: address(host),
            bridge: name("br"),
            mtu: MTU,
            alias: format!("network-{}", self.vni),
        }
    }

    pub fn gateway(&self) -> Mac {
        stable_mac(&format!("network-{}", self.vni))
    }

    /// Everybody who is not on that host.
    pub fn peers(&self, host: u8) -> Vec<Peer> {
        let there = self.guests.iter().filter(|guest| guest.host != address(host));
        let known_as = |guest: &Peer| {
            let six = [six(guest.mac[5]), link_local(guest.mac[5])].into_iter().filter(|_| self.six);
            let six: Vec<Peer> = six.map(|address| Peer { address: address.into(), ..*guest }).collect();
            [*guest].into_iter().chain(six)
        };
        there.flat_map(known_as).collect()
    }

    /// Gives the network IPv6 on every host.
    pub async fn ensure_six(&mut self) {
        self.six = true;
        for cell in &self.cells {
            ensure_no_own_addresses(&cell.namespace).await.unwrap().unwrap();
            let both = ["10.1.0.1/24", "fd00:1::1/64"].map(|text| text.parse().unwrap());
            let alias = format!("network-{}", self.vni);
            let bridge = Bridge { name: name("br"), addresses: both.to_vec(), mtu: MTU, alias };
            cell.links.ensure_bridge(&bridge).await.unwrap();
            ensure_router(&cell.namespace, &bridge.name).await.unwrap().unwrap();
            assert!(cell.links.ensure_bridge(&bridge).await.unwrap().is_empty());
            assert!(!ensure_router(&cell.namespace, &bridge.name).await.unwrap().unwrap());
        }
    }

    /// Both verbs on one host.
    pub async fn ensure_on(&self, hosts: &Hosts, host: u8) -> Changes {
        let (cell, underlay) = (&self.cells[usize::from(host)], &hosts.underlays[usize::from(host)]);
        let tunnel = self.tunnel(host);
        let mut changes = cell.links.ensure_vxlan(&underlay.links, &cell.namespace, &tunnel).await.unwrap();
        changes.extend(cell.links.ensure_peers(&tunnel.name, &tunnel.bridge, &self.peers(host)).await.unwrap());
        changes
    }

    pub async fn ensure(&self, hosts: &Hosts) {
        for host in 0..u8::try_from(self.cells.len()).unwrap() {
            self.ensure_on(hosts, host).await;
        }
    }

    /// Makes it known that the guest is on that host now, to be followed by [`Network::ensure`].
    pub fn place(&mut self, number: u8, host: u8) -> Peer {
        let peer = Peer { mac: mac(number), address: [10, 1, 0, number].into(), host: address(host) };
        self.guests.retain(|guest| guest.mac != peer.mac);
        self.guests.push(peer);
        peer
    }

    /// Makes it known that the guest is nowhere.
    pub fn remove(&mut self, number: u8) {
        self.guests.retain(|guest| guest.mac != mac(number));
    }

    /// A guest with a network stack: a namespace with one card.
    pub async fn guest(&mut self, number: u8, host: u8) -> Room {
        let room = Room::new().await;
        let cell = &self.cells[usize::from(host)];
        let near = name(&format!("g{number}"));
        let cable = Veth { name: near.clone(), peer: name("eth0"), peer_namespace: Some(room.namespace.clone()) };
        cell.links.ensure_veth(&cable).await.unwrap();
        let end =
            Port { name: near, bridge: Some(name("br")), mtu: MTU, alias: "guest".into(), addresses: None, mac: None };
        cell.links.ensure_port(&end).await.unwrap();
        let peer = self.place(number, host);
        let card = Port {
            name: name("eth0"),
            bridge: None,
            addresses: Some(vec![IpNet::new(peer.address, 24).unwrap()]),
            mac: Some(peer.mac),
            ..end
        };
        room.links.ensure_port(&card).await.unwrap();
        room
    }

    /// A guest that sends and receives bare frames.
    pub async fn tap(&mut self, number: u8, host: u8) -> Tap {
        let spec = Spec {
            name: name(&format!("t{number}")),
            owner_uid: 300_001,
            bridge: name("br"),
            mtu: MTU,
            alias: "guest".into(),
        };
        self.place(number, host);
        Tap::create(&self.cells[usize::from(host)].namespace, &spec).await.unwrap().0
    }

    /// Frames that left through the tunnel so far.
    pub fn sent(&self, host: u8) -> u64 {
        let counted = self.cells[usize::from(host)].shell("cat /sys/class/net/vx/statistics/tx_packets");
        counted.trim().parse().unwrap()
    }
}

/// A guest's address of IPv6.
pub fn six(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number.into())
}

/// Where its card is known on its link.
pub fn link_local(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe00, number.into())
}

/// An Ethernet type and an IPv6 packet of that protocol.
pub fn packet6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let header = [&[0x86, 0xdd, 0x60, 0, 0, 0][..], &length, &[protocol, 255], &from.octets(), &to.octets()];
    [&header.concat()[..], data].concat()
}

/// A message of neighbour discovery about an address, with more behind it.
pub fn discovery(kind: u8, target: Ipv6Addr, more: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), more].concat()
}

pub fn mac(number: u8) -> Mac {
    [0x52, 0x54, 0, 0, 0, number]
}

/// Length of the header before each frame of a tap, and an empty one.
pub const HEADER: [u8; 12] = [0; 12];

/// Sends one frame.
pub fn send(tap: &Tap, frame: &[u8]) {
    let whole = [&HEADER[..], frame].concat();
    rustix::io::write(tap, &whole).unwrap();
}

/// Frames that wait at the tap.
pub fn received(tap: &Tap) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length) = rustix::io::read(tap, &mut buffer) {
        frames.push(buffer[HEADER.len().min(length)..length].to_vec());
    }
    frames
}

/// Sends `knock` until the tap has received a frame that ends with it, so that all that was sent before is through; every
/// frame that came meanwhile.
pub async fn through(from: &Tap, to: &Tap, knock: &[u8]) -> Vec<Vec<u8>> {
    let begun = Instant::now();
    let mut all = Vec::new();
    loop {
        assert!(begun.elapsed() < DEADLINE, "nothing comes through");
        send(from, knock);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        all.extend(received(to));
        if all.iter().any(|frame| frame.ends_with(knock)) {
            return all;
        }
    }
}

/// An Ethernet type and an IPv4 datagram with it. Its header's checksum is right, or a bridge with netfilter drops it.
pub fn udp(from: [u8; 4], to: [u8; 4], ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let mut header = vec![0x45, 0];
    header.extend((length + 20).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend([from, to].concat());
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = [&[8, 0][..], &header].concat();
    for number in [ports.0, ports.1, length, 0] {
        packet.extend(number.to_be_bytes());
    }
    packet.extend(data);
    packet
}
