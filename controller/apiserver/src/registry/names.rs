//! The status of a CRD: whether its names are free, whether it is served, which versions were ever stored.

use serde_json::{Value, json};

use crate::text;

/// The condition of a CRD whose objects are going.
const TERMINATING: &str = "Terminating";

/// The names a CRD wants within its group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    resources: Vec<String>,
    kinds: Vec<String>,
}

fn names(crd: &Value) -> Names {
    let names = &crd["spec"]["names"];
    let text = |field: &str| names[field].as_str().unwrap_or("").to_owned();
    let kind = text("kind");
    let or = |value: String, default: String| if value.is_empty() { default } else { value };
    let mut resources = vec![text("plural"), or(text("singular"), kind.to_lowercase())];
    resources.extend(names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    let list_kind = or(text("listKind"), format!("{kind}List"));
    Names { resources, kinds: vec![kind, list_kind] }
}

/// The first of `crd`'s names that another CRD of its group took before it.
fn taken(crd: &Value, others: &[&Value]) -> Option<String> {
    let wanted = names(crd);
    for other in others.iter().filter(|other| other["spec"]["group"] == crd["spec"]["group"]) {
        let held = names(other);
        if let Some(name) = wanted.resources.iter().find(|name| held.resources.contains(name)) {
            return Some(name.clone());
        }
        if let Some(kind) = wanted.kinds.iter().find(|kind| held.kinds.contains(kind)) {
            return Some(kind.clone());
        }
    }
    None
}

/// The status `crd` should have, given the CRDs accepted before it; and whether it is to be served.
#[must_use]
pub fn crd_status(crd: &Value, accepted: &[&Value]) -> (Value, bool) {
    let conflict = taken(crd, accepted);
    let serve = conflict.is_none();
    let (names_status, names_reason, names_message) = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some(name) => ("False", "NameConflict", format!("{name:?} is already in use")),
    };
    let (est_status, est_reason, est_message) = if serve {
        ("True", "InitialNamesAccepted", "the initial names have been accepted")
    } else {
        ("False", "NotAccepted", "not all names are accepted")
    };
    let old = &crd["status"];
    let mut conditions = vec![
        condition(old, "NamesAccepted", names_status, names_reason, &names_message),
        condition(old, "Established", est_status, est_reason, est_message),
    ];
    if crate::object::is_deleting(crd) {
        let (reason, message) = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
        conditions.push(condition(old, TERMINATING, "True", reason, message));
    }
    let mut accepted_names = crd["spec"]["names"].clone();
    if let Some(map) = accepted_names.as_object_mut() {
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        map.entry("singular").or_insert_with(|| json!(kind.to_lowercase()));
        map.entry("listKind").or_insert_with(|| json!(format!("{kind}List")));
    }
    if !serve {
        accepted_names = old["acceptedNames"].clone();
        if accepted_names.is_null() {
            accepted_names = json!({"plural": "", "kind": ""});
        }
    }
    (json!({"conditions": conditions, "acceptedNames": accepted_names, "storedVersions": stored_versions(crd)}), serve)
}

/// Every version objects may be stored in: those of before plus the storage version of now.
fn stored_versions(crd: &Value) -> Vec<Value> {
    let mut stored = crd["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    for version in versions.filter(|v| v["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    stored
}

/// A condition that keeps its transition time while its status stays.
fn condition(old: &Value, kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let before = old["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let since = before
        .filter(|c| c["status"] == status)
        .and_then(|c| c["lastTransitionTime"].as_str())
        .map_or_else(text::now, str::to_owned);
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str) -> Value {
        json!({"spec": {"group": "example.dev", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "storage": true}]}})
    }

    #[test]
    fn the_first_to_claim_a_name_keeps_it() {
        let first = crd("widgets", "Widget");
        let (status, serve) = crd_status(&first, &[]);
        assert!(serve);
        assert_eq!(status["storedVersions"], json!(["v1"]));
        assert_eq!(status["acceptedNames"]["listKind"], "WidgetList");
        let (status, serve) = crd_status(&crd("things", "Widget"), &[&first]);
        assert!(!serve);
        assert_eq!(status["conditions"][0]["reason"], "NameConflict");
        assert_eq!(status["conditions"][1]["status"], "False");
    }

    #[test]
    fn a_settled_status_does_not_change_again() {
        let mut it = crd("widgets", "Widget");
        it["status"] = crd_status(&it, &[]).0;
        it["status"]["conditions"][0]["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        assert_eq!(crd_status(&it, &[]).0, it["status"]);
    }
}
