//! Words for what is said between two addresses: one conversation, and what a rule allows of them.
//!
//! Who decides (`reachability`) and who enforces (`host`'s packet filter) stand beside each other and import none of each other,
//! yet have to mean the same by "tcp to these ports". So the words are below both and know neither objects nor kernels.

mod conversation;

use std::fmt;

pub use conversation::{Conversation, Family, NoConversation};

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Anything.
    Any,
    /// A protocol by its number (IANA, "Assigned Internet Protocol Numbers").
    Protocol(u8),
    /// To these ports, both included.
    Ports(Transport, u16, u16),
    /// ICMP of a type, and of a code where one is given.
    Icmp(u8, Option<u8>),
    /// ICMP of IPv6 of a type, and of a code where one is given.
    Icmp6(u8, Option<u8>),
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// As people and the packet filter write it.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Protocol(1) => f.write_str("icmp"),
            Self::Protocol(6) => f.write_str("tcp"),
            Self::Protocol(17) => f.write_str("udp"),
            Self::Protocol(58) => f.write_str("icmpv6"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
            Self::Ports(transport, first, last) if first == last => write!(f, "{transport} {first}"),
            Self::Ports(transport, first, last) => write!(f, "{transport} {first}-{last}"),
            Self::Icmp(kind, None) => write!(f, "icmp type {kind}"),
            Self::Icmp(kind, Some(code)) => write!(f, "icmp type {kind} code {code}"),
            Self::Icmp6(kind, None) => write!(f, "icmpv6 type {kind}"),
            Self::Icmp6(kind, Some(code)) => write!(f, "icmpv6 type {kind} code {code}"),
        }
    }
}
