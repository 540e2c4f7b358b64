//! Server-side apply.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::super::definition::{Definition, Version};
use super::compare::compare;
use super::entry::{Entry, Managed, Operation, Writer};
use super::extract::spoken_of;
use super::merge::{merge, prune};
use super::set::Set;
use super::track::{hand_over, refresh, strip, version_of};

/// Owns what an object held before anybody applied to it, when nothing else is known.
const BEFORE: &str = "before-first-apply";

/// What is applied, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// The kind.
    pub definition: &'a Definition,
    /// The version of the configuration.
    pub version: &'a Version,
    /// The configuration, reduced to what its door covers.
    pub config: &'a Value,
    /// Whose it is.
    pub writer: Writer<'a>,
    /// Take fields from others instead of refusing.
    pub force: bool,
    /// Conflicts over these fields count as forced; what a client-side apply has owned so far.
    pub yielding: Option<&'a Set>,
}

/// A field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The other manager, as clients show it: `"kubectl" using v1`.
    pub manager: String,
    /// The field, as `.data.key`.
    pub path: String,
}

/// Why an apply is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    /// kubectl's words.
    pub(crate) fn message(&self) -> String {
        if let [only] = self.0.as_slice() {
            return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
        }
        let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for conflict in &self.0 {
            by_manager.entry(&conflict.manager).or_default().push(&conflict.path);
        }
        let mut text = format!("Apply failed with {} conflicts: ", self.0.len());
        for (at, (manager, paths)) in by_manager.into_iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}conflicts with {manager}:", if at == 0 { "" } else { "\n" });
            for path in paths {
                let _ = write!(text, "\n- {path}");
            }
        }
        text
    }
}

/// The object after an apply, with its entries; `None` as `live` makes it.
pub(crate) fn apply(live: Option<&Value>, managed: Managed, wish: &Wish<'_>) -> Result<(Value, Managed), Conflicts> {
    let root = &wish.version.schema.root;
    let mut fields = spoken_of(root, wish.config);
    strip(&mut fields);
    let Some(live) = live else {
        let mut managed = Managed { entries: vec![wish.writer.entry(Operation::Apply, fields)] };
        managed.settle();
        return Ok((wish.config.clone(), managed));
    };
    let mut managed = known(live, managed, wish);
    let own = managed.entries.iter().position(|entry| wish.writer.is(Operation::Apply, entry));
    let last = own.map(|at| managed.entries.remove(at));
    let mut new = live.clone();
    merge(root, &mut new, wish.config);
    if let Some(last) = last.as_ref().filter(|last| prunes(wish, last) && !fields.covers(&last.fields)) {
        let mut claimed = fields.clone();
        managed.entries.iter().for_each(|entry| claimed.add(entry.fields.clone()));
        prune(root, &mut new, &last.fields, &claimed);
    }
    let unchanged = new == *live;
    if !unchanged {
        let difference = compare(root, live, &new);
        let conflicts = conflicts(&managed, &difference.changed, (live, &new), wish);
        if !conflicts.0.is_empty() {
            return Err(conflicts);
        }
        hand_over(wish.definition, wish.version, (live, &new), &mut managed, &difference);
    }
    let mut entry = wish.writer.entry(Operation::Apply, fields);
    if let Some(last) = last.filter(|last| unchanged && last.fields == entry.fields) {
        entry.time = last.time;
    }
    managed.entries.push(entry);
    managed.settle();
    Ok((new, managed))
}

/// The entries to start from: today's, or one for all that is there.
fn known(live: &Value, mut managed: Managed, wish: &Wish<'_>) -> Managed {
    refresh(wish.definition, &mut managed);
    if managed.entries.is_empty() {
        let mut fields = compare(&wish.version.schema.root, &json!({}), live).changed;
        strip(&mut fields);
        let before = Writer { manager: BEFORE, ..wish.writer };
        managed.entries.push(before.entry(Operation::Update, fields));
        managed.entries.retain(|entry| !entry.fields.is_empty());
    }
    managed
}

/// What was applied in a version that is gone cannot be told any more, so nothing of it is removed.
fn prunes(wish: &Wish<'_>, last: &Entry) -> bool {
    version_of(wish.definition, last).is_some()
}

fn conflicts(managed: &Managed, changed: &Set, (live, new): (&Value, &Value), wish: &Wish<'_>) -> Conflicts {
    let mut found = Vec::new();
    if wish.force {
        return Conflicts(found);
    }
    let mut others: Vec<&Entry> = managed.entries.iter().collect();
    others.sort_by_key(|e| (&e.manager, e.operation, &e.api_version, &e.subresource));
    for entry in others {
        let mut both = match version_of(wish.definition, entry) {
            Some(other) if other.name != wish.version.name => {
                entry.fields.intersection(&compare(&other.schema.root, live, new).changed)
            }
            _ => entry.fields.intersection(changed),
        };
        if let Some(yielding) = wish.yielding {
            both.remove(yielding);
        }
        let manager = shown(entry);
        found.extend(both.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }));
    }
    Conflicts(found)
}

fn shown(entry: &Entry) -> String {
    let mut text = Value::from(entry.manager.as_str()).to_string();
    if !entry.subresource.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, " with subresource {}", Value::from(entry.subresource.as_str()));
    }
    if entry.operation == Operation::Update {
        let _ = write!(text, " using {}", entry.api_version);
    }
    text
}
