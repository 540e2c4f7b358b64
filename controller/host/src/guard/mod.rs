//! What a guest may say: nothing under another's address.
//!
//! One table of the kernel's packet filter for each network of a host, in the network's namespace and at the very entry of
//! its bridge. What comes from a tap passes only with that tap's own hardware address, as IPv4 from its own addresses or
//! as ARP that speaks for them. A guest serves no DHCP. Everything else a guest could send (other protocols, VLAN tags) is
//! dropped, for nothing in a network needs it. Where guests have IPv6 the same is true of it, and of neighbour discovery (RFC 4861): who
//! asks and who answers must have the address that asks or is answered for, guests advertise no router, redirect nobody and
//! serve no DHCPv6, and what could hide all that behind further headers is dropped (RFC 6105, RFC 7113). What comes by another way, from the bridge itself or from other hosts, was
//! checked where it began.
//!
//! ```text
//!  list ──► table as it stood after our last write? ── no ──► whole table, in one transaction
//!                 │ yes
//!                 └──► elements that differ: added, removed (one port among thousands is two elements)
//! ```
//!
//! Rules are compared with what the kernel listed right after they were written, not with a listing of ours: how a rule is
//! listed differs between versions of nft. Whoever has lost that listing writes the table once more.

mod render;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::link::{Change, Changes, LinkName, Mac};
use crate::nft::{self, Element, Family, write};

pub use crate::nft::{Error, Place, Result};

/// A guest's way into the network, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its tap.
    pub tap: LinkName,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses; those of IPv6 with the one by which it is known on its link.
    pub addresses: Vec<IpAddr>,
}

/// How the table's rules were listed after they were written: to be kept across restarts, and handed in the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stands {
    /// Digest of the rules as they were written: another version of ours may write others.
    written: String,
    listed: Option<String>,
}

/// Makes the guests of the network, and nobody else, be heard as who they are.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, guests: &[Guest], stands: &mut Stands) -> Result<Changes> {
    let rules = render::Rules::of(guests);
    let wanted = render::elements(guests);
    let found = nft::look_in(place, Family::Bridge).await?;
    let written = rules.digest();
    if found.rules.is_none() || found.rules != stands.listed || stands.written != written {
        write(place, "write the table", rules.table(&place.table, &wanted)).await?;
        let left = nft::look_after(place, Some(Family::Bridge), found.generation, wanted).await?;
        *stands = Stands { written, listed: left.rules.clone() };
        let message = format!("wrote the packet filter {} for {} ports", place.table, guests.len());
        return Ok(Change::new("FilterWritten", message).into());
    }
    let script = render::difference(&place.table, &wanted, &found.elements);
    if script.is_empty() {
        return Ok(Changes::default());
    }
    let elements = script.lines().count();
    nft::change_elements(place, Some(Family::Bridge), script, &found, wanted).await?;
    Ok(Change::new("FilterChanged", format!("changed {elements} elements of the packet filter {}", place.table)).into())
}

type Elements = BTreeSet<Element>;
