//! What groups say of a network's ports here: pure.
//!
//! A port without groups is open to its network. One with groups is open where they say so, and closed while any of them
//! cannot be enforced: not there yet, not there any more, or on a host that cannot tell answers from questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crds::SecurityGroup;
use crds::security_group::{RuleDirection, SecurityRule};
use host::firewall::{Access, Direction, Group, GroupId, Guest, Policy, Rate, Remote, Rule, Traffic, Transport};
use kube::ResourceExt;

use super::error::Error;
use super::plan::{Refused, Wanted, WantedPort};
use super::reach::Reach;
use super::terms::link;

/// Whether this host can enforce groups; if not, why.
pub type Ability = Result<(), String>;

/// Reason of a port that names a group which is not there.
const NOT_FOUND: &str = "SecurityGroupNotFound";
/// Reason of a port whose group cannot be understood.
const INVALID: &str = "InvalidSecurityGroup";
/// Reason of a port with groups on a host that cannot enforce them.
const UNABLE: &str = "StatefulFilterUnavailable";

/// What the ports here and elsewhere make of the tenant's groups; nothing when no port here has any, nor a limit. And whose groups cannot
/// be enforced: these ports are closed.
pub fn policy(
    wanted: &Wanted,
    groups: &[Arc<SecurityGroup>],
    ability: &Ability,
) -> Result<(Option<Policy>, Vec<Refused>), Error> {
    let by_name: BTreeMap<String, &SecurityGroup> = groups.iter().map(|group| (group.name_any(), &**group)).collect();
    let rules: BTreeMap<&str, Result<Vec<Rule>, String>> =
        by_name.iter().map(|(name, group)| (name.as_str(), rules(group, &by_name))).collect();
    let (mut guests, mut closed, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    let concerned = |port: &&WantedPort| !port.groups.is_empty() || port.rate != Rate::default();
    for port in wanted.ports.iter().filter(concerned) {
        let access = match enforceable(port, &rules, ability) {
            Ok(()) if port.groups.is_empty() => Access::Open,
            Ok(()) => {
                used.extend(port.groups.iter().map(String::as_str));
                Access::Groups(port.groups.iter().map(|name| id(by_name.get(name).copied())).collect())
            }
            Err((reason, message)) => {
                closed.push(Refused { uid: port.uid.clone(), name: port.name.clone(), reason, message });
                Access::Closed
            }
        };
        guests.push(Guest { tap: link(&port.tap)?, access, rate: port.rate });
    }
    if guests.is_empty() {
        return Ok((None, closed));
    }
    let named = used.iter().filter_map(|name| by_name.get(*name)).flat_map(|group| &group.spec.rules);
    let remotes: BTreeSet<&str> = named.filter_map(|rule| rule.security_group.as_deref()).collect();
    let members = members(wanted);
    let group = |name: &&str| {
        let found = by_name.get(*name)?;
        // Of one that is only named on the other side the members count, not the rules.
        let rules = if used.contains(name) { rules.get(*name)?.clone().unwrap_or_default() } else { Vec::new() };
        Some(Group { id: id(Some(*found)), rules, members: members.get(*name).cloned().unwrap_or_default() })
    };
    let mut groups: Vec<Group> = used.union(&remotes).filter_map(group).collect();
    // Rules may name one that is not there, which has no members.
    if remotes.iter().any(|name| !by_name.contains_key(*name)) {
        groups.push(Group { id: id(None), rules: Vec::new(), members: BTreeSet::new() });
    }
    let complete = !matches!(wanted.reach, Reach::Unknown);
    Ok((Some(Policy { guests, groups, gateway: wanted.gateway, stateful: ability.is_ok(), complete }), closed))
}

fn enforceable(
    port: &WantedPort,
    rules: &BTreeMap<&str, Result<Vec<Rule>, String>>,
    ability: &Ability,
) -> Result<(), (&'static str, String)> {
    if let Err(why) = ability
        && !port.groups.is_empty()
    {
        let message = format!("The port is closed, because this host cannot enforce spec.securityGroups: {why}.");
        return Err((UNABLE, message));
    }
    for name in &port.groups {
        match rules.get(name.as_str()) {
            None => {
                let message = format!(
                    "The port is closed, because there is no SecurityGroup {name} in this namespace: create it, or correct \
                     spec.securityGroups."
                );
                return Err((NOT_FOUND, message));
            }
            Some(Err(why)) => {
                return Err((INVALID, format!("The port is closed, because of SecurityGroup {name}: {why}.")));
            }
            Some(Ok(_)) => {}
        }
    }
    Ok(())
}

/// Addresses of each group's ports, wherever they are.
fn members(wanted: &Wanted) -> BTreeMap<&str, BTreeSet<Ipv4Addr>> {
    let here = wanted.ports.iter().map(|port| (&port.groups, port.ip, &port.further));
    let peers = match &wanted.reach {
        Reach::Across { peers, .. } => peers.as_slice(),
        Reach::Here | Reach::Unknown => &[],
    };
    let mut members: BTreeMap<&str, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (groups, own, further) in here.chain(peers.iter().map(|peer| (&peer.groups, peer.peer.address, &peer.further)))
    {
        for group in groups {
            members.entry(group).or_default().extend(further.iter().copied().chain([own]));
        }
    }
    members
}

fn id(group: Option<&SecurityGroup>) -> GroupId {
    GroupId::of_owner(&group.and_then(|group| group.uid()).unwrap_or_default())
}

/// A group's rules, or which field of it cannot be understood. The schema refuses such a group before; one that was stored
/// under another schema must not open anything.
fn rules(group: &SecurityGroup, by_name: &BTreeMap<String, &SecurityGroup>) -> Result<Vec<Rule>, String> {
    let all = group.spec.rules.iter().enumerate();
    all.map(|(index, rule)| {
        let bad = |field: &str| format!("spec.rules[{index}].{field} cannot be enforced");
        let direction = match rule.direction {
            RuleDirection::Ingress => Direction::Ingress,
            RuleDirection::Egress => Direction::Egress,
        };
        let remote = match (&rule.cidr, &rule.security_group) {
            (None, None) => Remote::Anybody,
            (Some(cidr), None) => Remote::Range(cidr.parse().map_err(|_| bad("cidr"))?),
            (None, Some(name)) => Remote::Members(id(by_name.get(name).copied())),
            (Some(_), Some(_)) => return Err(bad("securityGroup")),
        };
        Ok(Rule { direction, traffic: traffic(rule).map_err(bad)?, remote })
    })
    .collect()
}

/// What is said, or the field that contradicts another.
fn traffic(rule: &SecurityRule) -> Result<Traffic, &'static str> {
    let ports = |transport, number| match (rule.port, rule.end_port) {
        (None, None) => Ok(Traffic::Protocol(number)),
        (Some(first), last) if last.unwrap_or(first) >= first => {
            Ok(Traffic::Ports(transport, first, last.unwrap_or(first)))
        }
        _ => Err("endPort"),
    };
    let protocol = rule.protocol.as_str();
    if rule.port.is_some() && !["TCP", "UDP"].contains(&protocol) {
        return Err("port");
    }
    if rule.icmp_type.is_some() && protocol != "ICMP" {
        return Err("icmpType");
    }
    // Numbers: IANA, "Assigned Internet Protocol Numbers".
    match protocol {
        "Any" => Ok(Traffic::Any),
        "TCP" => ports(Transport::Tcp, 6),
        "UDP" => ports(Transport::Udp, 17),
        "ICMP" => Ok(rule.icmp_type.map_or(Traffic::Protocol(1), |kind| Traffic::Icmp(kind, rule.icmp_code))),
        number => number.parse().map(Traffic::Protocol).map_err(|_| "protocol"),
    }
}

#[cfg(test)]
mod tests;
