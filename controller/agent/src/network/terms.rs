//! A network's objects in the host's terms: pure.

use std::collections::HashSet;
use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crds::Subnet;
use host::dnsmasq::{Range, Reservation, Server};
use host::guard::Guest;
use host::link::LinkName;
use ipnet::IpNet;

use super::error::Error;
use super::plan::{Dhcp, Wanted, WantedPort};
use super::reach::{Elsewhere, Reach};

/// The bridge's addresses: the network's own in each subnet, and those of its services, for which it answers alone.
pub(super) fn addresses(wanted: &Wanted) -> Vec<IpNet> {
    let own = |subnet: &Subnet| IpNet::new(subnet.gateway.into(), subnet.range.prefix_len()).ok();
    let own = wanted.subnets.all().filter_map(own);
    let services = wanted.services.addresses.iter().map(|one| IpNet::from(IpAddr::V4(one.address)));
    own.chain(services).collect()
}

/// The network as dnsmasq serves it.
pub(super) fn server(wanted: &Wanted, dhcp: &Dhcp) -> Result<Server, Error> {
    let domain = dhcp
        .domain
        .as_ref()
        .map(|domain| domain.parse().map_err(|_| invalid(wanted, "spec.dhcp.domain", domain.clone())));
    Ok(Server {
        owner: wanted.owner.uid.clone(),
        bridge: link(&wanted.bridge)?,
        ranges: wanted.subnets.all().map(served).collect(),
        dns_servers: vec![wanted.gateway],
        // Those are the name server's, which listens where this would.
        names: false,
        domain: domain.transpose()?,
        upstream: Vec::new(),
        mtu: wanted.mtu,
        lease_time: Duration::from_secs(dhcp.lease_seconds.into()),
    })
}

fn served(subnet: &Subnet) -> Range {
    Range { subnet: subnet.range, pool: None, router: Some(subnet.gateway) }
}

/// Who may say what at the port's tap.
pub(super) fn guest(port: &WantedPort) -> Result<Guest, Error> {
    Ok(Guest { tap: link(&port.tap)?, mac: port.mac, addresses: [&[port.ip][..], &port.further].concat() })
}

/// What the port is told by DHCP.
pub(super) fn reservation(port: &WantedPort) -> Result<Reservation, Error> {
    let bad = |field, value: &str| Error::Invalid {
        object: format!("Port {}", port.name),
        field,
        value: value.to_owned(),
        rule: "it cannot be used for a DHCP reservation",
    };
    Ok(Reservation {
        owner: port.uid.parse().map_err(|_| bad("metadata.uid", &port.uid))?,
        mac: Some(port.mac),
        address: port.ip,
        // A port named with dots has no name in DHCP, unless it is given one.
        host_name: port.hostname.parse().ok(),
    })
}

/// Everybody on the network that has a name, here and elsewhere, and the services. A name that a port has is the port's.
pub(super) fn named(wanted: &Wanted) -> Vec<dns::part::Guest> {
    let guest = |hostname: &str, machine: &Option<String>, address: Ipv4Addr| dns::part::Guest {
        name: hostname.to_owned(),
        aliases: machine.iter().cloned().collect(),
        address: address.into(),
    };
    let elsewhere: &[Elsewhere] = match &wanted.reach {
        Reach::Across { peers, .. } => peers,
        Reach::Unknown | Reach::Here => &[],
    };
    let here = wanted.ports.iter().map(|port| guest(&port.hostname, &port.machine, port.ip));
    let mut all: Vec<_> =
        here.chain(elsewhere.iter().map(|port| guest(&port.hostname, &port.machine, port.peer.address))).collect();
    let taken: HashSet<String> = all.iter().map(|port| port.name.clone()).collect();
    all.extend(wanted.services.addresses.iter().filter_map(|one| {
        let mut names = iter::once(&one.name).chain(&one.balancers).filter(|name| !taken.contains(*name)).cloned();
        Some(dns::part::Guest { name: names.next()?, aliases: names.collect(), address: one.address.into() })
    }));
    all
}

/// A name of a link.
pub(super) fn link(name: &str) -> Result<LinkName, Error> {
    name.parse().map_err(|source: host::link::InvalidLinkName| Error::Host {
        step: format!("name link {name:?}"),
        category: "LinkNameInvalid",
        retry: false,
        source: source.into(),
    })
}

fn invalid(wanted: &Wanted, field: &'static str, value: String) -> Error {
    let object = format!("TenantNetwork {}", wanted.owner.name);
    Error::Invalid { object, field, value, rule: "it cannot be used" }
}
