//! What a name server is told: pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crds::{DNSRecordSet, DNSZone};
use dns::part::Guest;
use dns::{Candidate, Kind, Part, Record, Zone, judge, part, value};
use ipnet::IpNet;
use kube::ResourceExt;

/// The last label of the domains that are made by themselves; it is nobody's in the world (ICANN, 2024).
const OWN_DOMAIN: &str = "internal";

/// A network, as far as its names go.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its ranges.
    pub ranges: &'a [IpNet],
    /// Its own address.
    pub gateway: IpAddr,
    /// The domain that DHCP hands out.
    pub domain: Option<&'a str>,
    /// Whether other names are asked of the host's resolvers.
    pub forward: bool,
}

/// A network's own names: its guests', alone, in `NETWORK.internal` and in the domain handed out.
pub fn networks_part(network: &Network<'_>, guests: &[Guest]) -> Part {
    let own = format!("{}.{OWN_DOMAIN}", network.name);
    let mut domains: Vec<String> = network.domain.map(str::to_owned).into_iter().collect();
    if !domains.contains(&own) {
        domains.push(own);
    }
    domains.retain(|domain| value::is_name(domain));
    // Two narrow ranges may be looked up in one zone.
    let zones = |range: &IpNet| part::reverse_zones(range.network(), range.prefix_len());
    let reverse: BTreeSet<String> = network.ranges.iter().flat_map(zones).collect();
    let reverse: Vec<String> = reverse.into_iter().collect();
    let guests: Vec<Guest> =
        guests.iter().filter(|guest| is_host_name(&guest.name)).cloned().map(with_fit_aliases).collect();
    part::of_network(network.gateway, network.forward, &domains, &reverse, &guests)
}

/// The name of a machine or load balancer may have dots, which no host name has.
fn with_fit_aliases(mut guest: Guest) -> Guest {
    guest.aliases.retain(|alias| is_host_name(alias));
    guest
}

fn is_host_name(text: &str) -> bool {
    !text.contains('.') && value::is_name(text)
}

/// A tenant's zones with the records that can be served; the rest is told by its reconciler.
pub fn tenants_part(zones: &[Arc<DNSZone>], sets: &[Arc<DNSRecordSet>]) -> Part {
    let mut by_zone: HashMap<&str, Vec<&Arc<DNSRecordSet>>> = HashMap::new();
    for set in sets {
        by_zone.entry(&set.spec.zone).or_default().push(set);
    }
    let mut zones: Vec<&Arc<DNSZone>> = zones.iter().collect();
    zones.sort_by_key(|zone| (zone.metadata.creation_timestamp.as_ref().map(|time| time.0), zone.name_any()));
    let mut domains = std::collections::HashSet::new();
    let mut wanted = Vec::new();
    for zone in zones {
        let domain = &zone.spec.domain;
        // Of two the older is served.
        if !value::is_name(domain) || !domains.insert(domain) {
            continue;
        }
        let sets = by_zone.remove(zone.name_any().as_str()).unwrap_or_default();
        wanted.push(Zone {
            domain: domain.clone(),
            negative_ttl: zone.spec.negative_ttl_seconds,
            records: records(zone, &sets),
        });
    }
    Part { server: None, forward: false, zones: wanted }
}

fn records(zone: &DNSZone, sets: &[&Arc<DNSRecordSet>]) -> Vec<Record> {
    let mut by_name: HashMap<&str, Vec<&Arc<DNSRecordSet>>> = HashMap::new();
    for set in sets {
        by_name.entry(&set.spec.name).or_default().push(set);
    }
    let mut all = Vec::new();
    for (name, sets) in by_name {
        let Some(name) = value::owner(name, &zone.spec.domain) else { continue };
        let ids: Vec<String> = sets.iter().map(|set| set.name_any()).collect();
        let candidates: Vec<Candidate<'_>> = sets.iter().zip(&ids).filter_map(|(set, id)| candidate(set, id)).collect();
        for (candidate, verdict) in candidates.iter().zip(judge(&candidates)) {
            let set = sets.iter().find(|set| set.name_any() == candidate.id);
            if let (Ok(()), Some(set)) = (verdict, set) {
                all.push(Record {
                    name: name.clone(),
                    kind: candidate.kind,
                    ttl: set.spec.ttl_seconds.unwrap_or(zone.spec.ttl_seconds),
                    values: set.spec.values.clone(),
                });
            }
        }
    }
    // The same objects make the same file.
    all.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    all
}

fn candidate<'a>(set: &'a DNSRecordSet, id: &'a str) -> Option<Candidate<'a>> {
    let age = set.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    Some(Candidate { id, age, kind: Kind::named(set.spec.type_.word())?, values: &set.spec.values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(kind: &str, name: &str, second: u8, spec: Value) -> Value {
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec, "metadata": {
            "name": name, "namespace": "t", "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")}})
    }

    fn zone(name: &str, second: u8, domain: &str) -> Arc<DNSZone> {
        Arc::new(serde_json::from_value(object("DNSZone", name, second, json!({"domain": domain}))).unwrap())
    }

    fn set(name: &str, second: u8, spec: Value) -> Arc<DNSRecordSet> {
        Arc::new(serde_json::from_value(object("DNSRecordSet", name, second, spec)).unwrap())
    }

    #[test]
    fn what_can_be_served_is_and_the_rest_is_not() {
        let zones = [zone("young", 2, "shop.internal"), zone("shop", 1, "shop.internal")];
        let a =
            |zone: &str, name: &str, value: &str| json!({"zone": zone, "name": name, "type": "A", "values": [value]});
        let sets = [
            set("web", 1, a("shop", "web", "10.0.0.1")),
            set("later", 2, a("shop", "web", "10.0.0.2")),
            set("apex", 1, json!({"zone": "shop", "name": "@", "type": "TXT", "values": ["x"], "ttlSeconds": 7})),
            set("bad", 1, a("shop", "bad", "10.0.0.300")),
            set("of-the-young", 1, a("young", "x", "10.0.0.1")),
            set("of-nobody", 1, a("none", "x", "10.0.0.1")),
        ];
        let part = tenants_part(&zones, &sets);
        assert_eq!(part.zones.len(), 1);
        let all: Vec<_> =
            part.zones[0].records.iter().map(|one| (one.name.as_str(), one.ttl, one.values.concat())).collect();
        assert_eq!(all, [("shop.internal", 7, "x".to_owned()), ("web.shop.internal", 300, "10.0.0.1".to_owned())]);
        let reversed: Vec<_> = sets.iter().rev().cloned().collect();
        assert_eq!(tenants_part(&zones, &reversed), part, "the order in which they were heard says nothing");
    }

    #[test]
    fn guests_are_named_alone_in_their_network_and_in_the_domain_handed_out() {
        let network = Network {
            name: "blue",
            ranges: &["10.62.0.0/25", "10.62.0.128/25", "10.63.0.0/24"].map(|text| text.parse().unwrap()),
            gateway: IpAddr::from([10, 62, 0, 1]),
            domain: Some("corp.internal"),
            forward: false,
        };
        let guest = |name: &str, alias: &str| Guest {
            name: name.into(),
            aliases: vec![alias.to_owned()],
            address: IpAddr::from([10, 62, 0, 2]),
        };
        let part = networks_part(&network, &[guest("web-eth0", "web"), guest("a.b", "c.d")]);
        let domains: Vec<_> = part.zones.iter().map(|zone| zone.domain.as_str()).collect();
        assert_eq!(domains[3..], ["0.62.10.in-addr.arpa", "0.63.10.in-addr.arpa"], "each zone once");
        let names: Vec<_> = part.zones.iter().flat_map(|zone| &zone.records).map(|one| one.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "web.corp.internal",
                "web-eth0.corp.internal",
                "web.blue.internal",
                "web-eth0.blue.internal",
                "web",
                "web-eth0",
                "2.0.62.10.in-addr.arpa",
            ]
        );
    }
}
