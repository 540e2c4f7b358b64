//! A network's ranges, read once for everybody: who gives addresses, who guards them and who explains must not differ about
//! which range an address is in, or which one is the network's own.
//!
//! A network says `subnet`, or `subnets`. The first is the same as one subnet by the name [`ONLY`]. In the first subnet the network is spoken
//! to: it is of IPv4, unless all are of IPv6. Those of IPv6 stand beside the others ([`Subnets::six`]), for a Port has an address of each
//! family that its network has.

mod six;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use six::Subnet6;

use ipnet::Ipv4Net;

use super::{AddressRange, SubnetSpec, TenantNetworkSpec};

/// Name of the subnet of a network that says `subnet`.
pub const ONLY: &str = "default";

/// Addresses that a network's ranges may have together: hosts tell them apart by numbers of 26 bits.
const MOST: u64 = 1 << 26;

/// An IPv4 range, and what is the network's own in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its name.
    pub name: String,
    /// The range, without host bits.
    pub range: Ipv4Net,
    /// The network's own address in it.
    pub gateway: Ipv4Addr,
    /// The first address that is given to who asks for none.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
}

impl Subnet {
    /// Whether a Port or service can have the address.
    #[must_use]
    pub fn is_usable(&self, address: Ipv4Addr) -> bool {
        is_host(self.range, address) && address != self.gateway
    }
}

/// What a network's ranges cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct InvalidSubnet {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

/// A network's ranges: at least one, and none that overlaps another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnets {
    gateway: IpAddr,
    all: Vec<Subnet>,
    six: Vec<Subnet6>,
}

impl Subnets {
    /// Reads them.
    ///
    /// # Errors
    /// [`InvalidSubnet`]. Most of it the schema refuses; what was stored under an older one is refused here.
    pub fn of(network: &TenantNetworkSpec) -> Result<Subnets, InvalidSubnet> {
        let (mut all, mut six) = (Vec::new(), Vec::new());
        match (&network.subnet, network.subnets.as_slice()) {
            (Some(range), []) => {
                let paths = ["spec.subnet", "spec.gateway", "spec"].map(str::to_owned);
                all.push(read(&paths, ONLY, range, network.gateway.as_deref(), None)?);
            }
            (None, subnets) => {
                for (index, one) in subnets.iter().enumerate() {
                    let paths = ["cidr", "gateway", "allocation"].map(|field| format!("spec.subnets[{index}].{field}"));
                    if one.is_six() {
                        let subnet = six::read(one, &paths)?;
                        six::check_beside(&six, &subnet, &paths[0])?;
                        six.push(subnet);
                        continue;
                    }
                    let subnet = read(&paths, &one.name, &one.cidr, one.gateway.as_deref(), one.allocation.as_ref())?;
                    check_beside(&all, &subnet, &paths[0])?;
                    all.push(subnet);
                }
                if !all.is_empty() && subnets.first().is_some_and(SubnetSpec::is_six) {
                    return Err(invalid("spec.subnets[0].cidr", "the first subnet must be of IPv4, or all of IPv6"));
                }
                let size = |one: &Subnet| 1_u64 << (32 - one.range.prefix_len());
                if all.iter().map(size).sum::<u64>() > MOST {
                    return Err(invalid("spec.subnets", "four ranges of /8 together are the most"));
                }
            }
            (Some(_), _) => return Err(invalid("spec.subnets", "a network has subnet or subnets, not both")),
        }
        let first = gateways(&all, &six).next();
        let gateway = first.ok_or_else(|| invalid("spec.subnet", "a network needs a subnet"))?;
        Ok(Subnets { gateway, all, six })
    }

    /// The network's own address in its first subnet, at which it is spoken to.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Its own first address of each family: there it is asked for names.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        gateways(&self.all, &self.six)
    }

    /// All of IPv4, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Subnet> {
        self.all.iter()
    }

    /// Those of IPv6, in their order.
    #[must_use]
    pub fn six(&self) -> &[Subnet6] {
        &self.six
    }

    /// Whether guests have IPv4.
    #[must_use]
    pub fn have_four(&self) -> bool {
        !self.all.is_empty()
    }

    /// Whether guests have IPv6.
    #[must_use]
    pub fn have_six(&self) -> bool {
        !self.six.is_empty()
    }

    /// The one of IPv6 that the address is in.
    #[must_use]
    pub fn around_six(&self, address: Ipv6Addr) -> Option<&Subnet6> {
        self.six.iter().find(|one| one.range.contains(&address))
    }

    /// What a card makes for itself beside its Port's own address: one in each range in which cards do, for all are advertised on one link.
    pub fn made_beside(&self, own: Option<Ipv6Addr>, mac: [u8; 6]) -> impl Iterator<Item = Ipv6Addr> {
        let made = self.six.iter().filter(move |_| own.is_some()).filter_map(move |one| one.made_from(mac));
        made.filter(move |made| Some(*made) != own)
    }

    /// Whether there are several of IPv4, between which somebody has to route.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The one of IPv4 of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Subnet> {
        self.all().find(|one| one.name == name)
    }

    /// The one of IPv4 that the address is in.
    #[must_use]
    pub fn around(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.all().find(|one| one.range.contains(&address))
    }

    /// Whether the address is in one of them.
    #[must_use]
    pub fn contain(&self, address: impl Into<IpAddr>) -> bool {
        match address.into() {
            IpAddr::V4(address) => self.around(address).is_some(),
            IpAddr::V6(address) => self.around_six(address).is_some(),
        }
    }

    /// Whether a Port or service can have the address.
    #[must_use]
    pub fn is_usable(&self, address: impl Into<IpAddr>) -> bool {
        match address.into() {
            IpAddr::V4(address) => self.around(address).is_some_and(|subnet| subnet.is_usable(address)),
            IpAddr::V6(address) => self.around_six(address).is_some_and(|subnet| subnet.is_usable(address)),
        }
    }

    /// Whether the address is the network's own.
    #[must_use]
    pub fn is_gateway(&self, address: impl Into<IpAddr>) -> bool {
        match address.into() {
            IpAddr::V4(address) => self.all().any(|one| one.gateway == address),
            IpAddr::V6(address) => self.six.iter().any(|one| one.gateway == address),
        }
    }
}

/// The ranges of IPv4, as in `10.0.0.0/24, 10.0.1.0/24`; where there are none, those of IPv6.
impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let four = self.all.iter().map(|one| one.range.to_string());
        let six = self.six.iter().filter(|_| !self.have_four()).map(ToString::to_string);
        f.write_str(&four.chain(six).collect::<Vec<_>>().join(", "))
    }
}

fn gateways(all: &[Subnet], six: &[Subnet6]) -> impl Iterator<Item = IpAddr> {
    let four = all.first().map(|one| IpAddr::V4(one.gateway));
    four.into_iter().chain(six.first().map(|one| IpAddr::V6(one.gateway)))
}

fn invalid(field: &str, what: impl Into<String>) -> InvalidSubnet {
    InvalidSubnet { field: field.to_owned(), what: what.into() }
}

fn is_host(range: Ipv4Net, address: Ipv4Addr) -> bool {
    let of_the_range = range.prefix_len() < 31 && (address == range.network() || address == range.broadcast());
    range.contains(&address) && !of_the_range
}

/// One of them. `paths`: of its range, its gateway, and what is given out.
fn read(
    paths: &[String; 3],
    name: &str,
    range: &str,
    gateway: Option<&str>,
    allocation: Option<&AddressRange>,
) -> Result<Subnet, InvalidSubnet> {
    let [of_range, of_gateway, of_allocation] = paths;
    let range: Ipv4Net = range.parse().map_err(|_| invalid(of_range, format!("{range} is no IPv4 range")))?;
    if range.addr() != range.network() {
        return Err(invalid(of_range, format!("{range} has host bits set; write {}", range.trunc())));
    }
    let host = |field: &str, text: &str| {
        let address: Ipv4Addr = text.parse().map_err(|_| invalid(field, format!("{text} is no IPv4 address")))?;
        match is_host(range, address) {
            true => Ok(address),
            false => Err(invalid(field, format!("{address} is not a usable address of {range}"))),
        }
    };
    let mut hosts = range.hosts();
    let (lowest, highest) = match (hosts.next(), hosts.next_back()) {
        (Some(lowest), Some(highest)) => (lowest, highest),
        _ => return Err(invalid(of_range, format!("{range} has no usable address"))),
    };
    let gateway = gateway.map_or(Ok(lowest), |text| host(of_gateway, text))?;
    let (first, last) = match allocation {
        None => (lowest, highest),
        Some(given) => (
            host(&format!("{of_allocation}.first"), &given.first)?,
            host(&format!("{of_allocation}.last"), &given.last)?,
        ),
    };
    if last < first {
        return Err(invalid(&format!("{of_allocation}.last"), format!("{last} comes before {first}")));
    }
    Ok(Subnet { name: name.to_owned(), range, gateway, first, last })
}

fn check_beside(others: &[Subnet], subnet: &Subnet, path: &str) -> Result<(), InvalidSubnet> {
    let overlaps = |one: &&Subnet| one.range.contains(&subnet.range) || subnet.range.contains(&one.range);
    match others.iter().find(overlaps) {
        Some(other) => {
            Err(invalid(path, format!("{} overlaps {} of subnet {}", subnet.range, other.range, other.name)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value) -> Result<Subnets, String> {
        Subnets::of(&serde_json::from_value(spec).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_subnet_is_the_short_form_of_a_list_of_one() {
        let short = read(json!({"subnet": "10.0.0.0/24", "gateway": "10.0.0.9"})).unwrap();
        let long = json!({"subnets": [{"name": "default", "cidr": "10.0.0.0/24", "gateway": "10.0.0.9"}]});
        assert_eq!(short, read(long).unwrap());
        assert!(!short.are_several() && short.is_gateway([10, 0, 0, 9]));
        assert_eq!(short.all().next().unwrap().first, Ipv4Addr::new(10, 0, 0, 1));
    }

    #[test]
    fn an_address_is_in_one_of_them_or_in_none() {
        let two = read(json!({"subnets": [
            {"name": "a", "cidr": "10.0.0.0/24"},
            {"name": "b", "cidr": "10.0.1.0/28", "allocation": {"first": "10.0.1.4", "last": "10.0.1.6"}},
        ]}));
        let two = two.unwrap();
        assert_eq!(two.to_string(), "10.0.0.0/24, 10.0.1.0/28");
        assert_eq!(two.around([10, 0, 1, 5].into()).unwrap().name, "b");
        let usable = |last: [u8; 4]| two.is_usable(last);
        assert!(usable([10, 0, 0, 2]) && usable([10, 0, 1, 14]));
        for not in [[10, 0, 0, 1], [10, 0, 1, 1], [10, 0, 0, 0], [10, 0, 1, 15], [10, 0, 1, 16], [10, 0, 2, 1]] {
            assert!(!usable(not), "{not:?}");
        }
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        let pair = |second: Value| json!({"subnets": [{"name": "a", "cidr": "10.0.0.0/16"}, second]});
        for (spec, wanted) in [
            (json!({"subnet": "10.0.0.5/24"}), "spec.subnet: 10.0.0.5/24 has host bits set; write 10.0.0.0/24"),
            (
                json!({"subnet": "10.0.0.0/24", "gateway": "10.0.0.255"}),
                "spec.gateway: 10.0.0.255 is not a usable address of 10.0.0.0/24",
            ),
            (json!({}), "spec.subnet: a network needs a subnet"),
            (
                json!({"subnets": (1..6).map(|n| json!({"name": n.to_string(), "cidr": format!("{n}.0.0.0/8")})).collect::<Vec<_>>()}),
                "spec.subnets: four ranges of /8 together are the most",
            ),
            (
                pair(json!({"name": "b", "cidr": "10.0.7.0/24"})),
                "spec.subnets[1].cidr: 10.0.7.0/24 overlaps 10.0.0.0/16 of subnet a",
            ),
            (
                pair(json!({"name": "b", "cidr": "10.1.0.0/24", "gateway": "10.0.0.1"})),
                "spec.subnets[1].gateway: 10.0.0.1 is not a usable address of 10.1.0.0/24",
            ),
            (
                pair(
                    json!({"name": "b", "cidr": "10.1.0.0/24", "allocation": {"first": "10.1.0.9", "last": "10.1.0.3"}}),
                ),
                "spec.subnets[1].allocation.last: 10.1.0.3 comes before 10.1.0.9",
            ),
        ] {
            assert_eq!(read(spec).unwrap_err(), wanted);
        }
    }
}
