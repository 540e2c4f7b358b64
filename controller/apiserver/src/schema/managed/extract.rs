//! Which fields a document has.

use serde_json::Value;

use super::super::error::FieldError;
use super::super::structural::{Node, Path, check_unique};
use super::set::{Set, field_step};
use super::shape::Shape;

/// The fields somebody who applies this document speaks of: its leaves, keys of maps and items of lists.
pub(crate) fn spoken_of(root: &Node, document: &Value) -> Set {
    let mut set = walk(Shape::Resource(root), document);
    set.owned = false;
    set
}

fn walk(shape: Shape<'_>, value: &Value) -> Set {
    match value {
        Value::Object(map) if !shape.is_atomic_map() => {
            let mut set = Set::default();
            for (key, value) in map {
                let (child, named) = shape.field(key);
                let mut below = walk(child, value);
                below.owned |= !named || is_nothing(value);
                set.insert(field_step(key), below);
            }
            set
        }
        Value::Array(items) if !shape.is_atomic_list() => {
            let each = |item: &Value| {
                let mut below = walk(shape.items(), item);
                below.owned = true;
                (shape.item_step(item).into_boxed_str(), below)
            };
            Set::gather(false, items.iter().map(each).collect())
        }
        _ => Set::leaf(),
    }
}

/// An empty container is said to be empty, which is a statement of its own.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    }
}

/// Items that a document has twice where they are told apart by their keys or values.
pub(crate) fn duplicates(root: &Node, document: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    find_duplicates(Shape::Resource(root), document, &Path::ROOT, &mut errors);
    errors
}

fn find_duplicates(shape: Shape<'_>, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                find_duplicates(shape.field(key).0, value, &path.field(key), errors);
            }
        }
        Value::Array(items) => {
            check_unique(shape.list(), items, path, errors);
            for (index, item) in items.iter().enumerate() {
                find_duplicates(shape.items(), item, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

/// Everything at and below a place, containers included: what comes into being when the place does.
pub(super) fn everything(shape: Shape<'_>, value: &Value) -> Set {
    let below = match value {
        Value::Object(map) if !shape.is_atomic_map() => {
            let each = |(key, value): (&String, &Value)| (field_step(key), everything(shape.field(key).0, value));
            map.iter().map(each).collect()
        }
        Value::Array(items) if !shape.is_atomic_list() => {
            items.iter().map(|item| (shape.item_step(item).into_boxed_str(), everything(shape.items(), item))).collect()
        }
        _ => Vec::new(),
    };
    Set::gather(true, below)
}

/// The set with every field the schema names on the way to a member a member too. Removing such a field removes a
/// container that somebody named; keys of maps and items of lists go only when they are members themselves.
pub(super) fn with_named(shape: Shape<'_>, set: &Set) -> Set {
    let mut all = Set::of(set.owned);
    for (step, below) in set.children() {
        let (child, named) = match step.strip_prefix("f:") {
            Some(key) => shape.field(key),
            None => (shape.items(), false),
        };
        let mut below = with_named(child, below);
        below.owned |= named;
        all.insert(step, below);
    }
    all
}

/// Turns what was owned inside a map or list that the schema now treats as one into the ownership of that one.
pub(super) fn collapsed(root: &Node, set: Set) -> Set {
    if has_inner(Shape::Resource(root), &set) { fold(Shape::Resource(root), &set) } else { set }
}

fn is_one(shape: Shape<'_>, set: &Set) -> bool {
    let items = set.children().next().is_some_and(|(step, _)| !step.starts_with("f:"));
    if items { matches!(shape, Shape::Declared(_)) && shape.is_atomic_list() } else { shape.is_atomic_map() }
}

fn has_inner(shape: Shape<'_>, set: &Set) -> bool {
    set.children().any(|(step, below)| {
        let child = step.strip_prefix("f:").map_or_else(|| shape.items(), |key| shape.field(key).0);
        !below.ends_here() && (is_one(child, below) || has_inner(child, below))
    })
}

fn fold(shape: Shape<'_>, set: &Set) -> Set {
    let mut all = Set::of(set.owned);
    for (step, below) in set.children() {
        let child = step.strip_prefix("f:").map_or_else(|| shape.items(), |key| shape.field(key).0);
        let one = !below.ends_here() && is_one(child, below);
        all.insert(step, if one { Set::leaf() } else { fold(child, below) });
    }
    all
}
