//! Pruning: what the schema does not name is dropped before it is stored, and reported.

use serde_json::Value;

use super::{Additional, Node, Path};

/// Reports no more than this many paths; a hostile object with a million unknown keys still loses them all.
const REPORTED: usize = 64;

/// Removes unknown fields below `node` and returns their paths, in document order.
pub(super) fn prune(node: &Node, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(node, object, true, &Path::ROOT, &mut unknown);
    unknown
}

fn walk(node: &Node, value: &mut Value, resource: bool, path: &Path<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if matches!(node.additional, Additional::Closed) {
                map.retain(|key, _| {
                    let known = node.properties.contains_key(key) || (resource && is_type_or_metadata(key));
                    if !known && unknown.len() < REPORTED {
                        unknown.push(path.field(key).to_string());
                    }
                    known
                });
            }
            for (key, inner) in map.iter_mut() {
                if resource && is_type_or_metadata(key) {
                    continue;
                }
                if let Some(child) = node.child(key) {
                    walk(child, inner, child.embedded, &path.field(key), unknown);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                for (index, inner) in items.iter_mut().enumerate() {
                    walk(child, inner, child.embedded, &path.index(index), unknown);
                }
            }
        }
        _ => {}
    }
}

fn is_type_or_metadata(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata")
}
