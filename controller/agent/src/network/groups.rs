//! What groups say of a network's ports here: pure.
//!
//! A port without groups is open to its network. One with groups is open where they say so, and closed while any of them
//! cannot be enforced: not there yet, not there any more, or on a host that cannot tell answers from questions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::SecurityGroup;
use crds::security_group::RuleDirection;
use host::firewall::{Access, Direction, Group, GroupId, Guest, Policy, Rate, Remote, Rule};
use kube::ResourceExt;
use reachability::{Groups, rule};

use super::error::Error;
use super::plan::{Refused, Wanted, WantedPort};
use super::reach::{Elsewhere, Reach};
use super::terms::link;

pub use reachability::Ability;

/// What the ports here and elsewhere make of the tenant's groups; nothing when no port here has any, nor a limit. And whose groups cannot
/// be enforced: these ports are closed.
pub fn policy(
    wanted: &Wanted,
    groups: &[Arc<SecurityGroup>],
    ability: &Ability,
) -> Result<(Option<Policy>, Vec<Refused>), Error> {
    let by_name: BTreeMap<String, &SecurityGroup> = groups.iter().map(|group| (group.name_any(), &**group)).collect();
    let read = Groups::read(by_name.values().copied());
    let (mut guests, mut closed, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    let concerned = |port: &&WantedPort| !port.groups.is_empty() || port.rate != Rate::default();
    for port in wanted.ports.iter().filter(concerned) {
        let access = match read.enforceable(&port.groups, ability) {
            Ok(()) if port.groups.is_empty() => Access::Open,
            Ok(()) => {
                used.extend(port.groups.iter().map(String::as_str));
                Access::Groups(port.groups.iter().map(|name| id(by_name.get(name).copied())).collect())
            }
            Err(why) => {
                let (reason, message) = (why.reason(), why.to_string());
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
        let rules = if used.contains(name) { read.rules(name) } else { &[] };
        let rules = rules.iter().map(|rule| in_terms(rule, &by_name)).collect();
        Some(Group { id: id(Some(*found)), rules, members: members.get(*name).cloned().unwrap_or_default() })
    };
    let mut groups: Vec<Group> = used.union(&remotes).filter_map(group).collect();
    // Rules may name one that is not there, which has no members.
    if remotes.iter().any(|name| !by_name.contains_key(*name)) {
        groups.push(Group { id: id(None), rules: Vec::new(), members: BTreeSet::new() });
    }
    let complete = !matches!(wanted.reach, Reach::Unknown);
    let gateways = wanted.subnets.all().map(|subnet| subnet.gateway).collect();
    Ok((
        Some(Policy { guests, groups, gateways, six: wanted.subnets.have_six(), stateful: ability.is_ok(), complete }),
        closed,
    ))
}

/// Addresses of each group's ports, wherever they are.
fn members(wanted: &Wanted) -> BTreeMap<&str, BTreeSet<IpAddr>> {
    let here = wanted.ports.iter().map(|port| (&port.groups, port.own().collect::<Vec<_>>(), &port.further));
    let peers = match &wanted.reach {
        Reach::Across { peers, .. } => peers.as_slice(),
        Reach::Here | Reach::Unknown => &[],
    };
    let own = |peer: &Elsewhere| [peer.peer.address].into_iter().chain(peer.six.map(IpAddr::V6)).collect();
    let all = here.chain(peers.iter().map(|peer| (&peer.groups, own(peer), &peer.further)));
    reachability::members(all.map(|(groups, own, further)| (groups.as_slice(), further.iter().copied().chain(own))))
}

fn id(group: Option<&SecurityGroup>) -> GroupId {
    GroupId::of_owner(&group.and_then(|group| group.uid()).unwrap_or_default())
}

/// A rule in the packet filter's terms.
fn in_terms(rule: &rule::Rule, by_name: &BTreeMap<String, &SecurityGroup>) -> Rule {
    let direction = match rule.direction {
        RuleDirection::Ingress => Direction::Ingress,
        RuleDirection::Egress => Direction::Egress,
    };
    let remote = match &rule.remote {
        rule::Remote::Anybody => Remote::Anybody,
        rule::Remote::Range(range) => Remote::Range(*range),
        rule::Remote::Group(name) => Remote::Members(id(by_name.get(name).copied())),
    };
    Rule { direction, traffic: rule.traffic, remote }
}

#[cfg(test)]
mod packets;
#[cfg(test)]
mod tests;
