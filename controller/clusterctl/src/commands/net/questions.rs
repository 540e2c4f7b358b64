//! `--protocol` and `--port`: which conversations are asked about.

use crate::print::Ending;
use anyhow::{Result, bail};
use reachability::{Conversation, Family, Question};

/// A family of addresses, as it is named.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<Named> for Family {
    fn from(named: Named) -> Family {
        match named {
            Named::Ipv4 => Family::Four,
            Named::Ipv6 => Family::Six,
        }
    }
}

/// A protocol that guests speak.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Icmp,
    /// ICMP echo of IPv6.
    #[value(name = "icmpv6")]
    Icmp6,
}

/// The conversations that were named; none when none was.
pub fn named(protocol: Option<Protocol>, ports: &[u16]) -> Result<Vec<Conversation>> {
    Ok(match protocol {
        None | Some(Protocol::Tcp) => ports.iter().copied().map(Conversation::Tcp).collect(),
        Some(Protocol::Udp) => ports.iter().copied().map(Conversation::Udp).collect(),
        Some(Protocol::Icmp) if ports.is_empty() => vec![Conversation::PING],
        Some(Protocol::Icmp6) if ports.is_empty() => vec![Conversation::PING6],
        Some(Protocol::Icmp | Protocol::Icmp6) => {
            bail!(Ending::Usage("--port goes with --protocol tcp or udp".to_owned()))
        }
    })
}

/// Whether a question is about the protocol.
pub fn is_about(question: &Question, protocol: Protocol) -> bool {
    match question.example {
        Conversation::Tcp(_) | Conversation::Tcp6(_) => protocol == Protocol::Tcp,
        Conversation::Udp(_) | Conversation::Udp6(_) => protocol == Protocol::Udp,
        Conversation::Icmp(..) => protocol == Protocol::Icmp,
        Conversation::Icmp6(..) => protocol == Protocol::Icmp6,
        Conversation::Other(_) | Conversation::Other6(_) => false,
    }
}
