//! Who has which of a network's addresses: what its Ports and its ServiceIPs are judged by. Pure, but for the lock under which
//! addresses are given.

mod six;

use crds::{InvalidSubnet, Port, PortSpec, ServiceIP, Subnet, Subnets, condition};
use kube::ResourceExt;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Held from reading who has which address until a new holder is written: Ports and ServiceIPs share their network's ranges, and
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
    pub fn invalid_network(name: &str, why: &InvalidSubnet) -> Self {
        Self { reason: "NetworkNotReady", message: format!("spec.network: TenantNetwork {name}: {why}") }
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
    /// Its ranges.
    pub subnets: &'a Subnets,
}

impl Others<'_> {
    /// The Port's address of IPv4; none in a network without.
    ///
    /// # Errors
    /// [`Problem`]: what it asks for cannot be had, or none is left.
    pub fn four(&self, spec: &PortSpec) -> Result<Option<Ipv4Addr>, Problem> {
        match (&spec.ip, spec.subnet.as_deref()) {
            (Some(text), subnet) => self.asked(text, subnet).map(Some),
            (None, None) if !self.subnets.have_four() => Ok(None),
            (None, subnet) => self.free(subnet).map(Some),
        }
    }

    /// The lowest address of the subnet, or of the first that has one, that nobody has or asks for.
    ///
    /// # Errors
    /// [`Problem`]: none is left, or there is no such subnet.
    pub fn free(&self, subnet: Option<&str>) -> Result<Ipv4Addr, Problem> {
        let ports = self.ports.iter().flat_map(|port| port.spec.ip.iter().chain(&port.spec.allowed_addresses));
        let services = self
            .services
            .iter()
            .filter(|one| one.spec.external_network.is_none())
            .flat_map(|one| one.spec.ip.iter().chain(one.status.iter().filter_map(|status| status.ip.as_ref())));
        let taken: HashSet<Ipv4Addr> = ports.chain(services).filter_map(|text| text.parse().ok()).collect();
        let free = |subnet: &Subnet| {
            let all = u32::from(subnet.first)..=u32::from(subnet.last);
            all.map(Ipv4Addr::from).find(|ip| subnet.is_usable(*ip) && !taken.contains(ip))
        };
        let (found, of) = match subnet {
            Some(name) => {
                let subnet = self.named(name)?;
                (free(subnet), subnet.range.to_string())
            }
            None if !self.subnets.have_four() => {
                let message = "spec.network: the network has no IPv4 subnet".to_owned();
                return Err(Problem { reason: "NoIPv4Subnet", message });
            }
            None => (self.subnets.all().find_map(free), self.subnets.to_string()),
        };
        found.ok_or_else(|| Problem {
            reason: "SubnetExhausted",
            message: format!("no free address is left in {of}; delete Ports or use a larger network"),
        })
    }

    /// The subnet that an object's `spec.subnet` asks for.
    fn named(&self, name: &str) -> Result<&Subnet, Problem> {
        self.subnets.named(name).ok_or_else(|| {
            let names: Vec<&str> = self.subnets.all().map(|one| one.name.as_str()).collect();
            let has = if names.is_empty() { "none of IPv4".to_owned() } else { names.join(", ") };
            let message = format!("spec.subnet: the network has no subnet {name}; it has {has}");
            Problem { reason: "SubnetNotFound", message }
        })
    }

    /// The address that an object's `spec.ip` asks for.
    ///
    /// # Errors
    /// [`Problem`]: it is none of the network's, or not of that subnet, or somebody has it.
    pub fn asked(&self, text: &str, subnet: Option<&str>) -> Result<Ipv4Addr, Problem> {
        let bad = |reason, message: String| Err(Problem { reason, message: format!("spec.ip: {message}") });
        let Ok(ip) = text.parse::<Ipv4Addr>() else {
            return bad("InvalidAddress", format!("{text} is no IPv4 address"));
        };
        if self.subnets.is_gateway(ip) {
            return bad("AddressTaken", format!("{ip} is the network's own address"));
        }
        let (usable, of) = match subnet {
            Some(name) => {
                let subnet = self.named(name)?;
                (subnet.is_usable(ip), subnet.range.to_string())
            }
            None => (self.subnets.is_usable(ip), self.subnets.to_string()),
        };
        if !usable {
            return bad("InvalidAddress", format!("{ip} is not a usable address of {of}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subnets() -> Subnets {
        let spec = json!({"subnets": [
            {"name": "front", "cidr": "10.0.0.0/30"},
            {"name": "back", "cidr": "10.0.1.0/24", "allocation": {"first": "10.0.1.10", "last": "10.0.1.11"}},
        ]});
        Subnets::of(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn port(name: &str, ip: &str) -> Port {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port",
            "metadata": {"name": name}, "spec": {"network": "n", "ip": ip, "mac": "52:54:00:00:00:01"}}))
        .unwrap()
    }

    #[test]
    fn the_first_subnet_that_has_one_left_gives_an_address_unless_one_is_named() {
        let subnets = subnets();
        let mut ports = Vec::new();
        let mut next = |subnet: Option<&str>| {
            let got = Others { ports: &ports, services: &[], subnets: &subnets }.free(subnet);
            let told = got.map(|ip| ip.to_string()).map_err(|problem| problem.reason);
            if let Ok(ip) = &told {
                ports.push(port(ip, ip));
            }
            told
        };
        assert_eq!(next(Some("back")), Ok("10.0.1.10".to_owned()));
        assert_eq!(next(None), Ok("10.0.0.2".to_owned()));
        assert_eq!(next(Some("front")), Err("SubnetExhausted"));
        assert_eq!(next(None), Ok("10.0.1.11".to_owned()));
        assert_eq!(next(None), Err("SubnetExhausted"));
        assert_eq!(next(Some("middle")), Err("SubnetNotFound"));
    }

    #[test]
    fn an_address_of_another_subnet_is_refused_with_its_field_and_one_that_is_not_given_out_can_be_asked_for() {
        let subnets = subnets();
        let others = Others { ports: &[], services: &[], subnets: &subnets };
        let refused = |ip: &str, subnet: &str| others.asked(ip, Some(subnet)).unwrap_err().message;
        assert_eq!(refused("10.0.0.2", "back"), "spec.ip: 10.0.0.2 is not a usable address of 10.0.1.0/24");
        assert_eq!(refused("10.0.1.1", "back"), "spec.ip: 10.0.1.1 is the network's own address");
        assert_eq!(refused("10.0.0.2", "no"), "spec.subnet: the network has no subnet no; it has front, back");
        let outside = others.asked("10.0.2.2", None).unwrap_err().message;
        assert_eq!(outside, "spec.ip: 10.0.2.2 is not a usable address of 10.0.0.0/30, 10.0.1.0/24");
        assert_eq!(others.asked("10.0.1.200", None), Ok(Ipv4Addr::new(10, 0, 1, 200)));
    }
}
