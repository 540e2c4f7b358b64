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

use serde::{Deserialize, Serialize};

use super::listing::{self, Element, Found};
use super::{Error, Place, Result, nft, script, write};

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
pub(crate) async fn look(place: &Place) -> Result<Found> {
    // All of it: a single table that is not there is an error, and its words differ between versions.
    let listed = nft(place, "list", &["-j", "list", "ruleset"], String::new()).await?;
    listing::parse(&listed, place.table.as_str()).map_err(Error::Listing)
}

/// The same in one family.
pub(crate) async fn look_in(place: &Place, family: Family) -> Result<Found> {
    let arguments = match family {
        Family::Bridge => &["-j", "list", "ruleset", "bridge"],
        Family::Inet => &["-j", "list", "ruleset", "inet"],
    };
    let listed = nft(place, "list", arguments, String::new()).await?;
    listing::parse(&listed, place.table.as_str()).map_err(Error::Listing)
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        write(place, "change the table", script).await?;
        if wanted.sets == stands.sets && wanted.chains == stands.chains && wanted.limits == stands.limits {
            return Ok(Done::Changed(lines));
        }
        Done::Changed(lines)
    };
    let listed = match families {
        [only] => look_in(place, *only).await?.rules,
        _ => look(place).await?.rules,
    };
    let Table { sets, limits, chains, beside, .. } = wanted;
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
