//! Who may speak with whom: the rules of groups, enforced at each guest's way in.
//!
//! One table of the packet filter for each network of a host that has a guest with groups here, at the bridge. What comes from
//! a guest is judged as it enters the bridge, what goes to one as it leaves, wherever it came from: another guest, another
//! host, the network's own address.
//!
//! A frame that belongs to a conversation somebody else began has to pass without a rule of its own. Which frames these are
//! only connection tracking knows, and that does not work in the bridge's family everywhere. So the kernel is made to show
//! bridged packets to the `inet` family as well (br_netfilter), where a second table of two rules marks what is an answer.
//! The mark travels with the packet, and the bridge's table reads it.
//!
//! ```text
//!  tap ─► bridge prerouting ──────────────────────────────────────► forwarding ─► bridge postrouting ─► tap
//!           │ mark := nothing    │ inet prerouting      │ said_by[tap]                 │ heard_by[tap]
//!                                │ an answer? mark it   │ judge what the guest says    │ judge what it hears
//! ```
//!
//! An answer is judged, too: by the rules that let the question pass, read backwards. So nothing has to be cut when a rule
//! goes: the next packet of either side finds no rule any more. And whatever is still allowed goes on, for no entry of
//! connection tracking was touched.
//!
//! Each group has its rules once and its members in one set, each combination of groups that a guest has one chain, each
//! guest here two elements. A packet costs the same with two members and with ten thousand, and a member more is one element.

mod policy;
mod probe;
mod render;

use crate::link::{Change, Changes};
use crate::nft::{self, Done, Element, Family};

pub use crate::nft::{Error, Place, Result, Stands};
pub use policy::{Access, Direction, Group, GroupId, Guest, Policy, Rate, Remote, Rule};
pub use probe::probe;
pub(crate) use probe::show_bridged_packets;
pub use traffic::{Traffic, Transport};

/// Mark (`SO_MARK`) of what the host asks a guest to see whether it answers: no group of the guest is in the way. Guests cannot set it.
pub const CHECK_MARK: u32 = render::CHECK;

/// Its own family, and the one in which answers are told from questions.
const FAMILIES: [Family; 2] = [Family::Bridge, Family::Inet];

/// Makes the policy hold in the namespace.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, policy: &Policy, stands: &mut Stands) -> Result<Changes> {
    let mut changes = Changes::default();
    if policy.stateful {
        changes.extend(show_bridged_packets(&place.namespace, policy.six).await?);
    }
    let mut wanted = render::table(&place.table, policy);
    let found = nft::look(place).await?;
    if !policy.complete {
        // Who else is a member has not been heard yet; nobody is expelled for that.
        let members = |one: &&Element| one.leads_to.is_none() && wanted.sets.contains_key(&one.set);
        let kept: Vec<Element> = found.elements.iter().filter(members).cloned().collect();
        wanted.elements.extend(kept);
    }
    let guests = policy.guests.len();
    let table = &place.table;
    match nft::ensure(place, &FAMILIES, wanted, &found, stands).await? {
        Done::Nothing => {}
        Done::Whole => {
            changes.push(Change::new("FirewallWritten", format!("wrote the firewall {table} of {guests} ports")));
        }
        Done::Changed(lines) => {
            let message = format!("changed the firewall {table} with {lines} instructions");
            changes.push(Change::new("FirewallChanged", message));
        }
    }
    Ok(changes)
}

/// Takes both tables away. That there are none is as well.
///
/// # Errors
/// nft's.
pub async fn remove(place: &Place) -> Result<()> {
    nft::remove(place, &FAMILIES).await
}
