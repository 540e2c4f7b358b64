//! An address that the kernel takes away by itself unless somebody prolongs it in time.
//!
//! Of what only one host may do, another is put in charge when that one is silent for too long. Nothing can be asked of a host that
//! is silent: its agent may be dead while its kernel goes on. So it is the kernel that has to know when the time is up. With a link's
//! last address all its routes go: who had it neither answers nor passes on.

use std::time::Duration;

use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, CacheInfo};

use super::observe::failure;
use super::{Change, Changes, LinkName, Links, Result};

impl Links {
    /// Makes the link have exactly this address, for that long from now on, in whole seconds. That it is prolonged is no change.
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
}
