//! A network's IPv6 ranges.
//!
//! In a range of /64 of which nothing else is said a Port's address is the one that its card makes for itself from the range and its
//! hardware address (SLAAC, RFC 4862). So guests have it by the router's advertisement alone, nobody has to look for a free one, and no two
//! Ports make the same. Any other range gives the lowest free address, by DHCPv6.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::super::{AddressRange, SubnetSpec};
use super::{InvalidSubnet, invalid};
use crate::mac::interface_id;

/// The longest prefix whose hosts may make their address themselves, and the shortest that dnsmasq serves.
const HALF: u8 = 64;
/// The longest that has room for the network's own address and a Port's.
const LONGEST: u8 = 126;

/// An IPv6 range, and what is the network's own in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet6 {
    /// Its name.
    pub name: String,
    /// The range, without host bits.
    pub range: Ipv6Net,
    /// The network's own address in it.
    pub gateway: Ipv6Addr,
    /// The first address that is given to who asks for none.
    pub first: Ipv6Addr,
    /// The last one.
    pub last: Ipv6Addr,
    /// Whether guests make their address themselves.
    pub autonomous: bool,
}

impl Subnet6 {
    /// Whether a Port can have the address. The lowest of a range is that of all its routers (RFC 4291, 2.6.1).
    #[must_use]
    pub fn is_usable(&self, address: Ipv6Addr) -> bool {
        self.range.contains(&address) && address != self.range.network() && address != self.gateway
    }

    /// The address that a card makes for itself, where cards do.
    #[must_use]
    pub fn made_from(&self, mac: [u8; 6]) -> Option<Ipv6Addr> {
        let made = u128::from(self.range.network()) | u128::from(interface_id(mac));
        Some(Ipv6Addr::from(made)).filter(|address| self.autonomous && self.is_usable(*address))
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range)
    }
}

/// Reads one. `paths`: of its range, its gateway, and what is given out.
pub(super) fn read(one: &SubnetSpec, paths: &[String; 3]) -> Result<Subnet6, InvalidSubnet> {
    let [of_range, of_gateway, of_allocation] = paths;
    let text = &one.cidr;
    let range: Ipv6Net = text.parse().map_err(|_| invalid(of_range, format!("{text} is no IPv6 range")))?;
    if range.addr() != range.network() {
        return Err(invalid(of_range, format!("{range} has host bits set; write {}", range.trunc())));
    }
    if !(HALF..=LONGEST).contains(&range.prefix_len()) {
        return Err(invalid(of_range, format!("{range} must be of /{HALF} to /{LONGEST}")));
    }
    let octets = range.network().octets();
    let is_unicast = octets[0] & 0xe0 == 0x20 || octets[0] & 0xfe == 0xfc;
    if !is_unicast {
        return Err(invalid(of_range, format!("{range} must be in 2000::/3 or fc00::/7")));
    }
    let (lowest, highest) = (u128::from(range.network()) + 1, u128::from(range.broadcast()));
    let host = |field: &str, text: &str| {
        let address: Ipv6Addr = text.parse().map_err(|_| invalid(field, format!("{text} is no IPv6 address")))?;
        match (lowest..=highest).contains(&u128::from(address)) {
            true => Ok(address),
            false => Err(invalid(field, format!("{address} is not a usable address of {range}"))),
        }
    };
    let gateway = one.gateway.as_deref().map_or(Ok(Ipv6Addr::from(lowest)), |text| host(of_gateway, text))?;
    let (first, last) = match &one.allocation {
        None => (Ipv6Addr::from(lowest), Ipv6Addr::from(highest)),
        Some(AddressRange { first, last }) => {
            (host(&format!("{of_allocation}.first"), first)?, host(&format!("{of_allocation}.last"), last)?)
        }
    };
    if last < first {
        return Err(invalid(&format!("{of_allocation}.last"), format!("{last} comes before {first}")));
    }
    let autonomous = range.prefix_len() == HALF && one.allocation.is_none();
    Ok(Subnet6 { name: one.name.clone(), range, gateway, first, last, autonomous })
}

pub(super) fn check_beside(others: &[Subnet6], subnet: &Subnet6, path: &str) -> Result<(), InvalidSubnet> {
    let overlaps = |one: &&Subnet6| one.range.contains(&subnet.range) || subnet.range.contains(&one.range);
    match others.iter().find(overlaps) {
        Some(other) => Err(invalid(path, format!("{subnet} overlaps {other} of subnet {}", other.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Subnets;
    use super::*;
    use serde_json::{Value, json};

    fn read(six: Value) -> Result<Subnets, String> {
        let spec = json!({"subnets": [{"name": "four", "cidr": "10.0.0.0/24"}, six]});
        Subnets::of(&serde_json::from_value(spec).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_card_makes_its_address_where_nothing_else_is_said() {
        let two = read(json!({"name": "six", "cidr": "fd00:1::/64"})).unwrap();
        let [six] = two.six() else { panic!("{two:?}") };
        assert_eq!(six.gateway.to_string(), "fd00:1::1");
        let made = six.made_from([0x52, 0x54, 0, 0, 0, 2]).unwrap();
        assert_eq!(made.to_string(), "fd00:1::5054:ff:fe00:2");
        assert!(two.is_usable(made) && two.is_gateway(six.gateway) && !two.is_usable(six.gateway));
        assert!(!two.is_usable("fd00:1::".parse::<Ipv6Addr>().unwrap()), "the routers' own");
        for other in [
            json!({"name": "six", "cidr": "fd00:1::/80"}),
            json!({"name": "six", "cidr": "fd00:1::/64",
            "allocation": {"first": "fd00:1::100", "last": "fd00:1::1ff"}}),
        ] {
            assert_eq!(read(other).unwrap().six()[0].made_from([2; 6]), None);
        }
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        for (six, wanted) in [
            (json!({"cidr": "fd00::1/64"}), "spec.subnets[1].cidr: fd00::1/64 has host bits set; write fd00::/64"),
            (json!({"cidr": "fd00::/48"}), "spec.subnets[1].cidr: fd00::/48 must be of /64 to /126"),
            (json!({"cidr": "fd00::/127"}), "spec.subnets[1].cidr: fd00::/127 must be of /64 to /126"),
            (json!({"cidr": "fe80::/64"}), "spec.subnets[1].cidr: fe80::/64 must be in 2000::/3 or fc00::/7"),
            (
                json!({"cidr": "fd00::/64", "gateway": "fd00:1::1"}),
                "spec.subnets[1].gateway: fd00:1::1 is not a usable address of fd00::/64",
            ),
            (
                json!({"cidr": "fd00::/64", "allocation": {"first": "fd00::9", "last": "fd00::3"}}),
                "spec.subnets[1].allocation.last: fd00::3 comes before fd00::9",
            ),
        ] {
            let mut six = six;
            six["name"] = json!("six");
            assert_eq!(read(six).unwrap_err(), wanted);
        }
    }

    #[test]
    fn ranges_overlap_within_their_family_alone_and_the_first_is_of_ipv4_unless_all_are_of_ipv6() {
        let of = |cidrs: [&str; 3]| {
            let each = ["a", "b", "c"].iter().zip(cidrs).map(|(name, cidr)| json!({"name": name, "cidr": cidr}));
            let spec = json!({"subnets": each.collect::<Vec<_>>()});
            Subnets::of(&serde_json::from_value(spec).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(of(["10.0.0.0/24", "fd00::/64", "fd00:0:0:1::/64"]).unwrap().six().len(), 2);
        assert_eq!(
            of(["10.0.0.0/24", "fd00::/64", "fd00::100:0/112"]).unwrap_err(),
            "spec.subnets[2].cidr: fd00::100:0/112 overlaps fd00::/64 of subnet b"
        );
        assert_eq!(
            of(["fd00::/64", "10.0.0.0/24", "10.0.1.0/24"]).unwrap_err(),
            "spec.subnets[0].cidr: the first subnet must be of IPv4, or all of IPv6"
        );
        let alone = of(["fd00:1::/64", "fd00:2::/64", "fd00:3::/80"]).unwrap();
        assert_eq!((alone.gateway().to_string(), alone.gateways().count()), ("fd00:1::1".to_owned(), 1));
        assert_eq!((alone.to_string().as_str(), alone.have_four()), ("fd00:1::/64, fd00:2::/64, fd00:3::/80", false));
    }
}
