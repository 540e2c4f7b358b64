//! A table as it shall be, put in place of what there is.
//!
//! ```text
//!  list ──► rules as they stood after our last write? ── no ──► whole table, in one transaction
//!                 │ yes
//!                 └──► what differs, in one transaction: elements, the chains of whatever changed
//! ```
//!
//! Rules are compared with what the kernel listed right after they were written, not with a listing of ours: how a rule is
//! listed differs between versions of nft. Whoever has lost that listing writes the table once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::listing::{self, Element, Found};
use super::{Error, Place, Result, memory, nft, script, write};

/// A table as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Sets and maps with their declarations.
    pub(crate) sets: BTreeMap<String, String>,
    /// Limits with their rates.
    pub(crate) limits: BTreeMap<String, String>,
    /// Chains with their lines.
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    pub(crate) elements: BTreeSet<Element>,
    /// Tables of the same name in other families, as a script; only ever written with all the rest.
    pub(crate) beside: String,
}

/// How the table was written last and how it was listed then: to be kept across restarts, and handed in the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stands {
    pub(crate) chains: BTreeMap<String, Vec<String>>,
    pub(crate) sets: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) limits: BTreeMap<String, String>,
    #[serde(alias = "answers")]
    pub(crate) beside: String,
    pub(crate) listed: Option<String>,
}

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Nothing,
    /// All of it was written.
    Whole,
    /// So many instructions were.
    Changed(usize),
}

/// Everything that carries the table's name.
pub(crate) async fn look(place: &Place) -> Result<Arc<Found>> {
    // All of it: a single table that is not there is an error, and its words differ between versions.
    look_at(place, None, &["-j", "list", "ruleset"]).await
}

/// The same in one family.
pub(crate) async fn look_in(place: &Place, family: Family) -> Result<Arc<Found>> {
    let arguments = match family {
        Family::Bridge => &["-j", "list", "ruleset", "bridge"],
        Family::Inet => &["-j", "list", "ruleset", "inet"],
    };
    look_at(place, Some(family), arguments).await
}

/// What was listed the last time, if nobody has written since.
async fn look_at(place: &Place, family: Option<Family>, arguments: &'static [&'static str]) -> Result<Arc<Found>> {
    let (namespace, table) = (&place.namespace, place.table.as_str());
    let before = memory::generation(namespace).await?;
    if let Some(known) = before.and_then(|now| namespace.filter_memory().at(now, table, family)) {
        return Ok(known);
    }
    let listed = nft(place, "list", arguments, String::new()).await?;
    let mut found = listing::parse(&listed, table).map_err(Error::Listing)?;
    let after = memory::generation(namespace).await?;
    // Somebody who wrote meanwhile may have been listed or not.
    found.generation = before.filter(|before| after == Some(*before));
    let found = Arc::new(found);
    if let Some(generation) = found.generation {
        namespace.filter_memory().keep(generation, table, family, found.clone());
    }
    Ok(found)
}

/// What there is once a script of ours wrote the table, whose elements are `elements` then. `family`: where it is looked for, `before`: how
/// many transactions the namespace had seen when it was looked at last.
///
/// Of rules nobody knows how they are listed before they were, but elements need not be listed when the script was the only transaction.
///
/// # Errors
/// nft's.
pub(crate) async fn look_after(
    place: &Place,
    family: Option<Family>,
    before: Option<u32>,
    elements: BTreeSet<Element>,
) -> Result<Arc<Found>> {
    let (namespace, table) = (&place.namespace, place.table.as_str());
    let after = before.map(|before| before.wrapping_add(1));
    if let (Some(before), true) = (before, memory::generation(namespace).await? == after) {
        let listed = nft(place, "list", terse(family), String::new()).await?;
        let rules = listing::parse(&listed, table).map_err(Error::Listing)?.rules;
        if memory::generation(namespace).await? == after {
            let found = Arc::new(Found { rules, elements, generation: after });
            namespace.filter_memory().carry(before, table, family, found.clone());
            return Ok(found);
        }
    }
    match family {
        Some(family) => look_in(place, family).await,
        None => look(place).await,
    }
}

/// As for [`look_at`], without the elements of sets that have a name.
fn terse(family: Option<Family>) -> &'static [&'static str] {
    match family {
        Some(Family::Bridge) => &["-j", "-t", "list", "ruleset", "bridge"],
        Some(Family::Inet) => &["-j", "-t", "list", "ruleset", "inet"],
        None => &["-j", "-t", "list", "ruleset"],
    }
}

/// Hands nft a script that changes nothing but elements of the table, which are `elements` then. `family`: where `found` was looked for.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub(crate) async fn change_elements(
    place: &Place,
    family: Option<Family>,
    script: String,
    found: &Found,
    elements: BTreeSet<Element>,
) -> Result<()> {
    write(place, "change the table", script).await?;
    let Some(before) = found.generation else { return Ok(()) };
    let after = before.wrapping_add(1);
    if memory::generation(&place.namespace).await? == Some(after) {
        let left = Found { rules: found.rules.clone(), elements, generation: Some(after) };
        place.namespace.filter_memory().carry(before, place.table.as_str(), family, Arc::new(left));
    }
    Ok(())
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// A bridge's.
    Bridge,
    /// Those of IPv4 and IPv6.
    Inet,
}

impl Family {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Family::Bridge => "bridge",
            Family::Inet => "inet",
        }
    }
}

/// Makes the table be as wanted. `families`: its own, then those of what is beside it. `found`: what [`look`] found in them.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub(crate) async fn ensure(
    place: &Place,
    families: &[Family],
    wanted: Table,
    found: &Found,
    stands: &mut Stands,
) -> Result<Done> {
    let Some(family) = families.first().copied() else { return Ok(Done::Nothing) };
    let done = if found.rules.is_none() || found.rules != stands.listed || wanted.beside != stands.beside {
        write(place, "write the table", script::whole(families, &place.table, &wanted)).await?;
        Done::Whole
    } else {
        let script = script::difference(family, &place.table, stands, &wanted, &found.elements);
        if script.is_empty() {
            return Ok(Done::Nothing);
        }
        let lines = script.lines().count();
        if wanted.sets == stands.sets && wanted.chains == stands.chains && wanted.limits == stands.limits {
            let looked_at = (families.len() == 1).then_some(family);
            change_elements(place, looked_at, script, found, wanted.elements).await?;
            return Ok(Done::Changed(lines));
        }
        write(place, "change the table", script).await?;
        Done::Changed(lines)
    };
    let Table { sets, limits, chains, beside, elements } = wanted;
    let looked_at = (families.len() == 1).then_some(family);
    let listed = look_after(place, looked_at, found.generation, elements).await?.rules.clone();
    *stands = Stands { chains, sets, limits, beside, listed };
    Ok(done)
}

/// Takes the tables of these families away. That there are none is as well.
///
/// # Errors
/// nft's.
pub(crate) async fn remove(place: &Place, families: &[Family]) -> Result<()> {
    write(place, "remove the table", script::removal(families, &place.table)).await
}
