//! Which rules count for a Port, and when none can: then it is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::SecurityGroup;
use crds::security_group::RuleDirection;
use kube::ResourceExt;

use crate::rule::{Rule, Unenforceable, rules};

/// Whether a host can enforce groups; if not, why.
pub type Ability = Result<(), String>;

/// Why a Port with groups is closed: none of them may be believed in part.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Closed {
    /// Its host cannot tell answers from questions.
    #[error("The port is closed, because this host cannot enforce spec.securityGroups: {0}.")]
    Unable(String),
    /// It names a group that is not there.
    #[error(
        "The port is closed, because there is no SecurityGroup {0} in this namespace: create it, or correct \
         spec.securityGroups."
    )]
    NotFound(String),
    /// It names a group that cannot be understood.
    #[error("The port is closed, because of SecurityGroup {0}: {1}.")]
    Invalid(String, Unenforceable),
}

impl Closed {
    /// The cause in one word, as the Port's condition has it.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unable(_) => "StatefulFilterUnavailable",
            Self::NotFound(_) => "SecurityGroupNotFound",
            Self::Invalid(..) => "InvalidSecurityGroup",
        }
    }
}

/// A tenant's groups, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<String, Result<Vec<Rule>, Unenforceable>>);

impl Groups {
    /// Reads the groups of one namespace.
    pub fn read<'a>(groups: impl IntoIterator<Item = &'a SecurityGroup>) -> Groups {
        Groups(groups.into_iter().map(|group| (group.name_any(), rules(group))).collect())
    }

    /// The rules of a group; none where it is not there or cannot be understood.
    #[must_use]
    pub fn rules(&self, group: &str) -> &[Rule] {
        self.0.get(group).and_then(|rules| rules.as_deref().ok()).unwrap_or_default()
    }

    /// Whether what these groups say can be enforced for a Port that names them.
    ///
    /// # Errors
    /// Why it cannot: the Port is closed.
    pub fn enforceable(&self, named: &[String], ability: &Ability) -> Result<(), Closed> {
        if let Err(why) = ability
            && !named.is_empty()
        {
            return Err(Closed::Unable(why.clone()));
        }
        for name in named {
            match self.0.get(name) {
                None => return Err(Closed::NotFound(name.clone())),
                Some(Err(why)) => return Err(Closed::Invalid(name.clone(), why.clone())),
                Some(Ok(_)) => {}
            }
        }
        Ok(())
    }

    /// Whether what a Port in these groups sends is limited: one Egress rule of any of them does it.
    #[must_use]
    pub fn limit_egress(&self, named: &[String]) -> bool {
        named.iter().flat_map(|name| self.rules(name)).any(|rule| rule.direction == RuleDirection::Egress)
    }
}

/// Addresses of each group's Ports: their own and what else they may speak under.
pub fn members<'a, A>(ports: impl IntoIterator<Item = (&'a [String], A)>) -> BTreeMap<&'a str, BTreeSet<IpAddr>>
where
    A: IntoIterator<Item = IpAddr>,
{
    let mut members: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for (groups, addresses) in ports {
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        for group in groups {
            members.entry(group).or_default().extend(&addresses);
        }
    }
    members
}
