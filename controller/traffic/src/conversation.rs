//! What somebody begins to say to somebody else.

use std::fmt;
use std::str::FromStr;

use crate::{Traffic, Transport};

/// Type of ICMP: an echo request (RFC 792).
const ECHO: u8 = 8;
/// Type of ICMP of IPv6: an echo request (RFC 4443).
const ECHO6: u8 = 128;

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
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::Other(number) => number,
        }
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
        }
    }
}

/// What is no conversation.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no conversation: write tcp/PORT, udp/PORT, icmp, icmpv6, or ip/NUMBER")]
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
            Some(("ip", number)) => match number.parse().map_err(|_| bad())? {
                1 | 6 | 17 | 58 => Err(bad()),
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
            (Self::Ports(Transport::Tcp, first, last), Conversation::Tcp(port))
            | (Self::Ports(Transport::Udp, first, last), Conversation::Udp(port)) => (first..=last).contains(&port),
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
        for text in ["tcp/80", "udp/53", "icmp", "icmpv6", "ip/47"] {
            assert_eq!(text.parse::<Conversation>().unwrap().to_string(), text);
        }
        assert_eq!("TCP/80".parse(), Ok(Conversation::Tcp(80)));
        for bad in ["tcp", "tcp/0", "tcp/65536", "ip/6", "ip/256", "ip/58", "sctp/1", "", "icmp/8"] {
            assert!(bad.parse::<Conversation>().is_err(), "{bad}");
        }
    }
}
