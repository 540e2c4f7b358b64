//! An address that the kernel takes away by itself unless somebody prolongs it in time.
//!
//! Of what only one host may do, another is put in charge when that one is silent for too long. Nothing can be asked of a host that
//! is silent: its agent may be dead while its kernel goes on. So it is the kernel that has to know when the time is up. With a link's
//! last address all its routes go: who had it neither answers nor passes on.

use std::time::Duration;

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};

use super::observe::{failure, to_address};
use super::{Change, Changes, LinkName, Links, Result};

impl Links {
    /// Makes the link have exactly this address, for that long from now on, in whole seconds. That it is prolonged is no change,
    /// and what is as long already, to a second, is not written: whoever is woken by what he writes would never rest.
    ///
    /// # Errors
    /// The kernel's, and that there is no such link.
    pub async fn ensure_leased(&self, link: &LinkName, address: Ipv4Net, lease: Duration) -> Result<Changes> {
        let mut changes = Changes::default();
        let found = self.find(link.as_str()).await?.map_or_else(Vec::new, |found| found.addresses);
        let index = self.index_of(link.as_str()).await?;
        for other in found.iter().filter(|other| **other != address.into()) {
            self.remove_address(link, index, other).await?;
            changes.push(Change::new("AddressRemoved", format!("removed address {other} from link {link}")));
        }
        let seconds = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX);
        if found.contains(&address.into())
            && self.left_of(link, index, address).await?.is_some_and(|left| left.abs_diff(seconds) <= 1)
        {
            return Ok(changes);
        }
        let mut life = CacheInfo::default();
        (life.ifa_valid, life.ifa_preferred) = (seconds, seconds);
        let mut add = self.handle.address().add(index, address.addr().into(), address.prefix_len()).replace();
        add.message_mut().attributes.push(AddressAttribute::CacheInfo(life));
        let added = add.execute().await;
        added.map_err(|error| failure(&format!("add address {address} to"), link.as_str(), error))?;
        if !found.contains(&address.into()) {
            changes.push(Change::new("AddressAdded", format!("added address {address} to link {link}")));
        }
        Ok(changes)
    }

    /// How long the link has the address yet, in seconds.
    async fn left_of(&self, link: &LinkName, index: u32, address: Ipv4Net) -> Result<Option<u32>> {
        let mut request = self.handle.address().get().set_link_index_filter(index);
        request.message_mut().header.index = index;
        let told: Vec<AddressMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| failure("list the addresses of", link.as_str(), error))?;
        let it = told.iter().find(|message| to_address(message) == Some(IpNet::V4(address)));
        Ok(it.and_then(|message| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::CacheInfo(life) => Some(life.ifa_valid),
                _ => None,
            })
        }))
    }
}
