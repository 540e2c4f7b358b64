//! What there is to balance, in words that cannot hold anything else.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::link::{LinkName, Mac};

/// All services of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// The services.
    pub services: Vec<Service>,
    /// Backends that are guests here, with their links: they may reach themselves.
    pub here: Vec<(LinkName, Ipv4Addr)>,
    /// The network's own address.
    pub gateway: Ipv4Addr,
    /// Its ranges, with at most 2^26 addresses together.
    pub subnets: Vec<Ipv4Net>,
    /// A process here that speaks to backends under its clients' addresses (see [`crate::proxy`]).
    pub proxy: Option<Proxied>,
}

impl Balancer {
    /// A number of an address of the network, each range's after those of the one before. The bits of a mark above them have other
    /// meanings.
    pub(super) fn number(&self, address: Ipv4Addr) -> u32 {
        let mut before = 0_u32;
        for subnet in &self.subnets {
            let hosts = u32::from(subnet.hostmask());
            if subnet.contains(&address) {
                return before.saturating_add(u32::from(address) & hosts);
            }
            before = before.saturating_add(hosts).saturating_add(1);
        }
        before
    }
}

/// What it takes to give such a process its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Hardware address of the bridge.
    pub mac: Mac,
    /// All addresses of the bridge: what is sent from another one is sent under a client's.
    pub own: Vec<Ipv4Addr>,
}

/// One port of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Whose.
    pub id: ServiceId,
    /// What is spoken.
    pub protocol: Protocol,
    /// Address that is spoken to.
    pub address: Ipv4Addr,
    /// Port that is spoken to.
    pub port: u16,
    /// Port of the backends.
    pub target_port: u16,
    /// Who gets new connections.
    pub backends: Vec<Backend>,
    /// Seconds for which a client's address is remembered; not at all when none.
    pub affinity: Option<u32>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its share, above zero.
    pub weight: u32,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    pub(super) fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// A service's mark: twelve hexadecimal digits of a digest, whatever its owner calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId([u8; 6]);

impl ServiceId {
    /// The mark of that port of whoever has that UID.
    pub fn of(owner: &str, protocol: Protocol, port: u16) -> ServiceId {
        let digest = Sha256::digest(format!("{owner}/{}/{port}", protocol.word()));
        ServiceId([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5]])
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
