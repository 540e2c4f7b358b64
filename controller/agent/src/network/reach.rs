//! Who of a network is on other hosts, and whether a way there is needed: pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crds::mac::link_local;
use crds::{Host, Port, TenantNetwork};
use host::link::{Peer, stable_mac};
use kube::ResourceExt;

use super::further;
use super::plan::{Wanted, WantedPort, wanted_port};

/// The network beyond this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Not heard yet: whatever is there stays.
    #[default]
    Unknown,
    /// It is on this host alone, so there is no tunnel.
    Here,
    /// Others have ports of it, too.
    Across {
        /// Its identifier on the underlay.
        vni: u32,
        /// The ports there, by name.
        peers: Vec<Elsewhere>,
    },
}

/// A port on another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Name that the network's DNS knows it by.
    pub hostname: String,
    /// Groups that it names.
    pub groups: Vec<String>,
    /// The machine that uses it.
    pub machine: Option<String>,
    /// Where it is known, and its host's address.
    pub peer: Peer,
    /// Its own address of IPv6, beside one of IPv4.
    pub six: Option<Ipv6Addr>,
    /// What else its guest may speak under, as others' guests may, too.
    pub further: Vec<IpAddr>,
    /// Of these, where it is reached from here: each leads to one place.
    pub reached: Vec<IpAddr>,
    /// Where it is known on its link, if guests have IPv6.
    pub link_local: Option<Ipv6Addr>,
}

impl Elsewhere {
    /// One for each address at which it is reached.
    pub fn entries(&self) -> impl Iterator<Item = Peer> {
        let six = self.six.into_iter().chain(self.link_local).map(IpAddr::V6);
        let further = self.reached.iter().copied().chain(six).map(|address| Peer { address, ..self.peer });
        std::iter::once(self.peer).chain(further)
    }
}

/// What other hosts are known by: the address on the underlay that each told of itself.
pub fn addresses(hosts: &[Arc<Host>]) -> HashMap<String, Ipv4Addr> {
    let address = |host: &Host| host.status.as_ref()?.underlay_address.as_ref()?.parse().ok();
    hosts.iter().filter_map(|host| Some((host.name_any(), address(host)?))).collect()
}

/// The way to `ports`, those of the network wherever they are; none when they are not known yet. A port counts once it has
/// addresses and a host that is joined. Of two that claim one address the older counts, and whoever is here before any. A further
/// address may be several ports': it leads to one of them, but all of them are heard under it, so it makes each a group's member.
pub fn reach(
    network: &TenantNetwork,
    here: &Wanted,
    me: &str,
    ports: Option<Vec<Arc<Port>>>,
    hosts: &HashMap<String, Ipv4Addr>,
) -> Reach {
    let Some(mut ports) = ports else { return Reach::Unknown };
    let Some(vni) = network.status.as_ref().and_then(|status| status.vni) else { return Reach::Here };
    ports.sort_by_cached_key(|port| (port.metadata.creation_timestamp.as_ref().map(|time| time.0), port.name_any()));
    let mut macs: HashSet<[u8; 6]> = here.ports.iter().map(|port| port.mac).collect();
    macs.insert(stable_mac(&here.owner.uid));
    let mut addresses: HashSet<IpAddr> = here.ports.iter().flat_map(WantedPort::own).collect();
    addresses.extend(here.subnets.all().map(|subnet| IpAddr::V4(subnet.gateway)));
    addresses.extend(here.subnets.six().iter().map(|subnet| IpAddr::V6(subnet.gateway)));
    addresses.extend(here.services.addresses.iter().map(|one| IpAddr::V4(one.address)));
    let mut peers: Vec<(String, Elsewhere)> = Vec::new();
    for port in ports.iter().filter(|port| port.spec.host.as_deref().is_some_and(|host| host != me)) {
        let Some(host) = port.spec.host.as_ref().and_then(|host| hosts.get(host)) else { continue };
        let Ok(Some(port)) = wanted_port(port, &here.subnets) else { continue };
        let Some(address) = port.own().next() else { continue };
        if !here.subnets.contain(address) || macs.contains(&port.mac) || addresses.contains(&address) {
            continue;
        }
        macs.insert(port.mac);
        addresses.insert(address);
        let usable = |six: &Ipv6Addr| here.subnets.is_usable(*six) && addresses.insert((*six).into());
        let six = port.six.filter(usable);
        let link_local = here.subnets.have_six().then(|| link_local(port.mac));
        let peer = Peer { mac: port.mac, address, host: *host };
        let (machine, further, groups) = (port.machine, port.further, port.groups);
        let (hostname, reached) = (port.hostname, Vec::new());
        peers.push((port.name, Elsewhere { hostname, machine, groups, peer, six, further, reached, link_local }));
    }
    // Everybody's own first. Guests here ask each other for what they share, and of those elsewhere the oldest is found.
    addresses.extend(here.ports.iter().flat_map(|port| &port.further));
    if peers.iter().any(|(_, peer)| !peer.further.is_empty()) {
        let claims = further::claims(here, &ports);
        for (name, peer) in &mut peers {
            peer.further.retain(|address| claims.judge(name, *address).is_ok());
            peer.reached = peer.further.iter().copied().filter(|address| addresses.insert(*address)).collect();
        }
    }
    peers.sort_by(|(a, _), (b, _)| a.cmp(b));
    match peers.is_empty() {
        true => Reach::Here,
        false => Reach::Across { vni, peers: peers.into_iter().map(|(_, peer)| peer).collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{samples, wanted};
    use super::*;

    const ME: &str = "host0";

    fn network() -> TenantNetwork {
        let mut network = samples::network();
        network.status = serde_json::from_value(serde_json::json!({"vni": 10_000})).ok();
        network
    }

    fn on(number: u8, host: &str) -> Arc<Port> {
        let mut port = (*samples::port(number)).clone();
        port.spec.host = Some(host.to_owned());
        Arc::new(port)
    }

    fn hosts() -> HashMap<String, Ipv4Addr> {
        ["host0", "host1", "host2"].into_iter().zip(1..).map(|(h, n)| (h.to_owned(), [100, 64, 0, n].into())).collect()
    }

    fn reached(ports: Vec<Arc<Port>>) -> Reach {
        let here: Vec<_> = ports.iter().filter(|port| port.spec.host.as_deref() == Some(ME)).cloned().collect();
        let here = wanted(&samples::names(), &network(), &here).unwrap();
        reach(&network(), &here, ME, Some(ports), &hosts())
    }

    fn names(reach: &Reach) -> Vec<&str> {
        match reach {
            Reach::Across { peers, .. } => peers.iter().map(|peer| peer.hostname.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn there_is_no_way_while_nobody_is_elsewhere_and_none_is_given_up_before_all_are_heard() {
        let here = wanted(&samples::names(), &network(), &[on(2, ME)]).unwrap();
        assert_eq!(reach(&network(), &here, ME, None, &hosts()), Reach::Unknown);
        assert_eq!(reached(vec![on(2, ME)]), Reach::Here);
        let mut young = network();
        young.status = None;
        let across = Some(vec![on(2, ME), on(3, "host1")]);
        assert_eq!(reach(&young, &here, ME, across, &hosts()), Reach::Here, "no identifier yet");
    }

    #[test]
    fn those_with_addresses_on_joined_hosts_are_reached_at_their_host() {
        let mut bare = (*on(5, "host2")).clone();
        bare.spec.mac = None;
        let ports = vec![on(2, ME), on(4, "host2"), on(3, "host1"), Arc::new(bare), on(6, "unknown"), samples::port(7)];
        let Reach::Across { vni, peers } = reached(ports) else { panic!("others are elsewhere") };
        let told: Vec<_> = peers.iter().map(|one| (one.hostname.as_str(), one.peer.host.octets()[3])).collect();
        assert_eq!((vni, told), (10_000, vec![("p3", 2), ("p4", 3)]));
    }

    #[test]
    fn a_further_address_leads_to_the_oldest_that_may_use_it_unless_somebody_here_does() {
        let with = |number: u8, host: &str, further: &[&str]| {
            let mut port = (*on(number, host)).clone();
            port.spec.allowed_addresses = further.iter().map(|text| (*text).to_owned()).collect();
            Arc::new(port)
        };
        let ports = vec![
            with(2, ME, &["10.9.0.100"]),
            with(3, "host1", &["10.9.0.100", "10.9.0.101", "10.9.0.4", "10.8.0.1"]),
            with(4, "host2", &["10.9.0.101", "10.9.0.102"]),
        ];
        let Reach::Across { peers, .. } = reached(ports) else { panic!("others are elsewhere") };
        let last = |all: &[IpAddr]| {
            all.iter().map(|ip| ip.to_string().rsplit('.').next().unwrap().parse().unwrap()).collect::<Vec<u8>>()
        };
        assert_eq!(peers.iter().map(|peer| last(&peer.reached)).collect::<Vec<_>>(), [[101], [102]]);
        assert_eq!(peers.iter().map(|peer| last(&peer.further)).collect::<Vec<_>>(), [[100, 101], [101, 102]]);
    }

    #[test]
    fn one_address_leads_to_one_place_and_what_is_here_or_the_networks_own_to_none_elsewhere() {
        let like = |number: u8, ip: &str, mac: &str| {
            let mut port = (*on(number, "host1")).clone();
            (port.spec.ip, port.spec.mac) = (Some(ip.to_owned()), Some(mac.to_owned()));
            Arc::new(port)
        };
        let gateway = stable_mac(&network().metadata.uid.unwrap()).map(|byte| format!("{byte:02x}")).join(":");
        let ports = vec![
            on(2, ME),
            on(3, "host2"),
            like(4, "10.9.0.2", "52:54:00:00:00:04"),
            like(5, "10.9.0.5", "52:54:00:00:00:02"),
            like(6, "10.9.0.3", "52:54:00:00:00:06"),
            like(7, "10.9.0.1", "52:54:00:00:00:07"),
            like(8, "10.8.0.8", "52:54:00:00:00:08"),
            like(9, "10.9.0.9", &gateway),
        ];
        assert_eq!(names(&reached(ports)), ["p3"]);
    }
}
