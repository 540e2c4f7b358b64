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

mod listing;
mod policy;
mod probe;
mod render;
mod script;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::link::{Change, Changes};
use crate::nft::{nft, write};

pub use crate::nft::{Error, Place, Result};
pub use policy::{Access, Direction, Group, GroupId, Guest, Policy, Rate, Remote, Rule, Traffic, Transport};
pub use probe::probe;

/// How the table was written last and how it was listed then: to be kept across restarts, and handed in the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stands {
    chains: BTreeMap<String, Vec<String>>,
    sets: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, String>,
    answers: String,
    listed: Option<String>,
}

/// One element of one set, or of a map when it leads somewhere: to a chain, or to a limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    set: String,
    key: String,
    leads_to: Option<String>,
}

/// A table as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    /// Sets and maps with their types.
    sets: BTreeMap<String, String>,
    /// Limits with their rates.
    limits: BTreeMap<String, String>,
    /// Chains with their lines.
    chains: BTreeMap<String, Vec<String>>,
    elements: BTreeSet<Element>,
    /// The table beside it that tells answers from questions, as a script; empty where that cannot be done.
    answers: String,
}

/// Makes the policy hold in the namespace.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, policy: &Policy, stands: &mut Stands) -> Result<Changes> {
    let mut changes = Changes::default();
    if policy.stateful {
        changes.extend(probe::show_bridged_packets(&place.namespace).await?);
    }
    let mut wanted = render::table(&place.table, policy);
    let found = look(place).await?;
    if !policy.complete {
        // Who else is a member has not been heard yet; nobody is expelled for that.
        let members = |one: &&Element| one.leads_to.is_none() && wanted.sets.contains_key(&one.set);
        let kept: Vec<Element> = found.elements.iter().filter(members).cloned().collect();
        wanted.elements.extend(kept);
    }
    let guests = policy.guests.len();
    if found.rules.is_none() || found.rules != stands.listed || wanted.answers != stands.answers {
        write(place, "write the firewall", script::whole(&place.table, &wanted)).await?;
        changes
            .extend([Change::new("FirewallWritten", format!("wrote the firewall {} of {guests} ports", place.table))]);
    } else {
        let script = script::difference(&place.table, stands, &wanted, &found.elements);
        if script.is_empty() {
            return Ok(changes);
        }
        let lines = script.lines().count();
        write(place, "change the firewall", script).await?;
        let message = format!("changed the firewall {} with {lines} instructions", place.table);
        changes.extend([Change::new("FirewallChanged", message)]);
        if wanted.sets == stands.sets && wanted.chains == stands.chains && wanted.limits == stands.limits {
            return Ok(changes);
        }
    }
    let listed = look(place).await?.rules;
    *stands =
        Stands { listed, sets: wanted.sets, chains: wanted.chains, answers: wanted.answers, limits: wanted.limits };
    Ok(changes)
}

/// Takes both tables away. That there are none is as well.
///
/// # Errors
/// nft's.
pub async fn remove(place: &Place) -> Result<()> {
    write(place, "remove the firewall", script::removal(&place.table)).await
}

async fn look(place: &Place) -> Result<listing::Found> {
    // All of it: a single table that is not there is an error, and its words differ between versions.
    let listed = nft(place, "list", &["-j", "list", "ruleset"], String::new()).await?;
    listing::parse(&listed, place.table.as_str()).map_err(Error::Listing)
}
