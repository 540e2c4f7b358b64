//! Whether a conversation may begin, and what decided that.

use std::fmt;
use std::net::IpAddr;

use crds::security_group::RuleDirection;
use traffic::{Conversation, Family};

use crate::access::Closed;
use crate::endpoint::Endpoint;
use crate::rule::{Remote, Rule};
use crate::world::World;

/// What was decided about a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No way leads from one network to the other and back.
    AnotherNetwork,
    /// One of the two is on no network now.
    Absent {
        /// Its name.
        port: String,
        /// Why.
        why: String,
    },
    /// Both ends judged it: where it leaves, then where it arrives.
    Judged {
        /// What the sender's groups say.
        out: Ruling,
        /// What the receiver's groups say.
        into: Ruling,
    },
}

/// What one end's groups say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The Port has no group.
    NoGroup,
    /// None of its groups has an Egress rule, so what it sends is free.
    FreeEgress,
    /// This rule allows it.
    Rule {
        /// The group.
        group: String,
        /// The rule's place in `spec.rules`.
        index: usize,
    },
    /// No rule of its groups allows it.
    DefaultDeny(RuleDirection),
    /// Its groups cannot be enforced.
    Closed(Closed),
}

impl Ruling {
    /// Whether the conversation passes here.
    #[must_use]
    pub fn passes(&self) -> bool {
        !matches!(self, Self::DefaultDeny(_) | Self::Closed(_))
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGroup => f.write_str("no group: open"),
            Self::FreeEgress => f.write_str("no Egress rule: free"),
            Self::Rule { group, index } => write!(f, "SecurityGroup {group} spec.rules[{index}]"),
            Self::DefaultDeny(RuleDirection::Ingress) => f.write_str("default deny in"),
            Self::DefaultDeny(RuleDirection::Egress) => f.write_str("default deny out"),
            Self::Closed(why) => write!(f, "closed ({})", why.reason()),
        }
    }
}

impl Verdict {
    /// Whether the conversation may begin.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Judged { out, into } if out.passes() && into.passes())
    }

    /// Where it is stopped, if it is at one end: what that end says, and whether that is the sender's.
    #[must_use]
    pub fn stopped_by(&self) -> Option<(&Ruling, RuleDirection)> {
        match self {
            Self::Judged { out, .. } if !out.passes() => Some((out, RuleDirection::Egress)),
            Self::Judged { into, .. } if !into.passes() => Some((into, RuleDirection::Ingress)),
            _ => None,
        }
    }
}

/// What decided: for an open way all rules that opened it, for a closed one the first that did not.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherNetwork => f.write_str("another network"),
            Self::Absent { port, why } => write!(f, "Port {port} is not there: {why}"),
            Self::Judged { out, into } => match (self.stopped_by(), out, into) {
                (Some((ruling, _)), ..) => write!(f, "{ruling}"),
                (None, Ruling::Rule { .. }, Ruling::Rule { .. }) => write!(f, "out: {out}; in: {into}"),
                (None, Ruling::Rule { .. }, _) => write!(f, "out: {out}"),
                (None, _, into) => write!(f, "{into}"),
            },
        }
    }
}

fn missing(family: Family) -> &'static str {
    match family {
        Family::Four => "it has no address",
        Family::Six => "it has no IPv6 address",
    }
}

impl World {
    /// Whether `from` may begin to say `what` to `to`, each under its own address.
    #[must_use]
    pub fn verdict(&self, from: &Endpoint, to: &Endpoint, what: Conversation) -> Verdict {
        let family = what.family();
        let by_routers = || family == Family::Four && self.is_joined(from, to);
        if !from.shares_network_with(to) && !by_routers() {
            return Verdict::AnotherNetwork;
        }
        let absent = |one: &Endpoint, why: &str| Verdict::Absent { port: one.name.clone(), why: why.to_owned() };
        for one in [from, to] {
            if let Some(why) = &one.absent {
                return absent(one, why);
            }
        }
        match (from.address_of(family), to.address_of(family)) {
            (Some(source), Some(destination)) => Verdict::Judged {
                out: self.ruling(from, RuleDirection::Egress, what, destination),
                into: self.ruling(to, RuleDirection::Ingress, what, source),
            },
            (None, _) => absent(from, missing(family)),
            (_, None) => absent(to, missing(family)),
        }
    }

    /// What the groups of `at` say of a conversation with `other`, begun by `at` (Egress) or by the other (Ingress).
    pub(crate) fn ruling(&self, at: &Endpoint, direction: RuleDirection, what: Conversation, other: IpAddr) -> Ruling {
        if let Some(why) = &at.closed {
            return Ruling::Closed(why.clone());
        }
        let Some(groups) = self.groups(&at.namespace).filter(|_| !at.groups.is_empty()) else {
            return Ruling::NoGroup;
        };
        if direction == RuleDirection::Egress && !groups.limit_egress(&at.groups) {
            return Ruling::FreeEgress;
        }
        let allows = |rule: &Rule| {
            rule.direction == direction && rule.traffic.covers(what) && self.is_meant(at, &rule.remote, other)
        };
        let found = at.groups.iter().find_map(|group| Some((group, groups.rules(group).iter().position(allows)?)));
        found.map_or(Ruling::DefaultDeny(direction), |(group, index)| Ruling::Rule { group: group.clone(), index })
    }

    fn is_meant(&self, at: &Endpoint, remote: &Remote, other: IpAddr) -> bool {
        match remote {
            Remote::Anybody => true,
            Remote::Range(range) => range.contains(&other),
            Remote::Group(group) => self.is_member(at, group, other),
        }
    }
}
