//! Addresses for Ports. Pure.

use crate::subnet::{Others, Problem};
use crds::{Port, PortStatus};
use kube::ResourceExt;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a Port is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4 address, where the network has such.
    pub ip: Option<String>,
    /// MAC address.
    pub mac: String,
    /// IPv6 address, where the network has such.
    pub ipv6: Option<String>,
}

/// Its addresses, or why there are none.
pub type Allocation = Result<Addresses, Problem>;

/// The addresses asked for, or the lowest free ones; the MAC asked for, or one made from the object's UID.
pub fn allocate(port: &Port, others: &Others<'_>) -> Allocation {
    let ip = others.four(&port.spec)?.map(|ip| ip.to_string());
    let macs: HashSet<&str> = others.ports.iter().filter_map(|o| o.spec.mac.as_deref()).collect();
    let mac = match &port.spec.mac {
        Some(mac) if macs.contains(mac.as_str()) => {
            let message = format!("spec.mac: {mac} is taken by another Port of the network");
            return Err(Problem { reason: "AddressTaken", message });
        }
        Some(mac) => mac.clone(),
        None => (0u32..).map(|salt| mac_from(port, salt)).find(|mac| !macs.contains(mac.as_str())).unwrap_or_default(),
    };
    let ipv6 = others.six(&port.spec, &mac)?.map(|ip| ip.to_string());
    Ok(Addresses { ip, mac, ipv6 })
}

/// A locally administered unicast address (IEEE 802, second bit of the first octet) under QEMU's customary prefix.
fn mac_from(port: &Port, salt: u32) -> String {
    let mut hasher = DefaultHasher::new();
    (port.uid(), salt).hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_be_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

/// The status of a Port that gets no address.
pub fn refusal(port: &Port, problem: &Problem) -> PortStatus {
    let generation = port.metadata.generation;
    let mut status = port.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    problem.tell(&mut status.conditions, generation);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::{ServiceIP, Subnets};
    use proptest::prelude::*;

    fn port(name: &str, ip: Option<&str>, mac: Option<&str>) -> Port {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port",
            "metadata": {"name": name, "uid": format!("uid-{name}")},
            "spec": {"network": "n", "ip": ip, "mac": mac},
        }))
        .unwrap()
    }

    fn in_range(port: &Port, others: &[Port]) -> Allocation {
        beside(port, others, &[])
    }

    fn beside(port: &Port, ports: &[Port], services: &[ServiceIP]) -> Allocation {
        let network = serde_json::from_value(serde_json::json!({"subnet": "10.0.0.0/29"})).unwrap();
        allocate(port, &Others { ports, services, subnets: &Subnets::of(&network).unwrap() })
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_its_field() {
        let other = port("other", Some("10.0.0.3"), Some("52:54:00:00:00:01"));
        for (ip, wanted) in [
            ("10.0.0.9", "spec.ip: 10.0.0.9 is not a usable address of 10.0.0.0/29"),
            ("10.0.0.7", "spec.ip: 10.0.0.7 is not a usable address of 10.0.0.0/29"),
            ("10.0.0.1", "spec.ip: 10.0.0.1 is the network's own address"),
            ("10.0.0.3", "spec.ip: 10.0.0.3 is taken by Port other"),
        ] {
            assert_eq!(in_range(&port("p", Some(ip), None), std::slice::from_ref(&other)).unwrap_err().message, wanted);
        }
        let same_mac = port("p", None, Some("52:54:00:00:00:01"));
        assert_eq!(in_range(&same_mac, std::slice::from_ref(&other)).unwrap_err().reason, "AddressTaken");
    }

    #[test]
    fn in_a_network_of_ipv6_alone_no_address_of_ipv4_is_given_and_none_can_be_had() {
        let network = serde_json::from_value(serde_json::json!({"subnets": [{"name": "made", "cidr": "fd00:1::/64"}]}));
        let subnets = Subnets::of(&network.unwrap()).unwrap();
        let of = |port: &Port| allocate(port, &Others { ports: &[], services: &[], subnets: &subnets });
        let given = of(&port("p", None, Some("52:54:00:00:00:02"))).unwrap();
        assert_eq!((given.ip, given.ipv6.as_deref()), (None, Some("fd00:1::5054:ff:fe00:2")));
        let refused = |port: &Port| of(port).unwrap_err().message;
        assert_eq!(
            refused(&port("p", Some("10.0.0.2"), None)),
            "spec.ip: 10.0.0.2 is not a usable address of fd00:1::/64"
        );
        let mut named = port("p", None, None);
        named.spec.subnet = Some("made".into());
        assert_eq!(refused(&named), "spec.subnet: the network has no subnet made; it has none of IPv4");
    }

    #[test]
    fn what_another_port_may_use_beside_its_own_is_given_to_nobody() {
        let mut other = port("other", Some("10.0.0.3"), Some("52:54:00:00:00:01"));
        other.spec.allowed_addresses = vec!["10.0.0.2".into()];
        let others = std::slice::from_ref(&other);
        assert_eq!(in_range(&port("p", None, None), others).unwrap().ip.as_deref(), Some("10.0.0.4"));
        assert_eq!(
            in_range(&port("p", Some("10.0.0.2"), None), others).unwrap_err().message,
            "spec.ip: 10.0.0.2 is one of the allowedAddresses of Port other"
        );
    }

    #[test]
    fn what_a_service_has_is_given_to_nobody_and_what_it_asks_for_to_nobody_by_chance() {
        let service = |name: &str, spec: Option<&str>, status: Option<&str>| -> ServiceIP {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "photoncloud.dev/v1alpha1", "kind": "ServiceIP", "metadata": {"name": name},
                "spec": {"network": "n", "ip": spec}, "status": {"ip": status},
            }))
            .unwrap()
        };
        let services = [service("has", None, Some("10.0.0.2")), service("asks", Some("10.0.0.3"), None)];
        assert_eq!(beside(&port("p", None, None), &[], &services).unwrap().ip.as_deref(), Some("10.0.0.4"));
        let refused = beside(&port("p", Some("10.0.0.2"), None), &[], &services).unwrap_err();
        assert_eq!(refused.message, "spec.ip: 10.0.0.2 is taken by ServiceIP has");
        assert_eq!(beside(&port("p", Some("10.0.0.3"), None), &[], &services).unwrap().ip.as_deref(), Some("10.0.0.3"));
    }

    proptest! {
        #[test]
        fn no_two_ports_share_an_address_and_a_full_subnet_says_so(names in proptest::collection::hash_set("[a-z]{1,6}", 1..12)) {
            let mut made: Vec<Port> = Vec::new();
            for name in names {
                let mut next = port(&name, None, None);
                match in_range(&next, &made) {
                    Ok(Addresses { ip, mac, .. }) => {
                        (next.spec.ip, next.spec.mac) = (ip, Some(mac));
                        made.push(next);
                    }
                    Err(problem) => {
                        prop_assert_eq!(problem.reason, "SubnetExhausted");
                        prop_assert_eq!(made.len(), 5);
                    }
                }
            }
            let ips: HashSet<_> = made.iter().map(|p| p.spec.ip.clone()).collect();
            let macs: HashSet<_> = made.iter().map(|p| p.spec.mac.clone()).collect();
            prop_assert_eq!(ips.len(), made.len());
            prop_assert_eq!(macs.len(), made.len());
        }
    }
}
