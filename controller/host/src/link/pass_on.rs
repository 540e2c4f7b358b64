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
        (format!("{SETTINGS}/{bridge}/forwarding"), "1"),
        (format!("{SETTINGS}/{bridge}/send_redirects"), "0"),
        // The one of all links counts beside a link's own.
        (format!("{SETTINGS}/all/send_redirects"), "0"),
    ];
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
