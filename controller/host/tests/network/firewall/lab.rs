//! A network over two hosts whose guests speak with real sockets.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::firewall::{
    self, Access, Direction, Group, GroupId, Guest, Place, Policy, Rate, Remote, Rule, Stands, Traffic, Transport,
};
use host::link::Changes;
use host::netns;

use crate::lab::{DEADLINE, Room};
use crate::overlay::lab::{Hosts, Network, name};

/// How long is waited for what must not come.
pub const NEVER: Duration = Duration::from_millis(300);

pub fn address(number: u8) -> Ipv4Addr {
    [10, 1, 0, number].into()
}

pub fn id(of: &str) -> GroupId {
    GroupId::of_owner(of)
}

pub fn ingress(traffic: Traffic, remote: Remote) -> Rule {
    Rule { direction: Direction::Ingress, traffic, remote }
}

pub fn egress(traffic: Traffic, remote: Remote) -> Rule {
    Rule { direction: Direction::Egress, traffic, remote }
}

pub fn tcp(port: u16) -> Traffic {
    Traffic::Ports(Transport::Tcp, port, port)
}

pub fn udp(port: u16) -> Traffic {
    Traffic::Ports(Transport::Udp, port, port)
}

/// A network over two hosts: 11 and 12 on the first, 13 on the second.
pub struct Lab {
    _hosts: Hosts,
    pub network: Network,
    guests: Vec<Room>,
    pub stands: [Stands; 2],
    pub groups: Vec<Group>,
    /// Of everybody who is placed.
    pub rate: Rate,
    /// Guest and its groups.
    pub placed: Vec<(u8, Access)>,
}

impl Lab {
    pub async fn new(vni: u32) -> Lab {
        let hosts = Hosts::new(2).await;
        let mut network = Network::new(&hosts, vni).await;
        let guests = vec![network.guest(11, 0).await, network.guest(12, 0).await, network.guest(13, 1).await];
        network.ensure(&hosts).await;
        Lab {
            _hosts: hosts,
            network,
            guests,
            stands: Default::default(),
            groups: Vec::new(),
            rate: Rate::default(),
            placed: Vec::new(),
        }
    }

    pub fn room(&self, number: u8) -> &Room {
        &self.guests[usize::from(number - 11)]
    }

    pub fn place(&self, host: usize) -> Place {
        let program = process::find_program("nft", "CLUSTERCTL_NFT").unwrap();
        Place { namespace: self.network.cells[host].namespace.clone(), program, table: name("fw1") }
    }

    /// The group with these rules; its members follow from who is in it.
    pub fn group(&mut self, of: &str, rules: Vec<Rule>) {
        self.groups.retain(|group| group.id != id(of));
        self.groups.push(Group { id: id(of), rules, members: BTreeSet::new() });
    }

    pub fn put(&mut self, number: u8, groups: &[&str]) {
        self.placed.retain(|(other, _)| *other != number);
        self.placed.push((number, Access::Groups(groups.iter().map(|of| id(of)).collect())));
    }

    pub fn policy(&self, host: usize) -> Policy {
        let guest = |(number, access): &(u8, Access)| Guest {
            tap: name(&format!("g{number}")),
            access: access.clone(),
            rate: self.rate,
        };
        let here = |(number, _): &&(u8, _)| usize::from(*number == 13) == host;
        let mut groups = self.groups.clone();
        for group in &mut groups {
            let of_it = self
                .placed
                .iter()
                .filter(|(_, groups)| matches!(groups, Access::Groups(all) if all.contains(&group.id)));
            group.members.extend(of_it.map(|(number, _)| IpAddr::from(address(*number))));
        }
        let guests = self.placed.iter().filter(here).map(guest).collect();
        Policy { guests, groups, gateways: vec![address(1)], six: false, stateful: true, complete: true }
    }

    pub async fn ensure(&mut self) -> [Changes; 2] {
        let mut all = <[Changes; 2]>::default();
        for (host, changes) in all.iter_mut().enumerate() {
            let policy = self.policy(host);
            *changes = firewall::ensure(&self.place(host), &policy, &mut self.stands[host]).await.unwrap();
        }
        all
    }

    pub async fn listen(&self, number: u8, port: u16) -> TcpListener {
        let at = SocketAddr::from((address(number), port));
        netns::enter(&self.room(number).namespace, move || TcpListener::bind(at)).await.unwrap().unwrap()
    }

    /// A connection that must come about.
    pub async fn connect(&self, from: u8, to: u8, port: u16) -> TcpStream {
        self.attempt(from, to, port, DEADLINE).await.unwrap()
    }

    /// Whether nothing comes back of an attempt that must not succeed.
    pub async fn is_dropped(&self, from: u8, to: u8, port: u16) -> bool {
        self.attempt(from, to, port, NEVER).await.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    pub async fn attempt(&self, from: u8, to: u8, port: u16, time: Duration) -> io::Result<TcpStream> {
        let at = SocketAddr::from((address(to), port));
        netns::enter(&self.room(from).namespace, move || TcpStream::connect_timeout(&at, time)).await.unwrap()
    }

    pub async fn udp(&self, number: u8, port: u16) -> UdpSocket {
        udp_at(self.room(number), address(number), port).await
    }
}

pub async fn udp_at(room: &Room, at: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = netns::enter(&room.namespace, move || UdpSocket::bind((at, port))).await.unwrap().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket
}

/// Whether a datagram comes.
pub fn comes(from: &UdpSocket, to: &UdpSocket, size: usize) -> bool {
    arrives(from, to, size, DEADLINE)
}

/// Whether none does.
pub fn stays_away(from: &UdpSocket, to: &UdpSocket) -> bool {
    !arrives(from, to, 10, NEVER)
}

pub fn arrives(from: &UdpSocket, to: &UdpSocket, size: usize, time: Duration) -> bool {
    to.set_read_timeout(Some(time)).unwrap();
    from.send_to(&vec![7; size], to.local_addr().unwrap()).unwrap();
    to.recv_from(&mut [0; 8192]).is_ok_and(|(length, _)| length == size)
}

/// Whether a byte comes from one end of a connection to the other within the deadline.
pub fn speaks(from: &mut TcpStream, to: &mut TcpStream, deadline: Duration) -> bool {
    from.write_all(b"x").unwrap();
    to.set_read_timeout(Some(deadline)).unwrap();
    to.read_exact(&mut [0]).is_ok()
}

pub fn reasons(changes: &Changes) -> Vec<&str> {
    changes.iter().map(|change| change.reason).collect()
}
