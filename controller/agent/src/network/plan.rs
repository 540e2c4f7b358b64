//! What a network shall look like on this host: pure.
//!
//! How to get there is not planned here: every verb of `host` compares its own set with the kernel and tells what it changed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crds::network::Dhcp;
use crds::{Port, Subnets, TenantNetwork};
use host::firewall::{Policy, Rate};
use kube::ResourceExt;

use super::error::Error;
use super::reach::Reach;
use super::routers::Routing;
use super::services::Services;
use crate::layout::Owner;
use crate::mac::parse_mac;
use crate::names::{self, Names};
use control_loop::{Failure, sentence};

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
    /// Its own address in its first subnet, where it is spoken to.
    pub gateway: IpAddr,
    /// Its ranges, in each of which the bridge has an address.
    pub subnets: Subnets,
    /// Largest packet.
    pub mtu: u32,
    /// Whether its nodes reach the API.
    pub api_access: bool,
    /// DHCP, when it is on.
    pub dhcp: Option<Dhcp>,
    /// Its names.
    pub dns: Dns,
    /// The ports here, by name; a network without any is not here.
    pub ports: Vec<WantedPort>,
    /// Its table in the packet filter.
    pub filter: String,
    /// Its tables that enforce groups.
    pub firewall: String,
    /// What groups say of its ports here, if any has one.
    pub policy: Option<Policy>,
    /// Its tables that share out connections.
    pub balancer: String,
    /// Its service addresses and what load balancers say.
    pub services: Services,
    /// Its tunnel to other hosts.
    pub tunnel: String,
    /// The ports elsewhere.
    pub reach: Reach,
    /// The way to other networks, and the routers that are here.
    pub routing: Routing,
    /// Ports that cannot be served beside the others, or at all, or not as they say.
    pub refused: Vec<Refused>,
}

/// A port that is left out so that the others work, or closed because its groups cannot be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Object's UID.
    pub uid: String,
    /// Object's name.
    pub name: String,
    /// Label of the cause.
    pub reason: &'static str,
    /// Sentence with the field.
    pub message: String,
}

/// What makes its names, besides the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// The domain handed out.
    pub domain: Option<String>,
    /// Whether other names are asked of the host's resolvers.
    pub forward: bool,
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
    /// Its address of IPv4, where the network has such.
    pub ip: Option<Ipv4Addr>,
    /// Its address of IPv6.
    pub six: Option<Ipv6Addr>,
    /// Name that DHCP hands out.
    pub hostname: String,
    /// What else its guest may speak under.
    pub further: Vec<IpAddr>,
    /// How fast its guest may be.
    pub rate: Rate,
    /// Groups that it names.
    pub groups: Vec<String>,
    /// The machine that uses it.
    pub machine: Option<String>,
}

impl WantedPort {
    /// Its own addresses, and where they are said.
    pub fn said(&self) -> impl Iterator<Item = (&'static str, IpAddr)> + use<> {
        let four = self.ip.map(|four| ("spec.ip", IpAddr::V4(four)));
        four.into_iter().chain(self.six.map(|six| ("spec.ipv6", IpAddr::V6(six))))
    }

    /// Its own addresses, under the first of which it is known.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.said().map(|(_, address)| address)
    }
}

/// The network as the objects want it on this host; what is elsewhere is [`super::reach`]'s. Ports that have no addresses
/// yet do not count; one that contradicts an older one, or the network, is refused by itself and holds up nobody.
pub fn wanted(names: &Names, network: &TenantNetwork, ports: &[Arc<Port>]) -> Result<Wanted, Error> {
    let uid = network.uid().unwrap_or_default();
    let spec = &network.spec;
    let subnets = Subnets::of(spec).map_err(|why| Error::Subnet { network: network.name_any(), why })?;
    let (wanted, refused) = admit(ports, &subnets);
    Ok(Wanted {
        owner: Owner { namespace: network.namespace().unwrap_or_default(), name: network.name_any(), uid: uid.clone() },
        underlay: names.underlay(),
        netns: names.cell(&uid),
        bridge: names::bridge(&uid),
        gateway: subnets.gateway(),
        subnets,
        mtu: spec.mtu,
        api_access: spec.api_access,
        dhcp: spec.dhcp.enabled.then(|| spec.dhcp.clone()),
        dns: Dns { domain: spec.dhcp.domain.clone(), forward: spec.dns.forward },
        ports: wanted,
        filter: names::filter(&uid),
        firewall: names::firewall(&uid),
        policy: None,
        balancer: names::balancer(&uid),
        services: Services::default(),
        tunnel: names::tunnel(&uid),
        reach: Reach::default(),
        routing: Routing::default(),
        refused,
    })
}

/// Who is served and who is not, both by name. The older port keeps what two want.
fn admit(ports: &[Arc<Port>], subnets: &Subnets) -> (Vec<WantedPort>, Vec<Refused>) {
    let mut by_age: Vec<&Arc<Port>> = ports.iter().collect();
    by_age.sort_by_cached_key(|port| (port.metadata.creation_timestamp.as_ref().map(|time| time.0), port.name_any()));
    let (mut admitted, mut refused) = (Vec::<WantedPort>::new(), Vec::new());
    let (mut addresses, mut macs) = (HashMap::new(), HashMap::new());
    for port in by_age {
        let judged = wanted_port(port, subnets).and_then(|wanted| match wanted {
            None => Ok(None),
            Some(wanted) => {
                check_address(&wanted, subnets)?;
                check_alone(&wanted, &addresses, &macs)?;
                Ok(Some(wanted))
            }
        });
        match judged {
            Ok(None) => {}
            Ok(Some(wanted)) => {
                addresses.extend(wanted.own().map(|address| (address, wanted.name.clone())));
                macs.insert(wanted.mac, wanted.name.clone());
                admitted.push(wanted);
            }
            Err(error) => refused.push(Refused {
                uid: port.uid().unwrap_or_default(),
                name: port.name_any(),
                reason: error.category(),
                message: sentence(&error),
            }),
        }
    }
    admitted.sort_by(|a, b| a.name.cmp(&b.name));
    refused.sort_by(|a, b| a.name.cmp(&b.name));
    (admitted, refused)
}

fn check_address(port: &WantedPort, subnets: &Subnets) -> Result<(), Error> {
    let name = format!("Port {}", port.name);
    for (field, ip) in port.said() {
        let bad = |rule| Err(invalid(&name, field, &ip.to_string(), rule));
        match ip {
            ip if subnets.is_gateway(ip) => return bad("it is the network's own address"),
            ip if !subnets.is_usable(ip) => return bad("must be a usable address of the network's ranges"),
            _ => {}
        }
    }
    Ok(())
}

fn check_alone(
    port: &WantedPort,
    addresses: &HashMap<IpAddr, String>,
    macs: &HashMap<[u8; 6], String>,
) -> Result<(), Error> {
    let taken = |field, other: &String| Error::Taken { port: port.name.clone(), field, other: other.clone() };
    if let Some((field, other)) = port.said().find_map(|(field, ip)| Some((field, addresses.get(&ip)?))) {
        return Err(taken(field, other));
    }
    match macs.get(&port.mac) {
        Some(other) => Err(taken("spec.mac", other)),
        None => Ok(()),
    }
}

/// A port as it says itself, in a network of these ranges: with what its card makes of them for itself.
pub(super) fn wanted_port(port: &Port, subnets: &Subnets) -> Result<Option<WantedPort>, Error> {
    let Some(mac) = port.spec.mac.as_ref().filter(|_| port.spec.is_addressed(!subnets.have_four())) else {
        return Ok(None);
    };
    let name = format!("Port {}", port.name_any());
    let uid = port.uid().unwrap_or_default();
    let further =
        port.spec.allowed_addresses.iter().map(|text| {
            text.parse().map_err(|_| invalid(&name, "spec.allowedAddresses", text, "must be IP addresses"))
        });
    let mut further: Vec<IpAddr> = further.collect::<Result<_, _>>()?;
    let mac = parse_mac(mac).ok_or_else(|| invalid(&name, "spec.mac", mac, "must be a unicast hardware address"))?;
    let four = port.spec.ip.as_ref();
    let four = four.map(|text| text.parse().map_err(|_| invalid(&name, "spec.ip", text, "must be an IPv4 address")));
    let six =
        port.spec.ipv6.as_ref().map(|text| {
            text.parse::<Ipv6Addr>().map_err(|_| invalid(&name, "spec.ipv6", text, "must be an IPv6 address"))
        });
    let six = six.transpose()?;
    further.extend(subnets.made_beside(six, mac).map(IpAddr::V6));
    Ok(Some(WantedPort {
        further,
        six,
        tap: names::tap(&uid),
        uid,
        name: port.name_any(),
        mac,
        ip: four.transpose()?,
        rate: port
            .spec
            .bandwidth
            .map_or_else(Rate::default, |limits| Rate { ingress: limits.ingress_mbit, egress: limits.egress_mbit }),
        groups: port.spec.security_groups.clone(),
        hostname: port.spec.hostname.clone().unwrap_or_else(|| port.name_any()),
        machine: port.annotations().get(crds::MACHINE_ANNOTATION).cloned(),
    }))
}

fn invalid(object: &str, field: &'static str, value: &str, rule: &'static str) -> Error {
    Error::Invalid { object: object.to_owned(), field, value: value.to_owned(), rule }
}

#[cfg(test)]
pub(crate) mod samples {
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
    use crds::PortSpec;

    #[test]
    fn ports_come_in_order_with_defaults_filled_in() {
        let wanted = wanted(&names(), &network(), &[port(3), port(2)]).unwrap();
        assert_eq!(wanted.gateway, IpAddr::from([10, 9, 0, 1]));
        let all: Vec<_> =
            wanted.ports.iter().map(|port| (port.hostname.as_str(), port.ip.unwrap().octets()[3])).collect();
        assert_eq!(all, [("p2", 2), ("p3", 3)]);
        assert_eq!(wanted.ports[0].tap, "tapaaaaaaaabb02");
        assert_eq!(wanted.bridge, "br111111112222");
        assert!(wanted.dhcp.is_some());
    }

    #[test]
    fn a_port_that_contradicts_an_older_one_or_the_network_is_refused_alone() {
        let changed = |number: u8, age: i64, change: &dyn Fn(&mut PortSpec)| {
            let mut port = (*port(number)).clone();
            port.metadata.creation_timestamp = serde_json::from_value(format!("2026-01-01T00:00:0{age}Z").into()).ok();
            change(&mut port.spec);
            Arc::new(port)
        };
        let ports = [
            changed(2, 2, &|_| {}),
            changed(3, 1, &|_| {}),
            changed(4, 3, &|spec| spec.ip = Some("10.9.0.3".into())),
            changed(5, 3, &|spec| spec.mac = Some("52:54:00:00:00:02".into())),
            changed(6, 0, &|spec| spec.ip = Some("10.9.0.1".into())),
            changed(7, 0, &|spec| spec.ip = Some("10.10.0.7".into())),
            changed(8, 0, &|spec| spec.mac = Some("a stranger's".into())),
            // What is refused takes nothing from others.
            changed(9, 4, &|spec| spec.ip = Some("10.9.0.5".into())),
        ];
        let wanted = wanted(&names(), &network(), &ports).unwrap();
        assert_eq!(wanted.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["p2", "p3", "p9"]);
        let refused: Vec<_> = wanted.refused.iter().map(|one| (one.name.as_str(), one.reason)).collect();
        let taken = "AddressTaken";
        let invalid = "InvalidSpec";
        assert_eq!(refused, [("p4", taken), ("p5", taken), ("p6", invalid), ("p7", invalid), ("p8", invalid)]);
        assert_eq!(wanted.refused[0].message, "spec.ip of Port p4 is taken by Port p3, which is older");
    }

    #[test]
    fn in_a_network_of_ipv6_alone_a_port_has_that_address() {
        let mut network = network();
        network.spec.subnet = None;
        network.spec.subnets =
            serde_json::from_value(serde_json::json!([{"name": "made", "cidr": "fd00:1::/64"}])).unwrap();
        let of = |ipv6: Option<&str>| {
            let mut port = (*port(2)).clone();
            (port.spec.ip, port.spec.ipv6) = (None, ipv6.map(str::to_owned));
            wanted(&names(), &network, &[Arc::new(port)]).unwrap()
        };
        let here = of(Some("fd00:1::5054:ff:fe00:2"));
        assert_eq!(here.gateway.to_string(), "fd00:1::1");
        let own: Vec<String> = here.ports[0].own().map(|ip| ip.to_string()).collect();
        assert_eq!(own, ["fd00:1::5054:ff:fe00:2"]);
        assert_eq!(of(Some("fd00:2::2")).refused[0].reason, "InvalidSpec");
        assert_eq!(of(None).ports, [], "it waits");
    }

    #[test]
    fn a_port_without_addresses_does_not_count() {
        let mut bare = (*port(3)).clone();
        bare.spec.mac = None;
        assert_eq!(wanted(&names(), &network(), &[Arc::new(bare)]).unwrap().ports, []);
    }
}
