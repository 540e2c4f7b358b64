//! Letting a bridge pass on what is sent to its own hardware address.
//!
//! A network that routes between its subnets does so at its bridge, which is in both: what comes from a guest leaves towards
//! another by the same link. Only this link of the namespace may do so. And nobody is told of a shorter way (ICMP redirect), for
//! there is none: guests of two subnets do not find each other by ARP.

use std::{fs, io};

use super::LinkName;
use crate::netns::{self, Namespace};

/// Where these settings are.
pub(crate) const SETTINGS: &str = "/proc/sys/net/ipv4/conf";

/// Makes the bridge pass on; whether that had to be changed.
///
/// # Errors
/// The namespace's; inside, the file's: the bridge must be there.
pub async fn ensure_passing_on(namespace: &Namespace, bridge: &LinkName) -> netns::Result<io::Result<bool>> {
    let settings = [
        forwarding(bridge),
        (format!("{SETTINGS}/{bridge}/send_redirects"), "0"),
        // The one of all links counts beside a link's own.
        (format!("{SETTINGS}/all/send_redirects"), "0"),
    ];
    set(namespace, settings.into()).await
}

/// Makes what comes in by the link be passed on, and touches nothing else of the namespace; whether that had to be changed.
///
/// # Errors
/// The namespace's; inside, the file's: the link must be there.
pub async fn ensure_forwarding(namespace: &Namespace, link: &LinkName) -> netns::Result<io::Result<bool>> {
    set(namespace, vec![forwarding(link)]).await
}

fn forwarding(link: &LinkName) -> (String, &'static str) {
    (format!("{SETTINGS}/{link}/forwarding"), "1")
}

async fn set(namespace: &Namespace, settings: Vec<(String, &'static str)>) -> netns::Result<io::Result<bool>> {
    netns::enter(namespace, move || {
        // This thread's namespace decides whose settings the files are.
        let mut changed = false;
        for (file, value) in settings {
            if fs::read_to_string(&file)?.trim() != value {
                fs::write(&file, value)?;
                changed = true;
            }
        }
        Ok(changed)
    })
    .await
}
