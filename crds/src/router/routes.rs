//! What follows from routers for who sends where: pure, and the same for who programs hosts and who explains.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Router, RouterInterface, RouterStatus};

/// Where a range is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The range.
    pub destination: Ipv4Net,
    /// Who passes on what is sent there; none when it is right there.
    pub via: Option<Ipv4Addr>,
}

impl RouterInterface {
    /// The router's address, and as many bits of it as its range has; none when the status is not ours.
    #[must_use]
    pub fn place(&self) -> Option<Ipv4Net> {
        let address: Ipv4Addr = self.address.parse().ok()?;
        let range = self.parsed_ranges().find(|range| range.contains(&address))?;
        Ipv4Net::new(address, range.prefix_len()).ok()
    }

    /// The network's ranges.
    pub fn parsed_ranges(&self) -> impl Iterator<Item = Ipv4Net> {
        self.ranges.iter().filter_map(|range| range.parse().ok())
    }

    fn has(&self, address: Ipv4Addr) -> bool {
        self.parsed_ranges().any(|range| range.contains(&address))
    }
}

impl RouterStatus {
    fn routes(&self) -> impl Iterator<Item = (Ipv4Net, Ipv4Addr)> {
        self.static_routes.iter().filter_map(|one| Some((one.destination.parse().ok()?, one.next_hop.parse().ok()?)))
    }

    /// What the router itself has to know at that interface, besides the range that its address there is in.
    #[must_use]
    pub fn routes_at(&self, interface: &RouterInterface) -> Vec<Hop> {
        let own = interface.place().map(|place| place.trunc());
        let further = interface.parsed_ranges().filter(|range| Some(*range) != own);
        let further = further.map(|destination| Hop { destination, via: None });
        let behind = self.routes().filter(|(_, via)| interface.has(*via));
        further.chain(behind.map(|(destination, via)| Hop { destination, via: Some(via) })).collect()
    }

    /// What somebody on the interface's network reaches by the router, or by whom its static routes name there.
    fn routes_from(&self, interface: &RouterInterface) -> Vec<Hop> {
        let Some(leg) = interface.place().map(|place| place.addr()) else { return Vec::new() };
        let others = self.interfaces.iter().filter(|other| other.network != interface.network);
        let ranges = others.flat_map(RouterInterface::parsed_ranges).map(|range| (range, leg));
        let fixed = self.routes().map(|(range, via)| (range, if interface.has(via) { via } else { leg }));
        let out = self.external.iter().map(|_| (Ipv4Net::default(), leg));
        ranges.chain(fixed).chain(out).map(|(destination, via)| Hop { destination, via: Some(via) }).collect()
    }
}

/// What is reached from a network by `routers`, those of its namespace. Of two that lead to one range the older counts; nothing leads
/// away what is in the network itself.
#[must_use]
pub fn routes_of(network: &str, routers: &[impl AsRef<Router>]) -> Vec<Hop> {
    let mut by_age: Vec<&Router> = routers.iter().map(AsRef::as_ref).collect();
    by_age.sort_by_key(|router| {
        (router.metadata.creation_timestamp.as_ref().map(|time| time.0), router.metadata.name.clone())
    });
    let mut all: Vec<Hop> = Vec::new();
    for status in by_age.into_iter().filter_map(|router| router.status.as_ref()) {
        for interface in status.interfaces.iter().filter(|interface| interface.network == network) {
            let within = |hop: &Hop| interface.parsed_ranges().any(|own| own.contains(&hop.destination));
            for hop in status.routes_from(interface).into_iter().filter(|hop| !within(hop)) {
                if all.iter().all(|known| known.destination != hop.destination) {
                    all.push(hop);
                }
            }
        }
    }
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn router(name: &str, second: u8, interfaces: &[(&str, &str, &[&str])], fixed: &[(&str, &str)]) -> Arc<Router> {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|(network, address, ranges)| {
                json!({"network": network, "port": format!("{name}.{network}"),
                "address": address, "ranges": ranges})
            })
            .collect();
        let fixed: Vec<_> = fixed.iter().map(|(to, via)| json!({"destination": to, "nextHop": via})).collect();
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "spec": {"networks": []}, "status": {"interfaces": interfaces, "staticRoutes": fixed},
            }))
            .unwrap(),
        )
    }

    fn told(hops: &[Hop]) -> Vec<String> {
        let one = |hop: &Hop| match hop.via {
            Some(via) => format!("{} via {via}", hop.destination),
            None => hop.destination.to_string(),
        };
        hops.iter().map(one).collect()
    }

    const A: (&str, &str, &[&str]) = ("a", "10.1.0.9", &["10.1.0.0/24", "10.1.5.0/24"]);
    const B: (&str, &str, &[&str]) = ("b", "10.2.0.9", &["10.2.0.0/24"]);

    #[test]
    fn each_network_reaches_the_others_by_the_routers_address_in_it() {
        let one = [router("r", 0, &[A, B], &[])];
        assert_eq!(told(&routes_of("a", &one)), ["10.2.0.0/24 via 10.1.0.9"]);
        assert_eq!(told(&routes_of("b", &one)), ["10.1.0.0/24 via 10.2.0.9", "10.1.5.0/24 via 10.2.0.9"]);
        assert_eq!(told(&routes_of("c", &one)), [""; 0]);
    }

    #[test]
    fn what_is_behind_somebody_is_sent_to_him_where_he_is_and_to_the_router_elsewhere() {
        let one = [router("r", 0, &[A, B], &[("192.168.0.0/16", "10.2.0.7")])];
        assert!(told(&routes_of("a", &one)).contains(&"192.168.0.0/16 via 10.1.0.9".to_owned()));
        assert!(told(&routes_of("b", &one)).contains(&"192.168.0.0/16 via 10.2.0.7".to_owned()));
        let status = one[0].status.as_ref().unwrap();
        assert_eq!(told(&status.routes_at(&status.interfaces[0])), ["10.1.5.0/24"]);
        assert_eq!(told(&status.routes_at(&status.interfaces[1])), ["192.168.0.0/16 via 10.2.0.7"]);
    }

    #[test]
    fn whoever_has_a_way_out_is_where_all_else_is_sent() {
        let mut one = (*router("r", 0, &[A, B], &[])).clone();
        let external = json!({"network": "x", "address": "203.0.113.9"});
        one.status.as_mut().unwrap().external = Some(serde_json::from_value(external).unwrap());
        let routes = told(&routes_of("a", &[Arc::new(one)]));
        assert_eq!(routes, ["0.0.0.0/0 via 10.1.0.9", "10.2.0.0/24 via 10.1.0.9"]);
    }

    #[test]
    fn the_older_of_two_routers_counts_and_nothing_leads_a_networks_own_range_away() {
        let two = [
            router(
                "young",
                5,
                &[("b", "10.2.0.8", &["10.2.0.0/24"]), ("c", "10.3.0.8", &["10.3.0.0/24"])],
                &[("192.168.0.0/16", "10.3.0.7"), ("10.2.0.0/25", "10.3.0.7")],
            ),
            router("old", 1, &[A, B], &[("192.168.0.0/16", "10.2.0.7")]),
        ];
        let routes = told(&routes_of("b", &two));
        assert_eq!(
            routes.iter().filter(|one| one.starts_with("192.168")).collect::<Vec<_>>(),
            ["192.168.0.0/16 via 10.2.0.7"]
        );
        assert!(!routes.iter().any(|one| one.starts_with("10.2.")), "{routes:?}");
    }
}
