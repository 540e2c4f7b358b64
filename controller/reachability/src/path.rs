//! One conversation's way, hop by hop, as far as the objects tell it.
//!
//! ```text
//!  guest ─► tap ─► what its groups say ─► bridge ─► (gateway) ─► (tunnel ─► bridge) ─► what the other's groups say ─► tap ─► guest
//!
//!  between networks:                                 gateway ─► (tunnel) ─► router ─► (tunnel ─► router …) ─► (tunnel) ─► bridge
//! ```
//!
//! The way ends at the first hop that stops it. A hop of which its object says that something is amiss (not ready, no address
//! on the underlay) is suspect: the rules let the packet pass, but it may not get further.

use std::fmt;

use crds::security_group::RuleDirection;
use crds::{Host, condition};
use kube::ResourceExt;
use serde::Serialize;
use traffic::{Conversation, Family};

use crate::endpoint::Endpoint;
use crate::verdict::{Ruling, Verdict};
use crate::way::Passed;
use crate::world::World;

/// Where on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// A guest's own network stack.
    Guest,
    /// The device between a guest and its network.
    Tap,
    /// What the sender's groups say.
    RuleOut,
    /// The network on one host.
    Bridge,
    /// The network's own address, which routes between its subnets where the sender is.
    Gateway,
    /// From host to host.
    Tunnel,
    /// Who passes it on to another network.
    Router,
    /// What the receiver's groups say.
    RuleIn,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::Tap => "tap",
            Self::RuleOut => "rule out",
            Self::Bridge => "bridge",
            Self::Gateway => "gateway",
            Self::Tunnel => "tunnel",
            Self::Router => "router",
            Self::RuleIn => "rule in",
        })
    }
}

/// What becomes of the packet there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It goes on.
    Passes,
    /// It should go on, but an object says that something is amiss here.
    Suspect,
    /// It goes no further.
    Stops,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passes => "passes",
            Self::Suspect => "suspect",
            Self::Stops => "stops",
        })
    }
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Where.
    pub place: Place,
    /// Whose, by its name.
    pub of: String,
    /// What becomes of the packet.
    pub fate: Fate,
    /// Why, or what there is.
    pub why: String,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.place, self.of, self.why)
    }
}

impl World {
    /// The way of a conversation, up to where it is stopped.
    #[must_use]
    pub fn path(&self, from: &Endpoint, to: &Endpoint, what: Conversation) -> Vec<Hop> {
        let verdict = self.verdict(from, to, what);
        let family = what.family();
        let mut hops = vec![guest(from, family), tap(from)];
        match &verdict {
            Verdict::AnotherNetwork => {
                let way = match family {
                    Family::Four => "no way",
                    Family::Six => "no way of IPv6",
                };
                let back = if family == Family::Four && self.way(from, to).is_some() { " and back" } else { "" };
                let why = format!("{way} leads from here to TenantNetwork {}{back}", to.network);
                hops.push(Hop { place: Place::Bridge, of: from.network.clone(), fate: Fate::Stops, why });
            }
            Verdict::Absent { port, why } if *port == from.name => hops.extend(left_out(from, why)),
            Verdict::Absent { why, .. } => {
                hops.push(tap(to));
                hops.extend(left_out(to, why));
            }
            Verdict::Judged { out, into } => {
                hops.push(self.rule(from, out, RuleDirection::Egress));
                hops.push(bridge(from));
                hops.extend(gateway(from, to).filter(|_| family == Family::Four));
                hops.extend(self.between(from, to));
                hops.push(self.rule(to, into, RuleDirection::Ingress));
                hops.extend([tap(to), guest(to, family)]);
            }
        }
        let end = hops.iter().position(|hop| hop.fate == Fate::Stops);
        hops.truncate(end.map_or(hops.len(), |end| end + 1));
        hops
    }

    /// From the one's bridge to the other's: routers, and tunnels where the next is on another host.
    fn between(&self, from: &Endpoint, to: &Endpoint) -> Vec<Hop> {
        let mut hops = Vec::new();
        let (mut host, mut network) = (from.host.as_deref(), from.network.as_str());
        for passed in self.way(from, to).unwrap_or_default() {
            let next = passed.router.status.as_ref().and_then(|status| status.host.as_deref());
            if next.is_some() && next != host {
                hops.push(self.tunnel(&from.namespace, network, host, next));
            }
            hops.push(router(&passed));
            (host, network) = (next, passed.exit.network.as_str());
        }
        if host.is_some() && host != to.host.as_deref() {
            hops.push(self.tunnel(&to.namespace, network, host, to.host.as_deref()));
        }
        if !hops.is_empty() {
            hops.push(bridge(to));
        }
        hops
    }

    /// Where a conversation that the rules allow might be stopped nevertheless, as far as objects tell.
    #[must_use]
    pub fn suspect(&self, from: &Endpoint, to: &Endpoint, what: Conversation) -> Option<Hop> {
        self.path(from, to, what).into_iter().find(|hop| hop.fate == Fate::Suspect)
    }

    fn rule(&self, at: &Endpoint, ruling: &Ruling, direction: RuleDirection) -> Hop {
        let place = if direction == RuleDirection::Egress { Place::RuleOut } else { Place::RuleIn };
        let fate = if ruling.passes() { Fate::Passes } else { Fate::Stops };
        let said = match ruling {
            Ruling::Rule { group, index } => {
                let rule = self.groups(&at.namespace).and_then(|groups| groups.rules(group).get(*index));
                rule.map(ToString::to_string)
            }
            Ruling::DefaultDeny(_) => Some(format!("of SecurityGroups {}", at.groups.join(", "))),
            Ruling::Closed(why) => Some(why.to_string()),
            Ruling::NoGroup | Ruling::FreeEgress => None,
        };
        let why = said.map_or_else(|| ruling.to_string(), |said| format!("{ruling}: {said}"));
        Hop { place, of: at.name.clone(), fate, why }
    }

    fn tunnel(&self, namespace: &str, network: &str, near: Option<&str>, far: Option<&str>) -> Hop {
        let vni = self.network_named(namespace, network).and_then(|network| network.status.as_ref()?.vni);
        let (near, far) = (self.end_of_tunnel(near), self.end_of_tunnel(far));
        let amiss = match (vni, &near, &far) {
            (None, ..) => Some(format!("TenantNetwork {network} has no VNI yet")),
            (_, Err(why), _) | (.., Err(why)) => Some(why.clone()),
            _ => None,
        };
        let told = |end: Result<String, String>| end.unwrap_or_default();
        let why = amiss
            .clone()
            .unwrap_or_else(|| format!("VNI {}, {} to {}", vni.unwrap_or_default(), told(near), told(far)));
        let fate = if amiss.is_some() { Fate::Suspect } else { Fate::Passes };
        Hop { place: Place::Tunnel, of: network.to_owned(), fate, why }
    }

    /// A host with its address on the underlay, or what is wrong with it.
    fn end_of_tunnel(&self, host: Option<&str>) -> Result<String, String> {
        let name = host.unwrap_or_default().to_owned();
        let Some(host) = self.host(&name) else {
            // Tenants may not see Hosts.
            return if self.sees_hosts() { Err(format!("there is no Host {name}")) } else { Ok(name) };
        };
        if let Some(why) = trouble_of(host) {
            return Err(why);
        }
        match host.status.as_ref().and_then(|status| status.underlay_address.clone()) {
            Some(address) => Ok(format!("{name} ({address})")),
            None => Err(format!("Host {name} has no address on the underlay")),
        }
    }
}

fn trouble_of(host: &Host) -> Option<String> {
    let conditions = host.status.iter().flat_map(|status| &status.conditions);
    let no = conditions.into_iter().find(|one| one.type_ == condition::READY && one.status != "True")?;
    Some(format!("Host {} is Ready={} ({}): {}", host.name_any(), no.status, no.reason, no.message))
}

/// A router whose status says that it does not route might.
fn router(passed: &Passed<'_>) -> Hop {
    let (name, status) = (passed.router.name_any(), passed.router.status.as_ref());
    let no = status.and_then(|status| {
        status.conditions.iter().find(|one| one.type_ == condition::READY && one.status != "True").cloned()
    });
    let host = status.and_then(|status| status.host.as_deref());
    let (fate, why) = match (no, host) {
        (Some(no), _) => {
            (Fate::Suspect, format!("Router {name} is Ready={} ({}): {}", no.status, no.reason, no.message))
        }
        (None, None) => (Fate::Suspect, format!("Router {name} is on no Host")),
        (None, Some(host)) => (Fate::Passes, format!("on {host}, {} to {}", passed.entry.address, passed.exit.address)),
    };
    Hop { place: Place::Router, of: name, fate, why }
}

fn guest(of: &Endpoint, family: Family) -> Hop {
    let address = of.address_of(family).map_or_else(|| "no address".to_owned(), |address| address.to_string());
    let (fate, why) = match &of.machine {
        None => (Fate::Suspect, format!("no VirtualMachine uses Port {}", of.name)),
        Some(machine) if !of.alive => (Fate::Suspect, format!("VirtualMachine {machine} is not ready")),
        Some(machine) => (Fate::Passes, format!("VirtualMachine {machine}, {address}")),
    };
    Hop { place: Place::Guest, of: of.name.clone(), fate, why }
}

fn tap(of: &Endpoint) -> Hop {
    let host = of.host.as_deref().unwrap_or("no host");
    let (fate, why) = match (&of.absent, &of.trouble) {
        (Some(why), _) => (Fate::Stops, why.clone()),
        (None, Some(why)) => (Fate::Suspect, why.clone()),
        (None, None) => {
            let device = of.tap.as_deref().unwrap_or("its tap");
            let own = of.own().chain(of.further.iter().copied());
            let own: Vec<String> = own.map(|address| address.to_string()).collect();
            (Fate::Passes, format!("{device} on {host}, for {}", own.join(", ")))
        }
    };
    Hop { place: Place::Tap, of: of.name.clone(), fate, why }
}

/// A Port that is on its network, but without an address of the family that is asked about.
fn left_out(of: &Endpoint, why: &str) -> Option<Hop> {
    let hop = Hop { place: Place::Guest, of: of.name.clone(), fate: Fate::Stops, why: why.to_owned() };
    of.absent.is_none().then_some(hop)
}

/// Who routes, when the two are in different subnets of IPv4. Those of IPv6 are all on one link, as guests are told.
fn gateway(from: &Endpoint, to: &Endpoint) -> Option<Hop> {
    let (near, far) = (from.subnet()?, to.subnet()?);
    let why = || format!("{} on {}, to {}", near.gateway, from.host.as_deref().unwrap_or_default(), far.range);
    (near != far).then(|| Hop { place: Place::Gateway, of: from.network.clone(), fate: Fate::Passes, why: why() })
}

fn bridge(of: &Endpoint) -> Hop {
    let host = of.host.as_deref().unwrap_or_default();
    let why = match &of.netns {
        Some(netns) => format!("in {netns} on {host}"),
        None => format!("on {host}"),
    };
    Hop { place: Place::Bridge, of: of.network.clone(), fate: Fate::Passes, why }
}
