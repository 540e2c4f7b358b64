//! What differs between two states of an object, as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::structural::Node;
use super::extract::everything;
use super::set::{Set, field_step};
use super::shape::Shape;

/// The fields in which two states differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// New, or with another value.
    pub changed: Set,
    /// No longer there.
    pub removed: Set,
}

impl Difference {
    /// Whether the states are the same.
    pub(crate) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn below(&mut self, step: &dyn Fn() -> Box<str>, inner: Self) {
        if !inner.changed.is_empty() {
            self.changed.insert(step(), inner.changed);
        }
        if !inner.removed.is_empty() {
            self.removed.insert(step(), inner.removed);
        }
    }
}

/// Compares two states; where they are equal nothing is allocated.
pub(crate) fn compare(root: &Node, old: &Value, new: &Value) -> Difference {
    let mut difference = walk(Shape::Resource(root), Some(old), Some(new));
    difference.changed.owned = false;
    difference.removed.owned = false;
    difference
}

fn walk(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) if !shape.is_atomic_map() => maps(shape, old, new),
        (Some(old), Some(new)) if old == new => Difference::default(),
        (Some(Value::Array(old)), Some(Value::Array(new))) if !shape.is_atomic_list() => lists(shape, old, new),
        (old, new) => {
            let mut removed = old.map(|old| everything(shape, old)).unwrap_or_default();
            removed.owned = new.is_none() && old.is_some();
            Difference { changed: new.map(|new| everything(shape, new)).unwrap_or_default(), removed }
        }
    }
}

fn maps(shape: Shape<'_>, old: &Map<String, Value>, new: &Map<String, Value>) -> Difference {
    let mut all = Difference::default();
    for (key, value) in new {
        let inner = walk(shape.field(key).0, old.get(key), Some(value));
        all.below(&|| field_step(key), inner);
    }
    for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        all.below(&|| field_step(key), walk(shape.field(key).0, Some(value), None));
    }
    all
}

/// Items that occur twice cannot be told apart, so they are compared as one.
fn lists(shape: Shape<'_>, old: &[Value], new: &[Value]) -> Difference {
    let mut found: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old {
        found.entry(shape.item_step(item)).or_default().0.push(item);
    }
    for item in new {
        found.entry(shape.item_step(item)).or_default().1.push(item);
    }
    let mut all = Difference::default();
    for (step, (old, new)) in found {
        let inner = match (old.as_slice(), new.as_slice()) {
            (old, new) if old == new => continue,
            (old, new) if old.len() < 2 && new.len() < 2 => {
                walk(shape.items(), old.first().copied(), new.first().copied())
            }
            (_, []) => Difference { removed: Set::leaf(), ..Difference::default() },
            _ => Difference { changed: Set::leaf(), ..Difference::default() },
        };
        all.below(&|| step.as_str().into(), inner);
    }
    all
}
