//! A network's range, its own address, and who has which of the others: what the network, its Ports and its ServiceIPs are
//! judged by. Pure, but for the lock under which addresses are given.

use crds::{Port, ServiceIP, TenantNetwork, condition};
use ipnet::Ipv4Net;
use kube::ResourceExt;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Held from reading who has which address until a new holder is written: Ports and ServiceIPs share their network's range, and
/// each has a reconciler of its own.
pub type Giving = Arc<tokio::sync::Mutex<()>>;

/// Why an object has no address.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// PascalCase cause.
    pub reason: &'static str,
    /// Sentence with the field.
    pub message: String,
}

impl Problem {
    /// The network does not exist.
    pub fn network_not_found(name: &str) -> Self {
        Self {
            reason: "NetworkNotFound",
            message: format!("spec.network: TenantNetwork {name} does not exist; create it"),
        }
    }

    /// The network has no valid subnet.
    pub fn invalid_network(name: &str, text: &str) -> Self {
        Self { reason: "NetworkNotReady", message: format!("spec.network: TenantNetwork {name}: {text}") }
    }

    /// Notes in an object's conditions that it has no address.
    pub fn tell(&self, conditions: &mut Vec<crds::Condition>, generation: Option<i64>) {
        condition::set(conditions, condition::READY, false, self.reason, self.message.clone(), generation);
    }
}

/// Everybody else on a network.
#[derive(Clone, Copy, Debug)]
pub struct Others<'a> {
    /// Its Ports.
    pub ports: &'a [Port],
    /// Its ServiceIPs.
    pub services: &'a [ServiceIP],
    /// The network's own address.
    pub gateway: Ipv4Addr,
    /// Its range.
    pub subnet: Ipv4Net,
}

impl Others<'_> {
    /// The lowest address that nobody has or asks for.
    ///
    /// # Errors
    /// [`Problem`]: none is left.
    pub fn free(&self) -> Result<Ipv4Addr, Problem> {
        let ports = self.ports.iter().flat_map(|port| port.spec.ip.iter().chain(&port.spec.allowed_addresses));
        let services = self
            .services
            .iter()
            .flat_map(|one| one.spec.ip.iter().chain(one.status.iter().filter_map(|status| status.ip.as_ref())));
        let taken: HashSet<Ipv4Addr> = ports.chain(services).filter_map(|text| text.parse().ok()).collect();
        self.subnet.hosts().find(|ip| *ip != self.gateway && !taken.contains(ip)).ok_or_else(|| Problem {
            reason: "SubnetExhausted",
            message: format!("no free address is left in {}; delete Ports or use a larger network", self.subnet),
        })
    }

    /// The address that an object's `spec.ip` asks for.
    ///
    /// # Errors
    /// [`Problem`]: it is none of the network's, or somebody has it.
    pub fn asked(&self, text: &str) -> Result<Ipv4Addr, Problem> {
        let bad = |reason, message: String| Err(Problem { reason, message: format!("spec.ip: {message}") });
        let Ok(ip) = text.parse::<Ipv4Addr>() else {
            return bad("InvalidAddress", format!("{text} is no IPv4 address"));
        };
        if !self.subnet.contains(&ip) || ip == self.subnet.network() || ip == self.subnet.broadcast() {
            return bad("InvalidAddress", format!("{ip} is not a usable address of {}", self.subnet));
        }
        if ip == self.gateway {
            return bad("AddressTaken", format!("{ip} is the network's own address"));
        }
        // A Port without MAC asks for its address as well and has not got it.
        let has = |port: &&Port| port.spec.ip.as_deref() == Some(text) && port.spec.mac.is_some();
        if let Some(other) = self.ports.iter().find(has) {
            return bad("AddressTaken", format!("{ip} is taken by Port {}", other.name_any()));
        }
        if let Some(other) = self.services.iter().find(|other| other.address() == Some(ip)) {
            return bad("AddressTaken", format!("{ip} is taken by ServiceIP {}", other.name_any()));
        }
        match self.ports.iter().find(|other| other.spec.allowed_addresses.iter().any(|further| further == text)) {
            Some(other) => {
                bad("AddressTaken", format!("{ip} is one of the allowedAddresses of Port {}", other.name_any()))
            }
            None => Ok(ip),
        }
    }
}

/// The network's own address: the one asked for, or the first usable one.
///
/// # Errors
/// A sentence naming the field.
pub fn gateway(network: &TenantNetwork) -> Result<(Ipv4Addr, Ipv4Net), String> {
    let subnet: Ipv4Net =
        network.spec.subnet.parse().map_err(|_| format!("spec.subnet: {} is no IPv4 range", network.spec.subnet))?;
    if subnet.addr() != subnet.network() {
        return Err(format!("spec.subnet: {subnet} has host bits set; write {}", subnet.trunc()));
    }
    let Some(text) = &network.spec.gateway else {
        let first = subnet.hosts().next().ok_or_else(|| format!("spec.subnet: {subnet} has no usable address"))?;
        return Ok((first, subnet));
    };
    let address: Ipv4Addr = text.parse().map_err(|_| format!("spec.gateway: {text} is no IPv4 address"))?;
    if !subnet.contains(&address) || address == subnet.network() || address == subnet.broadcast() {
        return Err(format!("spec.gateway: {address} is not a usable address of {subnet}"));
    }
    Ok((address, subnet))
}
