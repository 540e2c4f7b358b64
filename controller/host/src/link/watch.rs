//! Being told that something about a namespace's links changed. Not what: whoever is woken looks for himself.
//!
//! Neighbours are the exception: the kernel learns and forgets them as guests talk, and a guest must not be able to keep
//! us busy by talking. So only those messages count that speak of an entry somebody wrote or took away. That the kernel looked for
//! somebody in vain is none: where it routes, guests can have it look for whomever they like.

use std::io;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::mpsc;

use crate::netns::{self, Namespace};

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Route,
    // Whether a link passes on.
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

/// How long after a change another one belongs to the same burst, and how long one burst can be.
const MOMENT: Duration = Duration::from_millis(2);
const BURST: Duration = Duration::from_millis(100);

/// Rules and sets of the packet filter (`NFNLGRP_NFTABLES`).
const RULES_GROUP: u32 = 7;

/// `RTM_NEWNEIGH`, `RTM_DELNEIGH` (linux/rtnetlink.h).
const NEIGHBOURS: [u16; 2] = [28, 29];
/// States of an entry that was written (`NUD_NOARP`, `NUD_PERMANENT`).
const WRITTEN: u16 = 0x40 | 0x80;
/// State of an entry that is about to go, because somebody said so or nobody answered (`NUD_FAILED`).
const FAILED: u16 = 0x20;

/// Wake-ups of one namespace. However much changed since the last one was taken, one is waiting.
#[derive(Debug)]
pub struct Watch(mpsc::Receiver<()>);

impl Watch {
    /// Returns when a link, address, route, forwarding, written neighbour or filter rule changed since this last returned; `false` when the watch broke and a new
    /// one is needed.
    pub async fn changed(&mut self) -> bool {
        self.0.recv().await.is_some()
    }

    /// Returns when nothing has changed for a moment: what comes in a burst is looked at once. But not for long.
    pub async fn settled(&mut self) {
        let end = tokio::time::Instant::now() + BURST;
        while tokio::time::timeout_at(end.min(tokio::time::Instant::now() + MOMENT), self.changed()).await == Ok(true) {
        }
    }
}

impl futures::Stream for Watch {
    type Item = ();

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<()>> {
        self.0.poll_recv(context)
    }
}

/// Watches links, addresses, routes, written neighbours and filter rules of the namespace, until the watch is dropped.
pub async fn watch_namespace(namespace: &Namespace) -> netns::Result<Watch> {
    let failed = |source| netns::Error::Namespace { action: "watch", name: namespace.name().to_owned(), source };
    let (links, rules) = netns::enter(namespace, subscribe).await?.map_err(failed)?;
    // Room for one: a wake-up carries nothing, so a second would say no more than the first.
    let (wake, woken) = mpsc::channel(1);
    tokio::spawn(forward(links, rules, wake));
    Ok(Watch(woken))
}

fn subscribe() -> io::Result<(TokioSocket, TokioSocket)> {
    let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
    let mut links = TokioSocket::new(NETLINK_ROUTE)?;
    links.socket_mut().bind(&SocketAddr::new(0, groups))?;
    let mut rules = TokioSocket::new(NETLINK_NETFILTER)?;
    rules.socket_mut().bind(&SocketAddr::new(0, 1 << (RULES_GROUP - 1)))?;
    Ok((links, rules))
}

async fn forward(links: TokioSocket, rules: TokioSocket, wake: mpsc::Sender<()>) {
    let no_buffer_space = rustix::io::Errno::NOBUFS.raw_os_error();
    loop {
        let received = tokio::select! {
            received = links.recv_from_full() => received.map(|(datagram, _)| !tells_nothing(&datagram)),
            received = rules.recv_from_full() => received.map(|_| true),
            () = wake.closed() => return,
        };
        match received {
            // Messages were lost: all the more reason to look.
            Err(error) if error.raw_os_error() != Some(no_buffer_space) => {
                tracing::warn!(%error, "a watch on a network namespace broke");
                return;
            }
            Ok(false) => {}
            _ => {
                // Full means that a wake-up is waiting already.
                let _ = wake.try_send(());
            }
        }
    }
}

/// Whether all it says is that a neighbour was heard or forgotten. In doubt it says more.
fn tells_nothing(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        // Of a link's messages, which are long and come by the thousand when links are made, only the kind counts.
        if !rest
            .get(4..6)
            .and_then(|kind| kind.try_into().ok())
            .is_some_and(|kind| NEIGHBOURS.contains(&u16::from_ne_bytes(kind)))
        {
            return false;
        }
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else { return false };
        let NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewNeighbour(neighbour) | RouteNetlinkMessage::DelNeighbour(neighbour),
        ) = &message.payload
        else {
            return false;
        };
        let state = u16::from(neighbour.header.state);
        // The kernel names who asked for a change; of its own accord it names nobody.
        if state & WRITTEN != 0 || (state & FAILED != 0 && message.header.port_number != 0) {
            return false;
        }
        // Messages are aligned to four bytes (netlink(7)).
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    true
}
