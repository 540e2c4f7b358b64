//! Defaulting: absent fields get their default, then the default's own inside is defaulted too.

use serde_json::Value;

use super::{Additional, Node};

/// Applies defaults below `node`; subtrees without any are not entered.
pub(super) fn apply(node: &Node, value: &mut Value) {
    if !node.defaults_below {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, child) in &node.properties {
                if let Some(default) = &child.default {
                    let absent = match map.get(key) {
                        None => true,
                        Some(Value::Null) => !child.nullable,
                        Some(_) => false,
                    };
                    if absent {
                        map.insert(key.clone(), default.clone());
                    }
                }
                if child.defaults_below
                    && let Some(inner) = map.get_mut(key)
                {
                    apply(child, inner);
                }
            }
            if let Additional::Schema(child) = &node.additional {
                for (key, inner) in map.iter_mut() {
                    if node.properties.contains_key(key) {
                        continue;
                    }
                    if let (Value::Null, Some(default), false) = (&*inner, &child.default, child.nullable) {
                        *inner = default.clone();
                    }
                    apply(child, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                for inner in items {
                    if let (Value::Null, Some(default), false) = (&*inner, &child.default, child.nullable) {
                        *inner = default.clone();
                    }
                    apply(child, inner);
                }
            }
        }
        _ => {}
    }
}
