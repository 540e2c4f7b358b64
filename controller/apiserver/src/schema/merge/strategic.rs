//! Strategic merge: a merge patch that knows which lists are maps in disguise.
//!
//! Kubernetes keeps that knowledge in tags of its Go types, so only built-in kinds are patched so. Besides values a patch
//! carries directives, which kubectl writes into client-side applies:
//!
//! | directive | meaning |
//! |---|---|
//! | `$patch: replace`, `delete`, `merge` | what becomes of the map or list item it stands in |
//! | `$retainKeys: […]` | all other keys of the map go |
//! | `$deleteFromPrimitiveList/F: […]` | these values go from the list F |
//! | `$setElementOrder/F: […]` | the order of the list F after the merge |

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::Definition;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// `application/strategic-merge-patch+json`, for built-in kinds only. On an error the object is unchanged.
pub fn strategic_patch(definition: &Definition, object: &mut Value, patch: Value) -> Result<(), PatchError> {
    if !definition.builtin {
        let why = "the body of the request was in an unknown format - accepted media types include: \
                   application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        return Err(PatchError::Unsupported(why.to_owned()));
    }
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("error decoding patch: json: cannot unmarshal into an object".to_owned()));
    };
    let mut patched = object.clone();
    map(&mut patched, patch)?;
    *object = patched;
    Ok(())
}

/// How the items of a list are told apart: by this field, or by themselves where it is empty. `None`: the list is one
/// value.
fn list_key(field: &str) -> Option<&'static str> {
    match field {
        "ownerReferences" => Some("uid"),
        "conditions" => Some("type"),
        "secrets" | "imagePullSecrets" => Some("name"),
        "finalizers" => Some(""),
        _ => None,
    }
}

/// Items compared with each other in one list: a patch of many may not meet a list of many.
const COMPARED: usize = 4_000_000;

fn affordable(items: usize, others: usize) -> Result<(), PatchError> {
    if items.saturating_mul(others) > COMPARED {
        return Err(PatchError::TooLarge("the patch and the object have too many list items to be merged".to_owned()));
    }
    Ok(())
}

fn malformed(why: &str) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {why}"))
}

/// Takes a directive that is a list out of the patch.
fn take_list(patch: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match patch.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(_) => Err(malformed(&format!("invalid patch format of {name}: it is no list"))),
    }
}

/// Merges a map.
fn map(target: &mut Value, mut patch: Map<String, Value>) -> Result<(), PatchError> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(word)) if word == "merge" => {}
        Some(Value::String(word)) if word == "replace" => {
            *target = Value::Object(patch);
            return Ok(());
        }
        Some(Value::String(word)) if word == "delete" => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(malformed(&format!("unknown patch type: {other}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    if let Some(kept) = take_list(&mut patch, RETAIN)? {
        retain(target, &patch, &kept)?;
    }
    let mut orders = Vec::new();
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with('$')).cloned().collect();
    for directive in directives {
        let Some(items) = take_list(&mut patch, &directive)? else { continue };
        if let Some(field) = directive.strip_prefix(DELETE_FROM) {
            if let Some(Value::Array(list)) = target.get_mut(field) {
                affordable(list.len(), items.len())?;
                list.retain(|item| !items.contains(item));
            }
        } else if let Some(field) = directive.strip_prefix(ORDER) {
            orders.push((field.to_owned(), items));
        }
    }
    let before: Vec<Option<Value>> = orders.iter().map(|(field, _)| target.get(field).cloned()).collect();
    for (key, value) in patch {
        match (value, list_key(&key)) {
            (Value::Null, _) => {
                target.remove(&key);
            }
            (Value::Object(inner), _) => map(target.entry(key).or_insert(Value::Null), inner)?,
            (Value::Array(items), Some(by)) => list(target.entry(key).or_insert(Value::Null), items, by)?,
            (other, _) => {
                target.insert(key, other);
            }
        }
    }
    for ((field, wanted), before) in orders.iter().zip(before) {
        if let (Some(Value::Array(list)), Some(by)) = (target.get_mut(field), list_key(field)) {
            let before = before.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            affordable(list.len(), wanted.len() + before.len())?;
            order(list, wanted, before, by);
        }
    }
    Ok(())
}

/// Drops the keys that are not to be retained. Whoever sets a key has to retain it.
fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>, kept: &[Value]) -> Result<(), PatchError> {
    let is_kept = |key: &str| kept.iter().any(|kept| kept == key);
    let set = patch.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    if let Some((key, _)) = set.into_iter().find(|(key, _)| !is_kept(key)) {
        return Err(PatchError::Unprocessable(format!(
            "NewPatch content doesn't match $retainKeys list: {key:?} is set and not retained"
        )));
    }
    target.retain(|key, _| is_kept(key));
    Ok(())
}

/// Whether two items are one and the same.
fn same(a: &Value, b: &Value, by: &str) -> bool {
    if by.is_empty() { a == b } else { a.get(by).is_some_and(|key| b.get(by) == Some(key)) }
}

/// Merges a list by the key of its items.
fn list(target: &mut Value, items: Vec<Value>, by: &str) -> Result<(), PatchError> {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(list) = target else { return Ok(()) };
    affordable(list.len() + items.len(), items.len())?;
    let says = |item: &Value, word: &str| item.get(PATCH).and_then(Value::as_str) == Some(word);
    if items.iter().any(|item| says(item, "replace")) {
        *list = items.into_iter().filter(|item| !says(item, "replace")).collect();
        return Ok(());
    }
    for item in items {
        if !by.is_empty() && item.get(by).is_none() {
            return Err(malformed(&format!("{item} does not contain declared merge key: {by}")));
        }
        let found = list.iter().position(|other| same(other, &item, by));
        match (item, found) {
            (item, at) if says(&item, "delete") => {
                at.map(|at| list.remove(at));
            }
            (Value::Object(inner), Some(at)) => map(&mut list[at], inner)?,
            (Value::Object(inner), None) => {
                let mut made = Value::Null;
                map(&mut made, inner)?;
                list.push(made);
            }
            (_, Some(_)) => {}
            (item, None) => list.push(item),
        }
    }
    Ok(())
}

/// Puts the items into the wanted order. Those it does not mention stay where they were among their old neighbours.
fn order(list: &mut Vec<Value>, wanted: &[Value], before: &[Value], by: &str) {
    let place = |among: &[Value], item: &Value| among.iter().position(|other| same(other, item, by));
    let (mut ordered, rest): (Vec<Value>, Vec<Value>) =
        std::mem::take(list).into_iter().partition(|item| place(wanted, item).is_some());
    ordered.sort_by_cached_key(|item| place(wanted, item));
    let mut rest = rest.into_iter().peekable();
    for item in ordered {
        let at = place(before, &item);
        let earlier = |other: &Value| match (place(before, other), at) {
            (Some(other), Some(at)) => other.cmp(&at) == Ordering::Less,
            _ => false,
        };
        while let Some(other) = rest.next_if(earlier) {
            list.push(other);
        }
        list.push(item);
    }
    list.extend(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(object: &Value, patch: &Value) -> Result<Value, PatchError> {
        static KINDS: std::sync::LazyLock<Vec<Definition>> = std::sync::LazyLock::new(crate::schema::builtin);
        let kind = KINDS.iter().find(|kind| kind.kind == "ConfigMap").expect("a built-in kind");
        let mut object = object.clone();
        strategic_patch(kind, &mut object, patch.clone()).map(|()| object)
    }

    #[test]
    fn each_directive_does_what_it_says() {
        let table = [
            // map values
            (
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"b": null, "c": "3"}}),
                json!({"data": {"a": "1", "c": "3"}}),
            ),
            (
                json!({"data": {"a": "1"}}),
                json!({"data": {"$patch": "replace", "b": "2"}}),
                json!({"data": {"b": "2"}}),
            ),
            (json!({"data": {"a": "1"}}), json!({"data": {"$patch": "delete"}}), json!({"data": {}})),
            (
                json!({"data": {"a": "1"}}),
                json!({"data": {"$patch": "merge", "b": "2"}}),
                json!({"data": {"a": "1", "b": "2"}}),
            ),
            (
                json!({"x": {"a": 1, "b": 2, "c": 3}}),
                json!({"x": {"$retainKeys": ["a", "d"], "d": 4}}),
                json!({"x": {"a": 1, "d": 4}}),
            ),
            // sets
            (
                json!({"finalizers": ["a", "b"]}),
                json!({"finalizers": ["b", "c"]}),
                json!({"finalizers": ["a", "b", "c"]}),
            ),
            (
                json!({"finalizers": ["a", "b"]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["a"]}),
                json!({"finalizers": ["b"]}),
            ),
            (
                json!({"finalizers": ["a", "b", "c"]}),
                json!({"$setElementOrder/finalizers": ["d", "c", "a"], "finalizers": ["d"]}),
                json!({"finalizers": ["d", "b", "c", "a"]}),
            ),
            // lists of maps
            (
                json!({"secrets": [{"name": "a", "x": 1}, {"name": "b"}]}),
                json!({"secrets": [{"name": "a", "y": 2}, {"name": "b", "$patch": "delete"}, {"name": "c"}]}),
                json!({"secrets": [{"name": "a", "x": 1, "y": 2}, {"name": "c"}]}),
            ),
            (
                json!({"secrets": [{"name": "a"}]}),
                json!({"secrets": [{"$patch": "replace"}, {"name": "z"}]}),
                json!({"secrets": [{"name": "z"}]}),
            ),
            // every other list is one value
            (json!({"rules": [1, 2]}), json!({"rules": [3]}), json!({"rules": [3]})),
        ];
        for (object, patch, expected) in table {
            assert_eq!(patched(&object, &patch).unwrap(), expected, "{object} {patch}");
        }
    }

    #[test]
    fn patches_that_make_no_sense_are_refused() {
        for (patch, code) in [
            (json!({"data": {"$patch": "explode"}}), 400),
            (json!({"data": {"$patch": 7}}), 400),
            (json!({"data": {"$retainKeys": "a"}}), 400),
            (json!({"data": {"$retainKeys": ["a"], "b": 1}}), 422),
            (json!({"secrets": [{"x": 1}]}), 400),
            (json!({"$setElementOrder/secrets": 3}), 400),
            (json!([1]), 400),
            (json!({"finalizers": (0..3000).map(|n| n.to_string()).collect::<Vec<_>>()}), 413),
        ] {
            assert_eq!(patched(&json!({"data": {"a": 1}}), &patch).unwrap_err().code(), code, "{patch}");
        }
    }

    fn patch() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("a"),
            Just("finalizers"),
            Just("secrets"),
            Just("$patch"),
            Just("$retainKeys"),
            Just("$setElementOrder/secrets"),
            Just("$deleteFromPrimitiveList/finalizers"),
            Just("name"),
            Just("replace")
        ];
        let leaf = prop_oneof![Just(Value::Null), Just(json!(1)), word.clone().prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn any_patch_is_applied_or_refused(object in patch(), patch in patch()) {
            if let Err(error) = patched(&object, &patch) {
                prop_assert!((400..500).contains(&error.code()));
            }
        }
    }
}
