//! Who owns which field: server-side apply and the bookkeeping of every other write.
//!
//! Pure. An object's `managedFields` say for each manager which fields it set. Applying lays a configuration over the
//! object, removes what this applier set earlier and says no longer, and refuses to change what is another's. All other
//! writes take the fields they change.
//!
//! ```text
//!             spoken_of(config) ──────────────► the applier's fields from now on
//! live ──┬──► merge ─► prune(last − claimed) ─► new object
//!        └──────────── compare ───────────────► changed ∩ others' fields = conflicts
//! ```
//!
//! | part | says |
//! |---|---|
//! | `set` | sets of paths and their written form |
//! | `shape` | how a schema wants a place merged |
//! | `extract`, `compare`, `merge` | one walk each over documents |
//! | `entry` | the list of managers |
//! | `apply`, `track` | the two ways to own fields |
//!
//! What the schema does not describe is merged as structured-merge-diff does it: maps by field, lists as one. Versions
//! differ in nothing but their name (`strategy: None`), so a path means the same in all of them.

mod apply;
mod compare;
mod entry;
mod extract;
mod merge;
mod set;
mod shape;
mod track;

#[cfg(test)]
use apply::Conflicts;
pub(crate) use apply::{Wish, apply};
pub(crate) use entry::{Managed, Writer};
pub(crate) use extract::{duplicates, spoken_of};
pub(crate) use set::Set;
pub(crate) use track::{created, tracked};

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
