//! What a network shall look like on this host: pure.
//!
//! How to get there is not planned here: every verb of `host` compares its own set with the kernel and tells what it changed.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crds::{Port, TenantNetwork};
use ipnet::Ipv4Net;
use kube::ResourceExt;

use super::error::Error;
use super::reach::Reach;
use crate::layout::Owner;
use crate::mac::parse_mac;
use crate::names::{self, Names};

/// A network on this host, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose it is.
    pub owner: Owner,
    /// The namespace shared by the host's networks.
    pub underlay: String,
    /// The network's own namespace.
    pub netns: String,
    /// Its bridge.
    pub bridge: String,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Its range.
    pub subnet: Ipv4Net,
    /// Largest packet.
    pub mtu: u32,
    /// DHCP, when it is on.
    pub dhcp: Option<Dhcp>,
    /// The ports here, by name; a network without any is not here.
    pub ports: Vec<WantedPort>,
    /// Its table in the packet filter.
    pub filter: String,
    /// Its tunnel to other hosts.
    pub tunnel: String,
    /// The ports elsewhere.
    pub reach: Reach,
}

/// DHCP settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Lease time.
    pub lease_seconds: u32,
    /// Domain handed out.
    pub domain: Option<String>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPort {
    /// Object's UID.
    pub uid: String,
    /// Object's name.
    pub name: String,
    /// Tap device.
    pub tap: String,
    /// Hardware address of the guest's end.
    pub mac: [u8; 6],
    /// Its address.
    pub ip: Ipv4Addr,
    /// Name that DHCP hands out.
    pub hostname: String,
}

/// The network as the objects want it on this host; what is elsewhere is [`super::reach`]'s. Ports that have no addresses yet do not count.
pub fn wanted(names: &Names, network: &TenantNetwork, ports: &[Arc<Port>]) -> Result<Wanted, Error> {
    let name = format!("TenantNetwork {}", network.name_any());
    let uid = network.uid().unwrap_or_default();
    let spec = &network.spec;
    let subnet: Ipv4Net = spec
        .subnet
        .parse()
        .map_err(|_| invalid(&name, "spec.subnet", &spec.subnet, "must be an IPv4 range such as 10.0.0.0/24"))?;
    let subnet = subnet.trunc();
    let told = network.status.as_ref().and_then(|status| status.gateway.clone());
    let gateway = spec.gateway.clone().or(told);
    let gateway = match &gateway {
        Some(text) => text.parse().map_err(|_| invalid(&name, "spec.gateway", text, "must be an IPv4 address"))?,
        None => first_host(subnet),
    };
    let mut wanted = ports.iter().filter_map(|port| wanted_port(port).transpose()).collect::<Result<Vec<_>, _>>()?;
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Wanted {
        owner: Owner { namespace: network.namespace().unwrap_or_default(), name: network.name_any(), uid: uid.clone() },
        underlay: names.underlay(),
        netns: names.cell(&uid),
        bridge: names::bridge(&uid),
        gateway,
        subnet,
        mtu: spec.mtu,
        dhcp: spec
            .dhcp
            .enabled
            .then(|| Dhcp { lease_seconds: spec.dhcp.lease_seconds, domain: spec.dhcp.domain.clone() }),
        ports: wanted,
        filter: names::filter(&uid),
        tunnel: names::tunnel(&uid),
        reach: Reach::default(),
    })
}

fn first_host(subnet: Ipv4Net) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.network())
}

pub(super) fn wanted_port(port: &Port) -> Result<Option<WantedPort>, Error> {
    let (Some(ip), Some(mac)) = (&port.spec.ip, &port.spec.mac) else { return Ok(None) };
    let name = format!("Port {}", port.name_any());
    let uid = port.uid().unwrap_or_default();
    Ok(Some(WantedPort {
        tap: names::tap(&uid),
        uid,
        name: port.name_any(),
        mac: parse_mac(mac).ok_or_else(|| invalid(&name, "spec.mac", mac, "must be a unicast hardware address"))?,
        ip: ip.parse().map_err(|_| invalid(&name, "spec.ip", ip, "must be an IPv4 address"))?,
        hostname: port.spec.hostname.clone().unwrap_or_else(|| port.name_any()),
    }))
}

fn invalid(object: &str, field: &'static str, value: &str, rule: &'static str) -> Error {
    Error::Invalid { object: object.to_owned(), field, value: value.to_owned(), rule }
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;
    use crds::{PortSpec, TenantNetworkSpec};
    use serde_json::json;

    pub(crate) fn network() -> TenantNetwork {
        let spec: TenantNetworkSpec = serde_json::from_value(json!({"subnet": "10.9.0.0/24"})).unwrap();
        let mut network = TenantNetwork::new("net", spec);
        network.metadata.namespace = Some("t".into());
        network.metadata.uid = Some("11111111-2222-4333-8444-555555555555".into());
        network
    }

    pub(crate) fn port(number: u8) -> Arc<Port> {
        let spec: PortSpec = serde_json::from_value(json!({
            "network": "net", "ip": format!("10.9.0.{number}"), "mac": format!("52:54:00:00:00:{number:02x}"),
        }))
        .unwrap();
        let mut port = Port::new(&format!("p{number}"), spec);
        port.metadata.namespace = Some("t".into());
        port.metadata.uid = Some(format!("aaaaaaaa-bb{number:02x}-4333-8444-555555555555"));
        Arc::new(port)
    }

    pub(crate) fn names() -> Names {
        Names::new("test", "host0")
    }
}

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;

    #[test]
    fn ports_come_in_order_with_defaults_filled_in() {
        let wanted = wanted(&names(), &network(), &[port(3), port(2)]).unwrap();
        assert_eq!(wanted.gateway, Ipv4Addr::new(10, 9, 0, 1));
        let all: Vec<_> = wanted.ports.iter().map(|port| (port.hostname.as_str(), port.ip.octets()[3])).collect();
        assert_eq!(all, [("p2", 2), ("p3", 3)]);
        assert_eq!(wanted.ports[0].tap, "tapaaaaaaaabb02");
        assert_eq!(wanted.bridge, "br111111112222");
        assert!(wanted.dhcp.is_some());
    }

    #[test]
    fn a_port_without_addresses_does_not_count() {
        let mut bare = (*port(3)).clone();
        bare.spec.mac = None;
        assert_eq!(wanted(&names(), &network(), &[Arc::new(bare)]).unwrap().ports, []);
    }
}
