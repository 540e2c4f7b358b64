//! What a user changed in an object, as a merge patch (RFC 7386).

use serde_json::{Map, Value};

/// The patch that makes `from` into `to`; an empty object when they are equal.
pub fn patch(from: &Value, to: &Value) -> Value {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return to.clone() };
    let mut changes = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(there) if there == value => {}
            Some(there) if there.is_object() && value.is_object() => {
                changes.insert(key.clone(), patch(there, value));
            }
            _ => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changes.insert(key.clone(), Value::Null);
    }
    Value::Object(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_holds_what_changed_and_nothing_else() {
        let from = json!({"spec": {"a": 1, "b": {"c": 2, "d": 3}, "l": [{"x": 1, "y": 2}]}, "kind": "K"});
        let to = json!({"spec": {"a": 1, "b": {"c": 5}, "l": [{"x": 1}], "n": true}, "kind": "K"});
        let wanted = json!({"spec": {"b": {"c": 5, "d": null}, "l": [{"x": 1}], "n": true}});
        assert_eq!(patch(&from, &to), wanted);
        assert_eq!(patch(&from, &from), json!({}));
    }
}
