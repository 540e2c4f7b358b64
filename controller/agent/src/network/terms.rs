//! A network's objects in the host's terms: pure.

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;
use std::time::Duration;

use crds::mac::link_local;
use crds::network::Dhcp;
use crds::{Subnet, Subnet6};
use host::dnsmasq::{DomainName, Range, Range6, Reservation, Server, Told};
use host::guard::Guest;
use host::link::LinkName;
use ipnet::IpNet;

use super::error::Error;
use super::naming::servers;
use super::plan::{Wanted, WantedPort};
use super::reach::{Elsewhere, Reach};

/// The bridge's addresses: the network's own in each subnet, and those of its services, for which it answers alone.
pub(super) fn addresses(wanted: &Wanted) -> Vec<IpNet> {
    let own = |subnet: &Subnet| IpNet::new(subnet.gateway.into(), subnet.range.prefix_len()).ok();
    let own = wanted.subnets.all().filter_map(own);
    let six = |subnet: &Subnet6| IpNet::new(subnet.gateway.into(), subnet.range.prefix_len()).ok();
    let six = wanted.subnets.six().iter().filter_map(six);
    let services = wanted.services.addresses.iter().map(|one| IpNet::from(IpAddr::V4(one.address)));
    own.chain(six).chain(services).collect()
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
        ranges6: wanted.subnets.six().iter().map(advertised).collect(),
        dns_servers: servers(wanted),
        // Those are the name server's, which listens where this would.
        names: false,
        domain: domain.transpose()?,
        told: told(wanted, dhcp)?,
        upstream: Vec::new(),
        mtu: wanted.mtu,
        lease_time: Duration::from_secs(dhcp.lease_seconds.into()),
    })
}

/// What the schema has seen to be what it says, and a store of an older one may hold otherwise.
fn told(wanted: &Wanted, dhcp: &Dhcp) -> Result<Told, Error> {
    fn each<T: std::str::FromStr>(wanted: &Wanted, field: &'static str, all: &[String]) -> Result<Vec<T>, Error> {
        all.iter().map(|text| text.parse().map_err(|_| invalid(wanted, field, text.clone()))).collect()
    }
    let route = |one: &crds::network::DhcpRoute| one.destination.parse().ok().zip(one.next_hop.parse().ok());
    let bad = |one: &crds::network::DhcpRoute| invalid(wanted, "spec.dhcp.routes", one.destination.clone());
    Ok(Told {
        search: each::<DomainName>(wanted, "spec.dhcp.searchDomains", &dhcp.search_domains)?,
        time_servers: each(wanted, "spec.dhcp.ntpServers", &dhcp.ntp_servers)?,
        routes: dhcp.routes.iter().map(|one| route(one).ok_or_else(|| bad(one))).collect::<Result<_, _>>()?,
    })
}

fn served(subnet: &Subnet) -> Range {
    Range { subnet: subnet.range, pool: None, router: Some(subnet.gateway) }
}

fn advertised(subnet: &Subnet6) -> Range6 {
    Range6 { subnet: subnet.range, autonomous: subnet.autonomous }
}

/// Who may say what at the port's tap: under its addresses, and in a network of IPv6 under the one that its card has on its link.
pub(super) fn guest(port: &WantedPort, wanted: &Wanted) -> Result<Guest, Error> {
    let on_link = wanted.subnets.have_six().then(|| IpAddr::V6(link_local(port.mac)));
    let addresses = port.own().chain(port.further.iter().copied()).chain(on_link);
    Ok(Guest { tap: link(&port.tap)?, mac: port.mac, addresses: addresses.collect() })
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
        six: port.six,
        // A port named with dots has no name in DHCP, unless it is given one.
        host_name: port.hostname.parse().ok(),
    })
}

/// Everybody on the network that has a name, here and elsewhere, and the services. A name that a port has is the port's.
pub(super) fn named(wanted: &Wanted) -> Vec<dns::part::Guest> {
    let guest = |hostname: &str, machine: &Option<String>, address: IpAddr| dns::part::Guest {
        name: hostname.to_owned(),
        aliases: machine.iter().cloned().collect(),
        address,
    };
    let elsewhere: &[Elsewhere] = match &wanted.reach {
        Reach::Across { peers, .. } => peers,
        Reach::Unknown | Reach::Here => &[],
    };
    let here =
        wanted.ports.iter().flat_map(|port| port.own().map(|address| guest(&port.hostname, &port.machine, address)));
    let elsewhere = elsewhere.iter().flat_map(|port| {
        let own = [port.peer.address].into_iter().chain(port.six.map(IpAddr::V6));
        own.map(|address| guest(&port.hostname, &port.machine, address))
    });
    let mut all: Vec<_> = here.chain(elsewhere).collect();
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
