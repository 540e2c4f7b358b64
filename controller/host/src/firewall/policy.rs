//! What there is to enforce, in words that cannot hold anything else.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use sha2::{Digest, Sha256};
use traffic::Traffic;

use crate::link::LinkName;

/// All guests of one network here that have groups or limits, and the groups that count for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The guests.
    pub guests: Vec<Guest>,
    /// The groups they are in, and those that these groups' rules name.
    pub groups: Vec<Group>,
    /// The network's own addresses: DHCP with them is nobody's to forbid.
    pub gateways: Vec<Ipv4Addr>,
    /// Whether guests have IPv6, too; where they have not nothing speaks of it, and nothing of it passes.
    pub six: bool,
    /// Whether answers can be told from questions here. Where they cannot every guest must be closed.
    pub stateful: bool,
    /// Whether all members have been heard; none is taken out before.
    pub complete: bool,
}

/// A guest's way into the network and what decides about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its tap.
    pub tap: LinkName,
    /// Who may speak with it, and it with whom.
    pub access: Access,
    /// How fast.
    pub rate: Rate,
}

/// Who may speak with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever is on the network.
    Open,
    /// Whom its groups allow.
    Groups(BTreeSet<GroupId>),
    /// Nobody, because its groups cannot be enforced.
    Closed,
}

/// Limits in megabits (a million bits) a second; none where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// What the guest receives.
    pub ingress: Option<u32>,
    /// What it sends.
    pub egress: Option<u32>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Whose.
    pub id: GroupId,
    /// What its members may do.
    pub rules: Vec<Rule>,
    /// Its members' addresses, on whichever host.
    pub members: BTreeSet<IpAddr>,
}

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who begins.
    pub direction: Direction,
    /// What is said.
    pub traffic: Traffic,
    /// With whom.
    pub remote: Remote,
}

/// Who begins a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The others.
    Ingress,
    /// The member.
    Egress,
}

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Whoever.
    Anybody,
    /// Who has an address of the range.
    Range(IpNet),
    /// A group's members.
    Members(GroupId),
}

/// A group's mark: twelve hexadecimal digits of a digest, whatever its owner calls it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId([u8; 6]);

impl GroupId {
    /// The mark of whoever has that UID.
    pub fn of_owner(uid: &str) -> GroupId {
        GroupId(first_bytes(uid.as_bytes()))
    }

    /// The mark of a combination, in whatever order its parts come.
    pub(super) fn of_all(groups: &BTreeSet<GroupId>) -> GroupId {
        GroupId(first_bytes(&groups.iter().flat_map(|group| group.0).collect::<Vec<u8>>()))
    }
}

fn first_bytes(of: &[u8]) -> [u8; 6] {
    let digest = Sha256::digest(of);
    [digest[0], digest[1], digest[2], digest[3], digest[4], digest[5]]
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({self})")
    }
}
