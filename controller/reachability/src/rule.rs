//! A group's rules as they are enforced.
//!
//! The schema refuses rules that contradict themselves. One that was stored under another schema must not open anything, so
//! it is refused here once more, with its whole group.

use std::fmt;

use crds::SecurityGroup;
use crds::security_group::{RuleDirection, SecurityRule};
use ipnet::IpNet;
use traffic::{Traffic, Transport};

/// One thing that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who begins.
    pub direction: RuleDirection,
    /// What is said.
    pub traffic: Traffic,
    /// With whom.
    pub remote: Remote,
}

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Whoever.
    Anybody,
    /// Who has an address of the range.
    Range(IpNet),
    /// The Ports of the SecurityGroup of that name; nobody when there is none.
    Group(String),
}

/// A field of a rule cannot be enforced.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("spec.rules[{index}].{field} cannot be enforced")]
pub struct Unenforceable {
    /// The rule's place.
    pub index: usize,
    /// The field in it.
    pub field: &'static str,
}

/// In one line, as a person would say it: `Ingress tcp 80-90 with SecurityGroup clients`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} with {}", self.direction, self.traffic, self.remote)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody"),
            Self::Range(range) => write!(f, "{range}"),
            Self::Group(name) => write!(f, "SecurityGroup {name}"),
        }
    }
}

/// A group's rules, in their order.
///
/// # Errors
/// The first field that cannot be understood.
pub fn rules(group: &SecurityGroup) -> Result<Vec<Rule>, Unenforceable> {
    let all = group.spec.rules.iter().enumerate();
    all.map(|(index, rule)| read(rule).map_err(|field| Unenforceable { index, field })).collect()
}

/// A rule, or the field of it that cannot be understood.
fn read(rule: &SecurityRule) -> Result<Rule, &'static str> {
    let remote = match (&rule.cidr, &rule.security_group) {
        (None, None) => Remote::Anybody,
        (Some(cidr), None) => Remote::Range(cidr.parse().map_err(|_| "cidr")?),
        (None, Some(name)) => Remote::Group(name.clone()),
        (Some(_), Some(_)) => return Err("securityGroup"),
    };
    Ok(Rule { direction: rule.direction, traffic: traffic(rule)?, remote })
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
    if rule.icmp_type.is_some() && !["ICMP", "ICMPv6"].contains(&protocol) {
        return Err("icmpType");
    }
    // Numbers: IANA, "Assigned Internet Protocol Numbers".
    match protocol {
        "Any" => Ok(Traffic::Any),
        "TCP" => ports(Transport::Tcp, 6),
        "UDP" => ports(Transport::Udp, 17),
        "ICMP" => Ok(rule.icmp_type.map_or(Traffic::Protocol(1), |kind| Traffic::Icmp(kind, rule.icmp_code))),
        "ICMPv6" => Ok(rule.icmp_type.map_or(Traffic::Protocol(58), |kind| Traffic::Icmp6(kind, rule.icmp_code))),
        number => number.parse().map(Traffic::Protocol).map_err(|_| "protocol"),
    }
}
