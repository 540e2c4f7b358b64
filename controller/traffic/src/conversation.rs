//! What somebody begins to say to somebody else.

use std::fmt;
use std::str::FromStr;

use crate::{Traffic, Transport};

/// Type of ICMP: an echo request (RFC 792).
const ECHO: u8 = 8;
/// Type of ICMP of IPv6: an echo request (RFC 4443).
const ECHO6: u8 = 128;

/// Whose addresses a conversation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Four, Family::Six];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Four => "IPv4",
            Self::Six => "IPv6",
        })
    }
}

/// The first packet of a conversation, as far as rules look at it. The answers go the same way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conversation {
    /// TCP to a port.
    Tcp(u16),
    /// UDP to a port.
    Udp(u16),
    /// ICMP of a type and a code.
    Icmp(u8, u8),
    /// ICMP of IPv6 of a type and a code.
    Icmp6(u8, u8),
    /// Another protocol by its number.
    Other(u8),
    /// TCP to a port, over IPv6.
    Tcp6(u16),
    /// UDP to a port, over IPv6.
    Udp6(u16),
    /// Another protocol by its number, over IPv6.
    Other6(u8),
}

impl Conversation {
    /// An ICMP echo.
    pub const PING: Conversation = Conversation::Icmp(ECHO, 0);
    /// An ICMP echo of IPv6.
    pub const PING6: Conversation = Conversation::Icmp6(ECHO6, 0);

    /// The protocol's number (IANA, "Assigned Internet Protocol Numbers").
    #[must_use]
    pub fn protocol(self) -> u8 {
        match self {
            Self::Icmp(..) => 1,
            Self::Icmp6(..) => 58,
            Self::Tcp(_) | Self::Tcp6(_) => 6,
            Self::Udp(_) | Self::Udp6(_) => 17,
            Self::Other(number) | Self::Other6(number) => number,
        }
    }

    /// Whose addresses it has.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Tcp(_) | Self::Udp(_) | Self::Icmp(..) | Self::Other(_) => Family::Four,
            Self::Tcp6(_) | Self::Udp6(_) | Self::Icmp6(..) | Self::Other6(_) => Family::Six,
        }
    }

    /// The same in that family; none where there is no such thing, as with ICMP, of which each family has its own.
    #[must_use]
    pub fn over(self, family: Family) -> Option<Conversation> {
        Some(match (self, family) {
            (Self::Tcp6(port), Family::Four) => Self::Tcp(port),
            (Self::Udp6(port), Family::Four) => Self::Udp(port),
            (Self::Other6(number), Family::Four) => Self::Other(number),
            (Self::Tcp(port), Family::Six) => Self::Tcp6(port),
            (Self::Udp(port), Family::Six) => Self::Udp6(port),
            (Self::Other(number), Family::Six) => Self::Other6(number),
            _ => return (self.family() == family).then_some(self),
        })
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            &Self::PING => f.write_str("icmp"),
            &Self::PING6 => f.write_str("icmpv6"),
            Self::Icmp6(kind, code) => write!(f, "icmpv6/{kind}.{code}"),
            Self::Icmp(kind, code) => write!(f, "icmp/{kind}.{code}"),
            Self::Other(number) => write!(f, "ip/{number}"),
            Self::Tcp6(port) => write!(f, "tcp6/{port}"),
            Self::Udp6(port) => write!(f, "udp6/{port}"),
            Self::Other6(number) => write!(f, "ip6/{number}"),
        }
    }
}

/// What is no conversation.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no conversation: write tcp/PORT, udp/PORT, icmp or ip/NUMBER, or of IPv6 tcp6/PORT, udp6/PORT, icmpv6 or ip6/NUMBER"
)]
pub struct NoConversation(String);

impl FromStr for Conversation {
    type Err = NoConversation;

    fn from_str(text: &str) -> Result<Self, NoConversation> {
        let bad = || NoConversation(text.to_owned());
        let port = |number: &str| number.parse().ok().filter(|port| *port > 0).ok_or_else(bad);
        match text.to_ascii_lowercase().split_once('/') {
            None if text.eq_ignore_ascii_case("icmp") => Ok(Self::PING),
            None if text.eq_ignore_ascii_case("icmpv6") => Ok(Self::PING6),
            Some(("tcp", number)) => port(number).map(Self::Tcp),
            Some(("udp", number)) => port(number).map(Self::Udp),
            Some(("tcp6", number)) => port(number).map(Self::Tcp6),
            Some(("udp6", number)) => port(number).map(Self::Udp6),
            Some((word @ ("ip" | "ip6"), number)) => match number.parse().map_err(|_| bad())? {
                1 | 6 | 17 | 58 => Err(bad()),
                other if word == "ip6" => Ok(Self::Other6(other)),
                other => Ok(Self::Other(other)),
            },
            _ => Err(bad()),
        }
    }
}

impl Traffic {
    /// Whether a conversation that begins like this is what the rule speaks of.
    #[must_use]
    pub fn covers(self, what: Conversation) -> bool {
        match (self, what) {
            (Self::Any, _) => true,
            (Self::Protocol(number), what) => number == what.protocol(),
            (Self::Ports(Transport::Tcp, first, last), Conversation::Tcp(port) | Conversation::Tcp6(port))
            | (Self::Ports(Transport::Udp, first, last), Conversation::Udp(port) | Conversation::Udp6(port)) => {
                (first..=last).contains(&port)
            }
            (Self::Icmp(kind, code), Conversation::Icmp(of, with)) => {
                kind == of && code.is_none_or(|code| code == with)
            }
            (Self::Icmp6(kind, code), Conversation::Icmp6(of, with)) => {
                kind == of && code.is_none_or(|code| code == with)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_read_as_it_is_written() {
        for text in ["tcp/80", "udp/53", "icmp", "ip/47", "tcp6/80", "udp6/53", "icmpv6", "ip6/47"] {
            assert_eq!(text.parse::<Conversation>().unwrap().to_string(), text);
        }
        assert_eq!("TCP/80".parse(), Ok(Conversation::Tcp(80)));
        for bad in ["tcp", "tcp/0", "tcp/65536", "ip/6", "ip/256", "ip/58", "sctp/1", "", "icmp/8", "ip6/58"] {
            assert!(bad.parse::<Conversation>().is_err(), "{bad}");
        }
    }
    #[test]
    fn what_both_families_have_is_said_over_either_and_icmp_over_its_own() {
        for text in ["tcp/80", "udp/53", "ip/47", "icmp", "icmpv6", "tcp6/1"] {
            let what: Conversation = text.parse().unwrap();
            assert_eq!(what.over(what.family()), Some(what));
            for family in Family::ALL {
                let other = what.over(family);
                assert_eq!(other.is_some(), what.family() == family || !text.starts_with("icmp"), "{text} {family}");
                let Some(other) = other else { continue };
                assert_eq!((other.family(), other.protocol()), (family, what.protocol()));
                assert_eq!(other.over(what.family()), Some(what));
                assert!(Traffic::Ports(Transport::Tcp, 80, 80).covers(other) == (text == "tcp/80"));
            }
        }
    }
}
