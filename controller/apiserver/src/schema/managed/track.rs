//! Writes that are no apply: whoever changes a field owns it, alone.

use serde_json::{Value, json};

use super::super::definition::{Definition, Version};
use super::compare::{Difference, compare};
use super::entry::{Entry, Managed, Operation, Writer};
use super::extract::collapsed;
use super::set::Set;

/// Nobody owns what the server alone writes, or what names the object.
const UNOWNED: [&str; 9] = [
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:clusterName",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

/// Takes away what nobody owns.
pub(super) fn strip(set: &mut Set) {
    set.cut("f:apiVersion");
    set.cut("f:kind");
    set.change("f:metadata", |metadata| {
        metadata.owned = false;
        UNOWNED.iter().for_each(|field| metadata.cut(field));
    });
}

/// The entries of an object that has just been made: its maker owns everything.
pub(crate) fn created(version: &Version, new: &Value, writer: &Writer<'_>) -> Managed {
    let mut fields = compare(&version.schema.root, &json!({}), new).changed;
    strip(&mut fields);
    let mut managed = Managed { entries: vec![writer.entry(Operation::Update, fields)] };
    managed.settle();
    managed
}

/// The entries after a change from `old` to `new`. An object without entries stays without: nobody applies to it.
pub(crate) fn tracked(
    definition: &Definition,
    version: &Version,
    (old, new): (&Value, &Value),
    mut managed: Managed,
    writer: &Writer<'_>,
) -> Managed {
    if managed.entries.is_empty() {
        return managed;
    }
    let difference = compare(&version.schema.root, old, new);
    if difference.is_empty() {
        return managed;
    }
    hand_over(definition, version, (old, new), &mut managed, &difference);
    let mut fields = difference.changed;
    strip(&mut fields);
    if !fields.is_empty() {
        match managed.entries.iter_mut().find(|entry| writer.is(Operation::Update, entry)) {
            Some(entry) => {
                entry.fields.add(fields);
                entry.time = Some(writer.now.to_owned());
            }
            None => managed.entries.push(writer.entry(Operation::Update, fields)),
        }
    }
    managed.settle();
    managed
}

/// The version an entry speaks of; entries of versions that are gone mean nothing any longer.
pub(super) fn version_of<'d>(definition: &'d Definition, entry: &Entry) -> Option<&'d Version> {
    let (group, name) = entry.api_version.split_once('/').unwrap_or(("", &entry.api_version));
    if group == definition.group { definition.version(name) } else { None }
}

/// Makes entries fit today's schema: those of versions that are gone go, and what became one is owned as one.
pub(super) fn refresh(definition: &Definition, managed: &mut Managed) {
    managed.entries.retain_mut(|entry| {
        let Some(version) = version_of(definition, entry) else { return false };
        entry.fields = collapsed(&version.schema.root, std::mem::take(&mut entry.fields));
        true
    });
}

/// Takes what changed or went from every entry.
pub(super) fn hand_over(
    definition: &Definition,
    version: &Version,
    (old, new): (&Value, &Value),
    managed: &mut Managed,
    difference: &Difference,
) {
    for entry in &mut managed.entries {
        match version_of(definition, entry) {
            Some(other) if other.name != version.name => {
                let difference = compare(&other.schema.root, old, new);
                entry.fields.remove(&difference.changed);
                entry.fields.remove(&difference.removed);
            }
            _ => {
                entry.fields.remove(&difference.changed);
                entry.fields.remove(&difference.removed);
            }
        }
    }
}
