//! Putting an applied configuration into an object, and taking out what is applied no longer.

use std::collections::HashMap;

use serde_json::Value;

use super::super::structural::Node;
use super::extract::{spoken_of, with_named};
use super::set::Set;
use super::shape::Shape;

/// Lays a configuration over an object.
pub(crate) fn merge(root: &Node, object: &mut Value, config: &Value) {
    lay(Shape::Resource(root), object, config);
}

fn lay(shape: Shape<'_>, object: &mut Value, config: &Value) {
    match (object, config) {
        (Value::Object(object), Value::Object(config)) if !shape.is_atomic_map() => {
            for (key, value) in config {
                match object.get_mut(key) {
                    Some(there) => lay(shape.field(key).0, there, value),
                    None => {
                        object.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(object), Value::Array(config)) if !shape.is_atomic_list() => {
            if object != config {
                let there = std::mem::take(object);
                *object = lists(shape, there, config);
            }
        }
        (object, config) => {
            if object != config {
                *object = config.clone();
            }
        }
    }
}

/// Both lists' items, in the configuration's order; what only the object has stays behind the item it stood behind.
fn lists(shape: Shape<'_>, there: Vec<Value>, config: &[Value]) -> Vec<Value> {
    let wanted: Vec<String> = config.iter().map(|item| shape.item_step(item)).collect();
    let mut index: HashMap<&str, usize> = HashMap::with_capacity(wanted.len());
    for (at, step) in wanted.iter().enumerate() {
        index.entry(step).or_insert(at);
    }
    // The object's items in their order, whether the configuration speaks of each, and where each of its items is.
    let mut left: Vec<(Option<Value>, bool)> = Vec::with_capacity(there.len());
    let mut known: Vec<Option<usize>> = vec![None; wanted.len()];
    for item in there {
        match index.get(shape.item_step(&item).as_str()) {
            None => left.push((Some(item), false)),
            Some(&at) if known[at].is_none() => {
                known[at] = Some(left.len());
                left.push((Some(item), true));
            }
            Some(_) => {}
        }
    }
    let mut merged = Vec::with_capacity(left.len() + wanted.len());
    let mut next = 0;
    for (at, item) in config.iter().enumerate().filter(|(at, _)| index.get(wanted[*at].as_str()) == Some(at)) {
        // A new item stands behind what only the object has, up to the next item that both have.
        let passes = |next: usize, left: &[(Option<Value>, bool)]| match (known[at], left.get(next)) {
            (_, None) => false,
            (Some(position), _) => next < position,
            (None, Some((value, shared))) => !(*shared && value.is_some()),
        };
        while passes(next, &left) {
            if !left[next].1 {
                merged.extend(left[next].0.take());
            }
            next += 1;
        }
        match known[at].and_then(|position| left[position].0.take()) {
            Some(mut both) => {
                lay(shape.items(), &mut both, item);
                merged.push(both);
            }
            None => merged.push(item.clone()),
        }
    }
    merged.extend(left.into_iter().skip(next).filter(|(_, shared)| !shared).filter_map(|(value, _)| value));
    merged
}

/// Removes what `last` (the applier's fields of last time) holds and `claimed` (everybody's fields of now) does not.
///
/// A container goes with everything in it when the applier made it, nobody speaks of it any longer, and nothing in it is
/// anybody's. What nobody owns stays.
pub(crate) fn prune(root: &Node, object: &mut Value, last: &Set, claimed: &Set) {
    let shape = Shape::Resource(root);
    let here = with_named(shape, &spoken_of(root, object));
    let last = with_named(shape, last);
    let claimed = with_named(shape, claimed);
    let gone = doomed(&here, Some(&last), Some(&claimed), Above::default());
    if !gone.is_empty() {
        take_out(shape, object, &gone);
    }
}

/// What was found on the way down.
#[derive(Clone, Copy, Default)]
struct Above {
    /// Some container was the applier's.
    applied: bool,
    /// Some container is nobody's any longer.
    unclaimed: bool,
}

fn doomed(here: &Set, last: Option<&Set>, claimed: Option<&Set>, above: Above) -> Set {
    let mut gone = Set::default();
    for (step, below) in here.children() {
        let last = last.and_then(|set| set.child(step));
        let claimed = claimed.and_then(|set| set.child(step));
        if last.is_none() {
            // Nothing here or below was the applier's.
            continue;
        }
        let ours = last.is_some_and(|set| set.owned);
        let applied = above.applied || ours;
        let unclaimed = above.unclaimed || (below.owned && applied && !claimed.is_some_and(|set| set.owned));
        let inner = if below.owned && unclaimed && ours {
            Set::leaf()
        } else {
            doomed(below, last, claimed, Above { applied, unclaimed })
        };
        gone.insert(step, inner);
    }
    gone
}

fn take_out(shape: Shape<'_>, value: &mut Value, gone: &Set) {
    match value {
        Value::Object(map) if !shape.is_atomic_map() => {
            for (step, below) in gone.children() {
                let Some(key) = step.strip_prefix("f:") else { continue };
                if below.owned {
                    map.remove(key);
                } else if let Some(inner) = map.get_mut(key) {
                    take_out(shape.field(key).0, inner, below);
                }
            }
        }
        Value::Array(items) if !shape.is_atomic_list() => items.retain_mut(|item| {
            let Some(below) = gone.child(&shape.item_step(item)) else { return true };
            if !below.owned {
                take_out(shape.items(), item, below);
            }
            !below.owned
        }),
        _ => {}
    }
}
