//! IPv6 of a network's namespace: only the bridge has it.
//!
//! Whoever serves guests must be known by one address on their link, and that at once and on every host: the bridge's link-local
//! address follows from its hardware address, which is the same everywhere, and is not first asked for among the guests (no duplicate
//! address detection). No other link of the namespace gets an address by itself. The namespace passes on, which makes it a router in the eyes
//! of its neighbours; since no other link has an address, there is nowhere else to pass on to.

use std::{fs, io};

use super::LinkName;
use crate::netns::{self, Namespace};

/// Where these settings are.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// How a link gets its link-local address (`IN6_ADDR_GEN_MODE_NONE`, linux/if_link.h).
const NO_ADDRESS: &str = "1";
/// From its hardware address (`IN6_ADDR_GEN_MODE_EUI64`).
const FROM_MAC: &str = "0";

/// Lets no link that comes make itself an address. Before there is a bridge.
///
/// # Errors
/// The namespace's; inside, the file's.
pub async fn ensure_no_own_addresses(namespace: &Namespace) -> netns::Result<io::Result<bool>> {
    write(namespace, vec![(format!("{SETTINGS}/default/addr_gen_mode"), NO_ADDRESS)]).await
}

/// Makes the bridge be known on its link, and pass on; whether that had to be changed.
///
/// # Errors
/// The namespace's; inside, the file's: the bridge must be there.
pub async fn ensure_router(namespace: &Namespace, bridge: &LinkName) -> netns::Result<io::Result<bool>> {
    let of_bridge = |name: &str, value| (format!("{SETTINGS}/{bridge}/{name}"), value);
    let settings = vec![
        // What all links say decides about packets, what the bridge says about what its neighbours are told.
        (format!("{SETTINGS}/all/forwarding"), "1"),
        of_bridge("forwarding", "1"),
        of_bridge("accept_dad", "0"),
        of_bridge("accept_redirects", "0"),
        of_bridge("addr_gen_mode", FROM_MAC),
    ];
    write(namespace, settings).await
}

async fn write(namespace: &Namespace, settings: Vec<(String, &'static str)>) -> netns::Result<io::Result<bool>> {
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
