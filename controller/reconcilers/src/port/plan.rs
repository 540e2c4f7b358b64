//! Addresses for Ports. Pure.

use crds::{Port, PortStatus, condition};
use ipnet::Ipv4Net;
use kube::ResourceExt;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

/// IP and MAC address, or why there are none.
pub type Allocation = Result<(String, String), Problem>;

/// Why a Port has no address.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    reason: &'static str,
    message: String,
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
}

/// The address asked for, or the lowest free one; the MAC asked for, or one made from the object's UID.
pub fn allocate(port: &Port, others: &[Port], gateway: Ipv4Addr, subnet: Ipv4Net) -> Allocation {
    let others: Vec<&Port> = others.iter().filter(|other| other.name_any() != port.name_any()).collect();
    let named = others.iter().flat_map(|other| other.spec.ip.iter().chain(&other.spec.allowed_addresses));
    let taken: HashSet<Ipv4Addr> = named.filter_map(|text| text.parse().ok()).collect();
    let ip = match &port.spec.ip {
        Some(text) => asked(text, &others, gateway, subnet)?,
        None => subnet.hosts().find(|ip| *ip != gateway && !taken.contains(ip)).ok_or_else(|| Problem {
            reason: "SubnetExhausted",
            message: format!("no free address is left in {subnet}; delete Ports or use a larger network"),
        })?,
    };
    let macs: HashSet<&str> = others.iter().filter_map(|o| o.spec.mac.as_deref()).collect();
    let mac = match &port.spec.mac {
        Some(mac) if macs.contains(mac.as_str()) => {
            let message = format!("spec.mac: {mac} is taken by another Port of the network");
            return Err(Problem { reason: "AddressTaken", message });
        }
        Some(mac) => mac.clone(),
        None => (0u32..).map(|salt| mac_from(port, salt)).find(|mac| !macs.contains(mac.as_str())).unwrap_or_default(),
    };
    Ok((ip.to_string(), mac))
}

fn asked(text: &str, others: &[&Port], gateway: Ipv4Addr, subnet: Ipv4Net) -> Result<Ipv4Addr, Problem> {
    let bad = |reason, message: String| Err(Problem { reason, message: format!("spec.ip: {message}") });
    let Ok(ip) = text.parse::<Ipv4Addr>() else {
        return bad("InvalidAddress", format!("{text} is no IPv4 address"));
    };
    if !subnet.contains(&ip) || ip == subnet.network() || ip == subnet.broadcast() {
        return bad("InvalidAddress", format!("{ip} is not a usable address of {subnet}"));
    }
    if ip == gateway {
        return bad("AddressTaken", format!("{ip} is the network's own address"));
    }
    match others.iter().find(|other| other.spec.ip.as_deref() == Some(text) && other.spec.mac.is_some()) {
        Some(other) => bad("AddressTaken", format!("{ip} is taken by Port {}", other.name_any())),
        None => match others.iter().find(|other| other.spec.allowed_addresses.iter().any(|further| further == text)) {
            Some(other) => {
                bad("AddressTaken", format!("{ip} is one of the allowedAddresses of Port {}", other.name_any()))
            }
            None => Ok(ip),
        },
    }
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
    condition::set(
        &mut status.conditions,
        condition::READY,
        false,
        problem.reason,
        problem.message.clone(),
        generation,
    );
    status
}

#[cfg(test)]
mod tests {
    use super::*;
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
        allocate(port, others, Ipv4Addr::new(10, 0, 0, 1), "10.0.0.0/29".parse().unwrap())
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
    fn what_another_port_may_use_beside_its_own_is_given_to_nobody() {
        let mut other = port("other", Some("10.0.0.3"), Some("52:54:00:00:00:01"));
        other.spec.allowed_addresses = vec!["10.0.0.2".into()];
        let others = std::slice::from_ref(&other);
        assert_eq!(in_range(&port("p", None, None), others).unwrap().0, "10.0.0.4");
        assert_eq!(
            in_range(&port("p", Some("10.0.0.2"), None), others).unwrap_err().message,
            "spec.ip: 10.0.0.2 is one of the allowedAddresses of Port other"
        );
    }

    proptest! {
        #[test]
        fn no_two_ports_share_an_address_and_a_full_subnet_says_so(names in proptest::collection::hash_set("[a-z]{1,6}", 1..12)) {
            let mut made: Vec<Port> = Vec::new();
            for name in names {
                let mut next = port(&name, None, None);
                match in_range(&next, &made) {
                    Ok((ip, mac)) => {
                        (next.spec.ip, next.spec.mac) = (Some(ip), Some(mac));
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
