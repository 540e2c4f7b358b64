//! Ports of a bridge that send back where they received from ("hairpin mode").
//!
//! A bridge does not do that by itself, and a guest that is behind a service which it speaks to needs it: what it sends comes back to
//! it.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::LinkBridgePort;

use super::observe::failure;
use super::{Change, Changes, LinkName, Links, Result};

impl Links {
    /// Makes exactly these ports of bridges send back. Those that are not there (yet) are left out.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn ensure_reflecting(&self, wanted: &BTreeSet<LinkName>) -> Result<Changes> {
        let mut changes = Changes::default();
        let listed = self.handle.link().get().execute().try_collect::<Vec<_>>().await;
        for message in listed.map_err(|error| failure("list", "*", error))? {
            let Some((name, reflects)) = port_of(&message) else { continue };
            let shall = wanted.iter().any(|one| one.as_str() == name);
            if shall == reflects {
                continue;
            }
            let set = LinkBridgePort::new(message.header.index).append_info_data(InfoBridgePort::HairpinMode(shall));
            let done = self.handle.link().set_port(set.build()).execute().await;
            done.map_err(|error| failure("set the hairpin mode of", &name, error))?;
            let not = if shall { "" } else { "not " };
            changes
                .push(Change::new("LinkChanged", format!("set link {name} {not}to send back where it received from")));
        }
        Ok(changes)
    }
}

/// Name of a bridge's port, and whether it sends back.
fn port_of(message: &LinkMessage) -> Option<(String, bool)> {
    let (mut name, mut reflects) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = Some(found.clone()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::PortData(InfoPortData::BridgePort(settings)) = info {
                        reflects = Some(settings.contains(&InfoBridgePort::HairpinMode(true)));
                    }
                }
            }
            _ => {}
        }
    }
    name.zip(reflects)
}
