//! Steps carried out by the kernel.

use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{BridgeStpState, InfoBridge, InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::observe::{failure, is_absent};
use super::plan::{Property, Step};
use super::{Change, Changes, Error, Link, LinkName, Links, Mac, Result, Veth};

impl Links {
    /// Deletes the link, whoever made it. None of that name is as good.
    pub async fn delete(&self, name: &LinkName) -> Result<Changes> {
        let Some(link) = self.find(name.as_str()).await? else { return Ok(Changes::default()) };
        self.delete_index(name, link.index).await?;
        Ok(Change::new("LinkDeleted", format!("deleted link {name}")).into())
    }

    pub(super) async fn delete_index(&self, name: &LinkName, index: u32) -> Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_absent(&error) => Err(failure("delete", name.as_str(), error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn create_veth(&self, veth: &Veth) -> Result<()> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new().name(veth.peer.as_str());
        if let Some(namespace) = &veth.peer_namespace {
            peer = peer.setns_by_fd(namespace.as_fd().as_raw_fd());
        }
        let message = LinkVeth::new(veth.name.as_str(), veth.peer.as_str())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        let made = self.handle.link().add(message).execute().await;
        made.map_err(|error| failure("make", veth.name.as_str(), error))
    }

    pub(super) async fn apply(&self, name: &LinkName, found: Option<&Link>, step: &Step) -> Result<()> {
        let index = found.map(|link| link.index);
        let existing = || index.ok_or_else(|| Error::NotFound { name: name.to_string() });
        match step {
            Step::Delete => self.delete_index(name, existing()?).await,
            Step::CreateBridge { mac } => self.create_bridge(name, *mac).await,
            Step::Set(properties) => {
                let message = set_message(existing()?, properties);
                let done = self.handle.link().set(message).execute().await;
                done.map_err(|error| failure(&format!("set {properties:?} of"), name.as_str(), error))
            }
            Step::AddAddress(address) => {
                let mut request = self.handle.address().add(existing()?, address.addr(), address.prefix_len());
                if let IpNet::V6(_) = address {
                    // Every host that carries a network has this address: nobody is asked whether it is free.
                    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
                }
                let done = request.execute().await;
                done.map_err(|error| failure(&format!("add address {address} to"), name.as_str(), error))
            }
            Step::RemoveAddress(address) => self.remove_address(name, existing()?, address).await,
        }
    }

    async fn create_bridge(&self, name: &LinkName, mac: Option<Mac>) -> Result<()> {
        let mut bridge = LinkBridge::new(name.as_str())
            .append_info_data(InfoBridge::StpState(BridgeStpState::Disabled))
            // No waiting before a new port forwards; and no querier is there to keep multicast snooping informed.
            .append_info_data(InfoBridge::ForwardDelay(0))
            .append_info_data(InfoBridge::MulticastSnooping(false));
        if let Some(mac) = mac {
            bridge = bridge.address(mac.to_vec());
        }
        let made = self.handle.link().add(bridge.build()).execute().await;
        made.map_err(|error| failure("make", name.as_str(), error))
    }

    pub(super) async fn remove_address(&self, name: &LinkName, index: u32, address: &IpNet) -> Result<()> {
        let length = address.prefix_len();
        let message = match address {
            IpNet::V4(net) => {
                AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(index).address(net.addr(), length).build()
            }
            IpNet::V6(net) => {
                AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index).address(net.addr(), length).build()
            }
        };
        match self.handle.address().del(message).execute().await {
            // An address that went with its subnet's first is gone as wished.
            Err(error) if !is_gone(&error) => {
                Err(failure(&format!("remove address {address} from"), name.as_str(), error))
            }
            _ => Ok(()),
        }
    }
}

fn is_gone(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            message.to_io().raw_os_error() == Some(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error())
        }
        _ => false,
    }
}

pub(super) fn set_message(index: u32, properties: &[Property]) -> LinkMessage {
    let message = LinkUnspec::new_with_index(index);
    properties
        .iter()
        .fold(message, |message, property| match property {
            Property::Mtu(mtu) => message.mtu(*mtu),
            Property::Alias(alias) => message.append_extra_attribute(LinkAttribute::IfAlias(alias.clone())),
            Property::Mac(mac) => message.address(mac.to_vec()),
            Property::Master(master) => message.controller(master.unwrap_or(0)),
            Property::Up => message.up(),
        })
        .build()
}
