//! The IPv6 address of a Port: the one it asks for, the one that its card makes for itself, or the lowest free one. However large
//! the range is, no more is looked at than there are addresses in use.

use crds::mac::parse_mac;
use crds::{Port, PortSpec, Subnet6};
use kube::ResourceExt;
use std::net::Ipv6Addr;
use std::slice;

use super::{Others, Problem};

impl Others<'_> {
    /// The Port's address, with that hardware address; none in a network without IPv6.
    ///
    /// # Errors
    /// [`Problem`]: what it asks for cannot be had, or none is left.
    pub fn six(&self, spec: &PortSpec, mac: &str) -> Result<Option<Ipv6Addr>, Problem> {
        let mac = parse_mac(mac).unwrap_or_default();
        let all = self.subnets.six();
        let within = match &spec.ipv6_subnet {
            Some(name) => slice::from_ref(self.named_six(name)?),
            None => all,
        };
        match &spec.ipv6 {
            Some(text) => self.asked_six(text, within, mac).map(Some),
            None if all.is_empty() => Ok(None),
            None => self.free_six(within, mac).map(Some),
        }
    }

    fn named_six(&self, name: &str) -> Result<&Subnet6, Problem> {
        self.subnets.six().iter().find(|one| one.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.subnets.six().iter().map(|one| one.name.as_str()).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let message = format!("spec.ipv6Subnet: the network has no IPv6 subnet {name}; it has {has}");
            Problem { reason: "SubnetNotFound", message }
        })
    }

    fn asked_six(&self, text: &str, within: &[Subnet6], mac: [u8; 6]) -> Result<Ipv6Addr, Problem> {
        let bad = |reason, message: String| Err(Problem { reason, message: format!("spec.ipv6: {message}") });
        let Ok(ip) = text.parse::<Ipv6Addr>() else {
            return bad("InvalidAddress", format!("{text} is no IPv6 address"));
        };
        if within.is_empty() {
            return bad("InvalidAddress", "the network has no IPv6 subnet".to_owned());
        }
        if self.subnets.is_gateway(ip) {
            return bad("AddressTaken", format!("{ip} is the network's own address"));
        }
        if !within.iter().any(|one| one.is_usable(ip)) {
            return bad("InvalidAddress", format!("{ip} is not a usable address of {}", join(within)));
        }
        match self.holder_of(ip, mac) {
            Some(holder) => bad("AddressTaken", format!("{ip} is {holder}")),
            None => Ok(ip),
        }
    }

    fn free_six(&self, within: &[Subnet6], mac: [u8; 6]) -> Result<Ipv6Addr, Problem> {
        let free = |subnet: &Subnet6| {
            let made = subnet.made_from(mac).filter(|ip| self.holder_of(*ip, mac).is_none());
            made.or_else(|| {
                let mut all = (u128::from(subnet.first)..=u128::from(subnet.last)).map(Ipv6Addr::from);
                all.find(|ip| subnet.is_usable(*ip) && self.holder_of(*ip, mac).is_none())
            })
        };
        within.iter().find_map(free).ok_or_else(|| Problem {
            reason: "SubnetExhausted",
            message: format!("no free address is left in {}; delete Ports or use a larger subnet", join(within)),
        })
    }

    /// Whose the address is, when it is not the one's with that hardware address.
    fn holder_of(&self, ip: Ipv6Addr, mac: [u8; 6]) -> Option<String> {
        let same = |text: &String| text.parse() == Ok(ip);
        // A Port without MAC asks for its address as well and has not got it.
        let own = |port: &&Port| port.spec.mac.is_some() && port.spec.ipv6.as_ref().is_some_and(same);
        if let Some(other) = self.ports.iter().find(own) {
            return Some(format!("taken by Port {}", other.name_any()));
        }
        if let Some(other) = self.ports.iter().find(|other| other.spec.allowed_addresses.iter().any(same)) {
            return Some(format!("one of the allowedAddresses of Port {}", other.name_any()));
        }
        let subnet = self.subnets.around_six(ip)?;
        let makes = |port: &&Port| {
            let theirs = port.spec.mac.as_deref().and_then(parse_mac).filter(|theirs| *theirs != mac);
            theirs.and_then(|theirs| subnet.made_from(theirs)) == Some(ip)
        };
        self.ports.iter().find(makes).map(|other| format!("the one that the card of Port {} makes", other.name_any()))
    }
}

fn join(subnets: &[Subnet6]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::Subnets;
    use serde_json::{Value, json};

    const MINE: &str = "52:54:00:00:00:99";

    fn subnets() -> Subnets {
        let spec = json!({"subnets": [
            {"name": "four", "cidr": "10.0.0.0/24"},
            {"name": "auto", "cidr": "fd00:1::/64"},
            {"name": "given", "cidr": "fd00:2::/64", "allocation": {"first": "fd00:2::10", "last": "fd00:2::11"}},
        ]});
        Subnets::of(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn port(name: &str, spec: Value) -> Port {
        let mut object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port", "metadata": {"name": name},
            "spec": {"network": "n"}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn got(ports: &[Port], spec: Value) -> Result<Option<String>, String> {
        let subnets = subnets();
        let others = Others { ports, services: &[], subnets: &subnets };
        let found = others.six(&port("mine", spec).spec, MINE);
        found.map(|ip| ip.map(|ip| ip.to_string())).map_err(|problem| problem.message)
    }

    #[test]
    fn what_the_card_makes_is_given_or_the_lowest_free_where_it_makes_none() {
        let of = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(got(&[], json!({})), of("fd00:1::5054:ff:fe00:99"));
        let given = || json!({"ipv6Subnet": "given"});
        assert_eq!(got(&[], given()), of("fd00:2::10"));
        let first = port("a", json!({"ipv6": "fd00:2::10", "mac": "52:54:00:00:00:01"}));
        assert_eq!(got(std::slice::from_ref(&first), given()), of("fd00:2::11"));
        let second = port("b", json!({"allowedAddresses": ["fd00:2:0::11"], "mac": "52:54:00:00:00:02"}));
        let full = "no free address is left in fd00:2::/64; delete Ports or use a larger subnet";
        assert_eq!(got(&[first, second], given()), Err(full.to_owned()));
        let sitting = port("c", json!({"ipv6": "fd00:1::5054:ff:fe00:99", "mac": "52:54:00:00:00:03"}));
        assert_eq!(got(&[sitting], json!({})), of("fd00:1::2"), "another has it: nobody loses what he asked for");
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_its_field() {
        let others = [
            port("own", json!({"ipv6": "fd00:1::7", "mac": "52:54:00:00:00:01"})),
            port("more", json!({"allowedAddresses": ["fd00:1::8"], "mac": "52:54:00:00:00:02"})),
            port("asks", json!({"ipv6": "fd00:1::9"})),
        ];
        for (spec, wanted) in [
            (json!({"ipv6": "fd00:1:0::7"}), "spec.ipv6: fd00:1::7 is taken by Port own"),
            (json!({"ipv6": "fd00:1::8"}), "spec.ipv6: fd00:1::8 is one of the allowedAddresses of Port more"),
            (
                json!({"ipv6": "fd00:1::5054:ff:fe00:1"}),
                "spec.ipv6: fd00:1::5054:ff:fe00:1 is the one that the card of Port own makes",
            ),
            (json!({"ipv6": "fd00:1::1"}), "spec.ipv6: fd00:1::1 is the network's own address"),
            (json!({"ipv6": "fd00:1::"}), "spec.ipv6: fd00:1:: is not a usable address of fd00:1::/64, fd00:2::/64"),
            (
                json!({"ipv6": "fd00:1::20", "ipv6Subnet": "given"}),
                "spec.ipv6: fd00:1::20 is not a usable address of fd00:2::/64",
            ),
            (json!({"ipv6": "10.0.0.7"}), "spec.ipv6: 10.0.0.7 is no IPv6 address"),
            (json!({"ipv6Subnet": "four"}), "spec.ipv6Subnet: the network has no IPv6 subnet four; it has auto, given"),
        ] {
            assert_eq!(got(&others, spec), Err(wanted.to_owned()));
        }
        assert_eq!(
            got(&others, json!({"ipv6": "fd00:1::9"})),
            Ok(Some("fd00:1::9".to_owned())),
            "who asks has not got it"
        );
        let four = Subnets::of(&serde_json::from_value(json!({"subnet": "10.0.0.0/24"})).unwrap()).unwrap();
        let without = Others { ports: &[], services: &[], subnets: &four };
        assert_eq!(without.six(&port("mine", json!({})).spec, MINE), Ok(None));
        let refused = without.six(&port("mine", json!({"ipv6": "fd00::2"})).spec, MINE).unwrap_err();
        assert_eq!(refused.message, "spec.ipv6: the network has no IPv6 subnet");
    }
}
