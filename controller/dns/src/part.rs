//! What a server is told, as files: one part of the network's own names, one of the tenant's zones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::value::Kind;

/// The network's own names.
pub const NETWORK: &str = "network.json";
/// The tenant's zones.
pub const ZONES: &str = "zones.json";

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The server's own address, which zones name as their name server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<IpAddr>,
    /// Whether names of no zone are asked of the machine's own resolvers.
    #[serde(default)]
    pub forward: bool,
    /// Zones.
    #[serde(default)]
    pub zones: Vec<Zone>,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// Its name; empty for names without a domain.
    pub domain: String,
    /// How long, in seconds, it may be remembered that something is not there.
    pub negative_ttl: u32,
    /// Its records.
    pub records: Vec<Record>,
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The whole name.
    pub name: String,
    /// Type.
    pub kind: Kind,
    /// How long, in seconds, it may be remembered.
    pub ttl: u32,
    /// Values as text.
    pub values: Vec<String>,
}

/// A guest's name and address, as a network's own names are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its host name: one label.
    pub name: String,
    /// Other names of it, each of which counts only where no guest has it as host name.
    pub aliases: Vec<String>,
    /// Its address.
    pub address: IpAddr,
}

/// How long a guest's name may be remembered: little, because the next holder of an address comes at once.
const GUEST_TTL: u32 = 5;

/// The names of a network's guests: alone, within the network's domains, and back from the address. The first domain is the
/// one an address leads to.
pub fn of_network(server: IpAddr, forward: bool, domains: &[String], reverse: &[String], guests: &[Guest]) -> Part {
    let mut addresses: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
    for guest in guests {
        addresses.entry(&guest.name).or_default().push(guest.address);
    }
    for guest in guests {
        for alias in guest.aliases.iter().filter(|alias| !guests.iter().any(|other| other.name == **alias)) {
            addresses.entry(alias).or_default().push(guest.address);
        }
    }
    let zone = |domain: &str| {
        let whole = |name: &str| if domain.is_empty() { name.to_owned() } else { format!("{name}.{domain}") };
        let records = addresses.iter().flat_map(|(name, all)| of_addresses(&whole(name), all)).collect();
        Zone { domain: domain.to_owned(), negative_ttl: GUEST_TTL, records }
    };
    let mut zones: Vec<Zone> = domains.iter().map(|domain| zone(domain)).chain([zone("")]).collect();
    let back = |domain: &String| {
        let named = guests.iter().filter_map(|guest| {
            let name = reverse_name(guest.address);
            name.ends_with(&format!(".{domain}")).then(|| Record {
                name,
                kind: Kind::Ptr,
                ttl: GUEST_TTL,
                values: vec![format!("{}.{}", guest.name, domains.first().map_or("", String::as_str))],
            })
        });
        Zone { domain: domain.clone(), negative_ttl: GUEST_TTL, records: named.collect() }
    };
    zones.extend(reverse.iter().map(back));
    Part { server: Some(server), forward, zones }
}

fn of_addresses(name: &str, all: &[IpAddr]) -> Vec<Record> {
    let of = |kind, of_kind: fn(&IpAddr) -> bool| {
        let values: Vec<String> = all.iter().filter(|address| of_kind(address)).map(ToString::to_string).collect();
        (!values.is_empty()).then(|| Record { name: name.to_owned(), kind, ttl: GUEST_TTL, values })
    };
    [of(Kind::A, IpAddr::is_ipv4), of(Kind::Aaaa, IpAddr::is_ipv6)].into_iter().flatten().collect()
}

/// The name under which an address is looked up.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// The zones in which the addresses of a range are looked up: each covers eight more bits (four in IPv6) than the one above,
/// so a range between two is several of the narrower. One narrower than 256 addresses is the zone around it.
pub fn reverse_zones(first: IpAddr, prefix: u8) -> Vec<String> {
    let (step, cap) = if first.is_ipv4() { (8, 24) } else { (4, 124) };
    let whole = prefix.div_ceil(step).saturating_mul(step).clamp(step, cap);
    let labels = usize::from((if first.is_ipv4() { 32 } else { 128 } - whole) / step);
    let count: u32 = 1 << whole.saturating_sub(prefix);
    let address = |at: u32| match first {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) + (at << (32 - whole))).into()),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + (u128::from(at) << (128 - whole))).into()),
    };
    let zone = |at| reverse_name(address(at)).splitn(labels + 1, '.').last().unwrap_or_default().to_owned();
    (0..count).map(zone).collect()
}

/// Reads a part; an absent file says nothing.
///
/// # Errors
/// The file cannot be read, or is none of ours.
pub fn read(dir: &Path, name: &str) -> std::io::Result<Part> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Part::default()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_looked_up_in_whole_zones() {
        let zones = |first: &str, prefix| reverse_zones(first.parse().unwrap(), prefix);
        assert_eq!(zones("10.62.0.0", 24), ["0.62.10.in-addr.arpa"]);
        assert_eq!(zones("10.62.0.64", 26), ["0.62.10.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0", 8), ["10.in-addr.arpa"]);
        assert_eq!(
            zones("10.62.4.0", 22),
            ["4.62.10.in-addr.arpa", "5.62.10.in-addr.arpa", "6.62.10.in-addr.arpa", "7.62.10.in-addr.arpa"]
        );
        assert_eq!(zones("172.16.0.0", 12).len(), 16);
        assert_eq!(zones("fd00:1::", 32), ["1.0.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fd00::", 64).len(), 1);
    }

    #[test]
    fn a_guest_has_its_name_alone_in_its_domains_and_back() {
        let guest = |name: &str, aliases: &[&str], last: u8| Guest {
            name: name.into(),
            aliases: aliases.iter().map(ToString::to_string).collect(),
            address: IpAddr::from([10, 62, 0, last]),
        };
        let guests = [guest("web", &["db"], 2), guest("db", &["vm", "web", "store"], 3)];
        let domains = ["blue.internal".to_owned()];
        let reverse = ["0.62.10.in-addr.arpa".to_owned()];
        let part = of_network(IpAddr::from([10, 62, 0, 1]), false, &domains, &reverse, &guests);
        let all: Vec<String> = part
            .zones
            .iter()
            .flat_map(|zone| {
                zone.records.iter().map(|one| format!("{} {} {}", one.name, one.kind, one.values.join(",")))
            })
            .collect();
        assert_eq!(
            all,
            [
                "db.blue.internal A 10.62.0.3",
                "store.blue.internal A 10.62.0.3",
                "vm.blue.internal A 10.62.0.3",
                "web.blue.internal A 10.62.0.2",
                "db A 10.62.0.3",
                "store A 10.62.0.3",
                "vm A 10.62.0.3",
                "web A 10.62.0.2",
                "2.0.62.10.in-addr.arpa PTR web.blue.internal",
                "3.0.62.10.in-addr.arpa PTR db.blue.internal",
            ]
        );
    }
}
