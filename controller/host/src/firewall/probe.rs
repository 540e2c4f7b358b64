//! Whether answers can be told from questions on a bridge of this machine: tried, in a namespace of its own.

use std::{fs, io};

use super::{FAMILIES, render};
use crate::link::Change;
use crate::netns::{self, Namespace};
use crate::nft::{self, Error, Place, Result, Table};

/// Each namespace has its own, since Linux 5.3; the file is not there without br_netfilter.
const SHOWN: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The same for IPv6.
const SIX_SHOWN: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// Why this machine cannot filter with connections in mind; nothing when it can. Leaves the namespace with the rules it tried.
///
/// # Errors
/// What hinders the trial itself.
pub async fn probe(place: &Place) -> Result<Option<String>> {
    match show_bridged_packets(&place.namespace, false).await {
        Ok(_) => {}
        Err(Error::Setting { source, .. }) => {
            let why = format!("bridged packets cannot be shown to the packet filter: {SHOWN}: {source}");
            return Ok(Some(format!("{why}; is the module br_netfilter loaded?")));
        }
        Err(other) => return Err(other),
    }
    let table = Table { beside: render::answers(&place.table, false), ..Table::default() };
    match nft::write(place, "try a firewall", nft::whole(&FAMILIES, &place.table, &table)).await {
        Ok(()) => Ok(None),
        Err(Error::Refused { said, .. }) => Ok(Some(format!("the packet filter cannot track connections: {said}"))),
        Err(other) => Err(other),
    }
}

/// Lets the `inet` family see what the namespace's bridges forward; of IPv6 where that is wanted.
pub(crate) async fn show_bridged_packets(namespace: &Namespace, six: bool) -> Result<Option<Change>> {
    let settings = [Some(SHOWN), six.then_some(SIX_SHOWN)];
    let changed = netns::enter(namespace, move || -> io::Result<bool> {
        // This thread's namespace decides whose setting the file is.
        let mut changed = false;
        for setting in settings.into_iter().flatten() {
            if fs::read_to_string(setting)?.trim() != "1" {
                fs::write(setting, "1")?;
                changed = true;
            }
        }
        Ok(changed)
    });
    let changed = changed.await?.map_err(|source| Error::Setting { name: SHOWN, source })?;
    Ok(changed.then(|| Change::new("FirewallWritten", "bridged packets are shown to the packet filter")))
}
