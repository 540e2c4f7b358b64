//! Conversations whose addresses the kernel translates, and how one is ended: it is forgotten.
//!
//! The kernel translates a conversation as it began, whatever the rules say by then. Forgotten, its next packet is a question of its
//! own: what is left of a TCP connection is refused by whoever gets it, a datagram goes to somebody else.
//!
//! That is so for what the client says. What its former backend still says comes to it under the backend's own address, where it knows
//! of no connection; so a client that has nothing to say and waits for an answer would wait for ever. It is therefore made to speak:
//! see [`ask`].
//!
//! Spoken to by netlink, in the language of ctnetlink (`linux/netfilter/nfnetlink_conntrack.h`).

mod ask;

use std::io;
use std::net::Ipv4Addr;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::io::Errno;

use crate::netns::{self, Namespace};

/// What can go wrong with conversations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel refused.
    #[error("failed to {action} the conversations of namespace {name}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The namespace.
        name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// A conversation that was translated on its way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Protocol by its number (IANA, "Assigned Internet Protocol Numbers").
    pub protocol: u8,
    /// Who began.
    pub client: Ipv4Addr,
    /// Its port.
    pub client_port: u16,
    /// Address that was spoken to.
    pub address: Ipv4Addr,
    /// Port that was spoken to.
    pub port: u16,
    /// Who answers.
    pub backend: Ipv4Addr,
    /// Its port.
    pub target_port: u16,
}

/// `NFNL_SUBSYS_CTNETLINK` in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: what a listing consists of.
const NEW: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`.
const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = SUBSYSTEM | 2;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const LISTING: u16 = 0x301;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const ORDER: u16 = 0x5;
/// `NLMSG_ERROR`: also the acknowledgement, with the number 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;
/// Bytes of a message's header (netlink(7)).
const HEADER: usize = 16;
/// Bytes of what stands before the attributes (`nfgenmsg`).
const GENERAL: usize = 4;
/// Attributes of a conversation: `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_STATUS`, `CTA_ID`, `CTA_ZONE`.
mod cta {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
}
/// `IPS_DST_NAT`: the address that was spoken to is translated.
const TRANSLATED: u32 = 1 << 5;
/// Upper bits of an attribute's type that say how it is written.
const KIND: u16 = 0x3fff;

/// Makes the namespace forget the translated conversations of IPv4 that are `doomed`; how many those were. Clients of TCP among them
/// are made to notice.
///
/// # Errors
/// The kernel's. What was found first is forgotten all the same.
pub async fn forget(namespace: &Namespace, doomed: impl Fn(&Flow) -> bool + Send + 'static) -> Result<usize, Error> {
    let done = netns::enter(namespace, move || {
        let found = open().and_then(|socket| Ok((list(&socket)?, socket))).map_err(|source| ("list", source))?;
        let (found, socket) = found;
        let mut forgotten = Vec::new();
        for (flow, name) in found.iter().filter(|(flow, _)| doomed(flow)) {
            if delete(&socket, name).map_err(|source| ("end", source))? {
                forgotten.push(*flow);
            }
        }
        ask::clients_of(&forgotten).map_err(|source| ("tell the clients of", source))?;
        Ok(forgotten.len())
    });
    let failed = |(action, source)| Error::Refused { action, name: namespace.name().to_owned(), source };
    done.await?.map_err(failed)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Conversations, each with the attributes by which the kernel knows it.
fn list(socket: &Socket) -> io::Result<Vec<(Flow, Vec<u8>)>> {
    socket.send(&message(GET, LISTING, &[]), 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            match kind {
                DONE => return Ok(found),
                ERROR => refusal(body)?,
                NEW => found.extend(body.get(GENERAL..).and_then(read)),
                _ => {}
            }
        }
    }
}

/// Whether it was still there.
fn delete(socket: &Socket, name: &[u8]) -> io::Result<bool> {
    socket.send(&message(DELETE, ORDER, name), 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            if kind == ERROR {
                return match refusal(body) {
                    Ok(()) => Ok(true),
                    Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
                    Err(error) => Err(error),
                };
            }
        }
    }
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + GENERAL + attributes.len()).unwrap_or(u32::MAX);
    let mut all = Vec::from(length.to_ne_bytes());
    all.extend(kind.to_ne_bytes());
    all.extend(flags.to_ne_bytes());
    // Sequence and sender: one question at a time on this socket.
    all.extend([0; 8]);
    // AF_INET, version 0, no resource.
    all.extend([2, 0, 0, 0]);
    all.extend(attributes);
    all
}

/// Types and bodies of a datagram's messages.
fn messages(datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut all, mut rest) = (Vec::new(), datagram);
    while let (Some(length), Some(kind)) = (number(rest, 0), rest.get(4..6)) {
        let length = length as usize;
        let Some(body) = rest.get(HEADER..length) else { break };
        all.push((u16::from_ne_bytes([kind[0], kind[1]]), body));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// A number of the machine's own order.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes)
}

fn refusal(body: &[u8]) -> io::Result<()> {
    match number(body, 0).map(|code| code as i32) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Types and values of attributes, and each with its header.
fn attributes(bytes: &[u8]) -> Vec<(u16, &[u8], &[u8])> {
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let (Some(whole), Some(value)) = (rest.get(..length), rest.get(4..length)) else { break };
        all.push((u16::from_ne_bytes([*c, *d]) & KIND, value, whole));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).into_iter().find(|(found, ..)| *found == kind).map(|(_, value, _)| value)
}

/// A translated conversation with ports, and what names it.
fn read(bytes: &[u8]) -> Option<(Flow, Vec<u8>)> {
    let status: [u8; 4] = find(bytes, cta::STATUS)?.try_into().ok()?;
    if u32::from_be_bytes(status) & TRANSLATED == 0 {
        return None;
    }
    let (original, reply) = (tuple(find(bytes, cta::ORIGINAL)?)?, tuple(find(bytes, cta::REPLY)?)?);
    let flow = Flow {
        protocol: original.protocol,
        client: original.source.0,
        client_port: original.source.1,
        address: original.destination.0,
        port: original.destination.1,
        backend: reply.source.0,
        target_port: reply.source.1,
    };
    let mut name = Vec::new();
    for (kind, _, whole) in attributes(bytes) {
        if [cta::ORIGINAL, cta::ID, cta::ZONE].contains(&kind) {
            name.extend(whole);
            name.resize(name.len().next_multiple_of(4), 0);
        }
    }
    Some((flow, name))
}

struct Tuple {
    protocol: u8,
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
}

/// `CTA_TUPLE_IP` with `CTA_IP_V4_SRC` and `_DST`, `CTA_TUPLE_PROTO` with `CTA_PROTO_NUM`, `_SRC_PORT` and `_DST_PORT`.
fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (ends, spoken) = (find(bytes, 1)?, find(bytes, 2)?);
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(ends, kind)?).ok()?));
    let port = |kind| Some(u16::from_be_bytes(find(spoken, kind)?.try_into().ok()?));
    let protocol = *find(spoken, 1)?.first()?;
    Some(Tuple { protocol, source: (address(1)?, port(2)?), destination: (address(2)?, port(3)?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.extend(value);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }

    fn end(protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
        let ends = [attribute(1, &source.0), attribute(2, &destination.0)].concat();
        let ports = [attribute(2, &source.1.to_be_bytes()), attribute(3, &destination.1.to_be_bytes())].concat();
        [attribute(0x8001, &ends), attribute(0x8002, &[attribute(1, &[protocol]), ports].concat())].concat()
    }

    #[test]
    fn a_translated_conversation_is_read_and_named_and_no_other() {
        let (client, service, backend) = (([10, 1, 0, 11], 40_000), ([10, 1, 0, 50], 80), ([10, 1, 0, 12], 8080));
        let original = attribute(0x8001, &end(6, client, service));
        let reply = attribute(0x8002, &end(6, backend, client));
        let id = attribute(12, &[1, 2, 3, 4]);
        let whole = |status: u32| [&original[..], &reply, &attribute(3, &status.to_be_bytes()), &id].concat();
        let (flow, name) = read(&whole(0x20 | 0x8)).unwrap();
        let wanted = Flow {
            protocol: 6,
            client: client.0.into(),
            client_port: client.1,
            address: service.0.into(),
            port: 80,
            backend: backend.0.into(),
            target_port: 8080,
        };
        assert_eq!((flow, name), (wanted, [original.clone(), id.clone()].concat()));
        assert_eq!(read(&whole(0x8)), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_too_odd_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            for (_, body) in messages(&bytes) {
                let _ = (refusal(body), body.get(GENERAL..).and_then(read));
            }
        }
    }
}
