//! What links there are, as the kernel tells it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;

use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

use super::{Error, Links, Mac, Result};

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The loopback interface.
    Loopback,
    /// A bridge.
    Bridge,
    /// One end of a virtual cable.
    Veth,
    /// A tap (or tun).
    Tap,
    /// Anything else, by the kernel's word; empty for a physical one.
    Other(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Loopback => "loopback",
            Kind::Bridge => "bridge",
            Kind::Veth => "veth",
            Kind::Tap => "tap",
            Kind::Other(kind) if kind.is_empty() => "physical link",
            Kind::Other(kind) => kind,
        })
    }
}

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number the kernel knows it by; a link made anew has another one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its alias: the owner's UID where the link is ours.
    pub alias: Option<String>,
    /// Largest packet.
    pub mtu: u32,
    /// Hardware address, of those that have one.
    pub mac: Option<Mac>,
    /// Whether it is switched on.
    pub up: bool,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Its addresses, apart from IPv6 link-local ones, which the kernel makes.
    pub addresses: Vec<IpNet>,
}

impl Links {
    /// All links with their addresses.
    pub async fn observe(&self) -> Result<Vec<Link>> {
        let failed = |error| failure("list", "*", error);
        let messages: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await.map_err(failed)?;
        let addresses: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(failed)?;
        let mut by_link: HashMap<u32, Vec<&AddressMessage>> = HashMap::new();
        addresses.iter().for_each(|address| by_link.entry(address.header.index).or_default().push(address));
        let own = |index| by_link.get(&index).into_iter().flatten().copied();
        Ok(messages.iter().map(|message| to_link(message, own(message.header.index))).collect())
    }

    /// One link with its addresses; none when there is none of that name.
    pub async fn find(&self, name: &str) -> Result<Option<Link>> {
        let mut replies = self.handle.link().get().match_name(name).execute().boxed();
        let message = match replies.try_next().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failure("look up", name, error)),
        };
        let mut request = self.handle.address().get().set_link_index_filter(message.header.index);
        request.message_mut().header.index = message.header.index;
        let addresses: Vec<AddressMessage> = match request.execute().try_collect().await {
            Ok(addresses) => addresses,
            // Gone between the two questions.
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(failure("list the addresses of", name, error)),
        };
        Ok(Some(to_link(&message, addresses.iter())))
    }
}

pub(super) fn failure(action: &str, name: &str, error: rtnetlink::Error) -> Error {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    };
    Error::Link { action: action.to_owned(), name: name.to_owned(), source }
}

/// Whether the kernel said "no such device".
pub(super) fn is_absent(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            message.to_io().raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
        }
        _ => false,
    }
}

fn to_link<'a>(message: &LinkMessage, addresses: impl Iterator<Item = &'a AddressMessage>) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: match message.header.link_layer_type {
            LinkLayerType::Loopback => Kind::Loopback,
            _ => Kind::Other(String::new()),
        },
        alias: None,
        mtu: 0,
        mac: None,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        addresses: addresses.filter_map(to_address).collect(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| {
                if let LinkInfo::Kind(kind) = info {
                    link.kind = to_kind(kind);
                }
            }),
            _ => {}
        }
    }
    link
}

fn to_kind(kind: &InfoKind) -> Kind {
    match kind {
        InfoKind::Bridge => Kind::Bridge,
        InfoKind::Veth => Kind::Veth,
        InfoKind::Tun => Kind::Tap,
        other => Kind::Other(other.to_string()),
    }
}

pub(super) fn to_address(message: &AddressMessage) -> Option<IpNet> {
    let of = |wanted_local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if wanted_local => Some(*address),
            AddressAttribute::Address(address) if !wanted_local => Some(*address),
            _ => None,
        })
    };
    // On a point-to-point link "address" is the other end's; IPv6 has "address" only.
    let address: IpAddr = of(true).or_else(|| of(false))?;
    let made_by_kernel = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    match made_by_kernel {
        true => None,
        false => IpNet::new(address, message.header.prefix_len).ok(),
    }
}
