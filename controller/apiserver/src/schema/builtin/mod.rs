//! The kinds the server itself brings: what stock clients need besides users' CRDs.
//!
//! They are documents in the form of CRDs, beside this file, and take the road that users' kinds take. What a CRD cannot
//! say (no group, cells that are counted or composed, fields that are write-only) is said here.

use serde_json::{Value, json};

use super::crd;
use super::definition::{Column, Definition};
use super::error::FieldError;
use super::jsonpath::Path;
use super::table::{Cell, age};

const DOCUMENTS: [&str; 12] = [
    include_str!("namespace.yaml"),
    include_str!("secret.yaml"),
    include_str!("configmap.yaml"),
    include_str!("serviceaccount.yaml"),
    include_str!("event_core.yaml"),
    include_str!("event.yaml"),
    include_str!("lease.yaml"),
    include_str!("customresourcedefinition.yaml"),
    include_str!("role.yaml"),
    include_str!("rolebinding.yaml"),
    include_str!("clusterrole.yaml"),
    include_str!("clusterrolebinding.yaml"),
];

/// Every built-in kind. The documents are part of the program, so one that does not compile is left out only in a build
/// whose tests were not run.
pub fn builtin() -> Vec<Definition> {
    DOCUMENTS.iter().filter_map(|text| compile(text).ok()).collect()
}

fn compile(text: &str) -> Result<Definition, Vec<FieldError>> {
    let document: Value = serde_saphyr::from_str(text)
        .map_err(|error| vec![FieldError::invalid("<nil>", &Value::Null, error.to_string().as_str())])?;
    let mut definition = crd::compile_builtin(&document)?;
    definition.builtin = true;
    definition.generation = definition.kind == "CustomResourceDefinition";
    definition.storage_resource = if definition.kind == "Event" || definition.group.is_empty() {
        definition.plural.clone()
    } else {
        format!("{}/{}", definition.group, definition.plural)
    };
    if let Some(columns) = columns(&definition.kind) {
        definition.versions.iter_mut().for_each(|version| version.columns.clone_from(&columns));
    }
    Ok(definition)
}

/// Folds write-only fields into stored ones before validation: a Secret's `stringData` becomes `data`.
pub fn normalize(definition: &Definition, object: &mut Value) {
    if !(definition.builtin && definition.kind == "Secret") {
        return;
    }
    let Value::Object(map) = object else { return };
    let Some(Value::Object(plain)) = map.remove("stringData") else { return };
    let data = map.entry("data").or_insert(Value::Null);
    if !data.is_object() {
        *data = json!({});
    }
    for (key, value) in plain {
        // A value that is no text stays as it is, for validation to refuse.
        let encoded = match value.as_str() {
            Some(text) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text).into(),
            None => value,
        };
        data[key] = encoded;
    }
}

fn columns(kind: &str) -> Option<Vec<Column>> {
    let column = |name: &str, kind: &str, cell: Cell, priority: i32, description: &str| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority,
        cell,
    };
    let path = |text: &str| Path::parse(text).ok();
    let age_column =
        || Some(column("Age", "date", Cell::Path(path(".metadata.creationTimestamp")?), 0, "Time since creation."));
    let count = |name: &str, at: &str| Some(column(name, "integer", Cell::Count(path(at)?), 0, "Number of entries."));
    let computed = |name: &str, cell: fn(&Value, jiff::Timestamp) -> Value, priority, description: &str| {
        column(name, "string", Cell::Computed(cell), priority, description)
    };
    Some(match kind {
        "Secret" => {
            let kind = column("Type", "string", Cell::Path(path(".type")?), 0, "Type of the secret.");
            vec![kind, count("Data", ".data")?, age_column()?]
        }
        "ConfigMap" => {
            let both: fn(&Value, jiff::Timestamp) -> Value = |object, _| {
                let size = |key: &str| object.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len);
                (size("data") + size("binaryData")).into()
            };
            vec![column("Data", "integer", Cell::Computed(both), 0, "Number of entries."), age_column()?]
        }
        "ServiceAccount" => vec![count("Secrets", ".secrets")?, age_column()?],
        "CustomResourceDefinition" | "Role" | "ClusterRole" => {
            let created: fn(&Value, jiff::Timestamp) -> Value =
                |object, _| object.pointer("/metadata/creationTimestamp").cloned().unwrap_or_default();
            vec![column("Created At", "date", Cell::Computed(created), 0, "When it was created.")]
        }
        "RoleBinding" | "ClusterRoleBinding" => vec![
            computed("Role", role_of, 0, "The role it hands out."),
            age_column()?,
            computed("Users", |binding, _| subjects(binding, "User"), 1, "Users it is for."),
            computed("Groups", |binding, _| subjects(binding, "Group"), 1, "Groups it is for."),
            computed("ServiceAccounts", |binding, _| subjects(binding, "ServiceAccount"), 1, "Accounts it is for."),
        ],
        "Event" => vec![
            computed("Last Seen", last_seen, 0, "When it was last seen."),
            computed("Type", |event, _| either(event, "type", "type"), 0, "Normal or Warning."),
            computed("Reason", |event, _| either(event, "reason", "reason"), 0, "The cause in one word."),
            computed("Object", event_object, 0, "What it is about."),
            computed(
                "Subobject",
                |event, _| either(involved(event), "fieldPath", "fieldPath"),
                1,
                "The part it is about.",
            ),
            computed("Source", event_source, 1, "Who said it."),
            computed("Message", |event, _| trimmed(&either(event, "message", "note")), 0, "The cause in a sentence."),
            computed("First Seen", first_seen, 1, "When it was first seen."),
            computed("Count", event_count, 1, "How often it was seen."),
            column("Name", "string", Cell::Name, 1, "The event's own name."),
        ],
        _ => return None,
    })
}

fn role_of(binding: &Value, _: jiff::Timestamp) -> Value {
    let text = |key: &str| binding["roleRef"][key].as_str().unwrap_or_default();
    format!("{}/{}", text("kind"), text("name")).into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = binding["subjects"].as_array().into_iter().flatten().filter(|subject| subject["kind"] == kind);
    let names: Vec<String> = of_kind
        .map(|subject| match (subject["namespace"].as_str().unwrap_or(""), subject["name"].as_str().unwrap_or("")) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        })
        .collect();
    names.join(", ").into()
}

fn either(object: &Value, old: &str, new: &str) -> Value {
    object.get(old).or_else(|| object.get(new)).cloned().unwrap_or_else(|| "".into())
}

fn involved(event: &Value) -> &Value {
    event.get("involvedObject").or_else(|| event.get("regarding")).unwrap_or(&Value::Null)
}

fn trimmed(text: &Value) -> Value {
    text.as_str().unwrap_or_default().trim().into()
}

fn event_object(event: &Value, _: jiff::Timestamp) -> Value {
    let object = involved(event);
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("kind").to_lowercase(), text("name")).into()
}

fn event_source(event: &Value, _: jiff::Timestamp) -> Value {
    let source = either(event, "source", "deprecatedSource");
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let component = match text(&source, "component") {
        empty if empty.is_empty() => {
            either(event, "reportingComponent", "reportingController").as_str().unwrap_or_default().to_owned()
        }
        component => component,
    };
    match text(&source, "host") {
        host if host.is_empty() => component.into(),
        host => format!("{component}, {host}").into(),
    }
}

fn event_count(event: &Value, _: jiff::Timestamp) -> Value {
    let series = event.pointer("/series/count");
    let own = event.get("count").or_else(|| event.get("deprecatedCount"));
    series.or(own).filter(|count| count.as_i64() > Some(0)).cloned().unwrap_or_else(|| 1.into())
}

fn last_seen(event: &Value, now: jiff::Timestamp) -> Value {
    let last = event.get("lastTimestamp").or_else(|| event.get("deprecatedLastTimestamp")).filter(|t| t.is_string());
    let time = event.pointer("/series/lastObservedTime").or(last).or_else(|| event.get("eventTime"));
    age(time.filter(|time| time.is_string()).or_else(|| event.pointer("/metadata/creationTimestamp")), now)
}

fn first_seen(event: &Value, now: jiff::Timestamp) -> Value {
    let first = event.get("firstTimestamp").or_else(|| event.get("deprecatedFirstTimestamp")).filter(|t| t.is_string());
    age(first.or_else(|| event.get("eventTime")).filter(|t| t.is_string()), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_compiles() {
        for text in DOCUMENTS {
            compile(text).map_err(|errors| format!("{errors:?}\n{text}")).expect("document");
        }
        assert_eq!(builtin().len(), DOCUMENTS.len());
    }

    #[test]
    fn string_data_becomes_data() {
        let kinds = builtin();
        let secret = kinds.iter().find(|kind| kind.kind == "Secret").expect("secret");
        let mut object = json!({"data": {"a": "b2xk", "b": "b2xk"}, "stringData": {"a": "new"}});
        normalize(secret, &mut object);
        assert_eq!(object, json!({"data": {"a": "bmV3", "b": "b2xk"}}));
    }
}
