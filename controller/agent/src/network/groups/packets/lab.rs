//! A network on two hosts, with the tables that the agent's own way from objects to packet filter makes. The guests are
//! namespaces with one card each; a cable joins the two bridges in place of the tunnel.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crds::{Port, SecurityGroup, TenantNetwork};
use host::firewall;
use host::guard;
use host::link::{self, Bridge, Links, Veth};
use host::netns::{self, Namespace, Namespaces};
use host::nft::Place;
use ipnet::IpNet;

use super::super::super::further::settle;
use super::super::super::plan::{Wanted, samples, wanted};
use super::super::super::reach::reach;
use super::super::super::terms;
use super::super::policy;
use super::{GUESTS, TCP, UDP, address};
use crate::mac::parse_mac;
use crate::names;

const HOSTS: [&str; 2] = ["host0", "host1"];
const MTU: u32 = 1450;

/// Numbers that a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

pub fn now() -> u64 {
    let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(passed.as_millis()).unwrap()
}

pub fn network() -> TenantNetwork {
    let mut network = samples::network();
    network.status = serde_json::from_value(serde_json::json!({"vni": 10_000, "ports": 0})).ok();
    network
}

/// A namespace of one test.
pub struct Room {
    pub namespace: Namespace,
    links: Links,
}

impl Room {
    async fn new() -> Room {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-packets-{}-{:x}-{number}", std::process::id(), now());
        let (namespace, _) = Namespaces::default().ensure(&name).await.expect("this test needs root");
        let links = Links::open(&namespace).await.unwrap();
        Room { namespace, links }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", self.namespace.name()]).output();
    }
}

/// The network with its guests.
pub struct Lab {
    cells: [Room; 2],
    guests: BTreeMap<u8, Room>,
    stands: [firewall::Stands; 2],
    guards: [guard::Stands; 2],
    /// Where datagrams are heard, by guest and port.
    pub listeners: Vec<((u8, u16), UdpSocket)>,
    _listeners: Vec<TcpListener>,
}

impl Lab {
    pub async fn new() -> Lab {
        let cells = [Room::new().await, Room::new().await];
        for cell in &cells {
            let bridge = Bridge { name: name("br"), addresses: Vec::new(), mtu: MTU, alias: "net".into() };
            cell.links.ensure_bridge(&bridge).await.unwrap();
        }
        join(&cells[0], "vx0", &cells[1], "vx1").await;
        for (cell, end) in cells.iter().zip(["vx0", "vx1"]) {
            cell.links.ensure_port(&bridged(end)).await.unwrap();
        }
        let mut guests = BTreeMap::new();
        for (number, host) in GUESTS {
            guests.insert(number, guest(&cells[usize::from(host == "host1")], number).await);
        }
        let mut lab = Lab {
            cells,
            guests,
            stands: Default::default(),
            guards: Default::default(),
            listeners: Vec::new(),
            _listeners: Vec::new(),
        };
        for (number, _) in GUESTS {
            for port in UDP {
                lab.listeners.push(((number, port), lab.socket(number, port).await));
            }
            // Nobody listens on the last.
            for port in &TCP[..2] {
                let at = SocketAddr::from((address(number), *port));
                let listen = move || TcpListener::bind(at);
                lab._listeners.push(netns::enter(&lab.guest(number).namespace, listen).await.unwrap().unwrap());
            }
        }
        lab
    }

    pub fn guest(&self, number: u8) -> &Room {
        &self.guests[&number]
    }

    /// A UDP socket of a guest that never waits.
    pub async fn socket(&self, number: u8, port: u16) -> UdpSocket {
        let at = SocketAddr::from((address(number), port));
        let socket = netns::enter(&self.guest(number).namespace, move || UdpSocket::bind(at)).await.unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Makes the objects hold on both hosts.
    pub async fn ensure(&mut self, groups: &[SecurityGroup], ports: &[Port]) {
        let groups: Vec<Arc<SecurityGroup>> = groups.iter().cloned().map(Arc::new).collect();
        for (number, me) in HOSTS.into_iter().enumerate() {
            let wanted = wanted_on(me, ports);
            let (policy, _) = policy(&wanted, &groups, &Ok(())).unwrap();
            let place = |table: &str| Place {
                namespace: self.cells[number].namespace.clone(),
                program: process::find_program("nft", "CLUSTERCTL_NFT").unwrap(),
                table: name(table),
            };
            let heard: Vec<guard::Guest> =
                wanted.ports.iter().map(|port| terms::guest(port, &wanted).unwrap()).collect();
            guard::ensure(&place("pf1"), &heard, &mut self.guards[number]).await.unwrap();
            match policy {
                Some(policy) => drop(firewall::ensure(&place("fw1"), &policy, &mut self.stands[number]).await.unwrap()),
                None => firewall::remove(&place("fw1")).await.unwrap(),
            }
        }
    }
}

/// What the objects want on one of the two hosts.
fn wanted_on(me: &str, ports: &[Port]) -> Wanted {
    let all: Vec<Arc<Port>> = ports.iter().cloned().map(Arc::new).collect();
    let here: Vec<Arc<Port>> = all.iter().filter(|port| port.spec.host.as_deref() == Some(me)).cloned().collect();
    let underlay = HOSTS.into_iter().zip(1..).map(|(host, last)| (host.to_owned(), [100, 64, 0, last].into()));
    let mut wanted = wanted(&samples::names(), &network(), &here).unwrap();
    settle(&mut wanted, &all);
    wanted.reach = reach(&network(), &wanted, me, Some(all), &underlay.collect::<HashMap<_, _>>());
    wanted
}

/// A namespace with the card of the sample Port of that number, whose other end is named as its tap would be.
async fn guest(cell: &Room, number: u8) -> Room {
    let room = Room::new().await;
    let port = samples::port(number);
    let tap = names::tap(port.metadata.uid.as_deref().unwrap());
    join(cell, &tap, &room, "eth0").await;
    cell.links.ensure_port(&bridged(&tap)).await.unwrap();
    let card = link::Port {
        bridge: None,
        addresses: Some(vec![IpNet::new(address(number).into(), 24).unwrap()]),
        mac: parse_mac(port.spec.mac.as_deref().unwrap()),
        ..bridged("eth0")
    };
    room.links.ensure_port(&card).await.unwrap();
    room
}

async fn join(one: &Room, near: &str, other: &Room, far: &str) {
    let peer_namespace = Some(other.namespace.clone());
    one.links.ensure_veth(&Veth { name: name(near), peer: name(far), peer_namespace }).await.unwrap();
}

fn bridged(end: &str) -> link::Port {
    link::Port { name: name(end), bridge: Some(name("br")), mtu: MTU, alias: "end".into(), addresses: None, mac: None }
}

fn name(text: &str) -> link::LinkName {
    text.parse().unwrap()
}
