//! Object metadata: names, labels, annotations, finalizers and owner references, in the official server's words.

use serde_json::Value;

use super::Definition;
use super::error::{Cause, FieldError, quoted};

/// All annotations together.
const ANNOTATIONS: usize = 256 * 1024;

pub(super) const FIELDS: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
     start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
     with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
pub(crate) const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Names, labels, annotations, finalizers and owner references as Kubernetes demands them.
pub fn validate_metadata(definition: &Definition, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(metadata) = object.get("metadata").filter(|metadata| metadata.is_object()) else {
        return vec![FieldError::required("metadata.name", "name or generateName is required")];
    };
    names(definition, metadata, &mut errors);
    labels(metadata, &mut errors);
    annotations(metadata, &mut errors);
    finalizers(metadata, &mut errors);
    owners(metadata, &mut errors);
    errors
}

/// Why a name cannot be one step of a path.
pub fn not_a_segment(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        name if name.contains('/') => Some("may not contain '/'"),
        name if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// What an update may not change: identity and times, and no new finalizer once deletion has begun.
pub fn validate_metadata_update(definition: &Definition, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_metadata(definition, new);
    let get =
        |object: &'_ Value, key: &str| object.get("metadata").and_then(|m| m.get(key)).cloned().unwrap_or_default();
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (get(new, key), get(old, key));
        if new != old {
            errors.push(FieldError::invalid(format!("metadata.{key}"), &new, "field is immutable"));
        }
    }
    if get(old, "deletionTimestamp").is_string() {
        let before = get(old, "finalizers");
        let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
        let after = get(new, "finalizers");
        let added: Vec<String> = after
            .as_array()
            .into_iter()
            .flatten()
            .filter(|finalizer| !before.contains(finalizer))
            .filter_map(|finalizer| finalizer.as_str().map(quoted))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    errors
}

/// Removes fields that no metadata has; returns their paths.
pub fn prune_metadata(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.retain(|key, _| {
            let known = FIELDS.contains(&key.as_str());
            if !known && unknown.len() < 64 {
                unknown.push(format!("metadata.{key}"));
            }
            known
        });
    }
    unknown
}

fn names(definition: &Definition, metadata: &Value, errors: &mut Vec<FieldError>) {
    let text = |key: &str, errors: &mut Vec<FieldError>| match metadata.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => {
            errors.push(mistyped(&format!("metadata.{key}"), other, "string"));
            String::new()
        }
    };
    let (name, prefix) = (text("name", errors), text("generateName", errors));
    let label = definition.group.is_empty() && definition.plural == "namespaces";
    // The names of roles and bindings are any step of a path: `system:discovery`.
    let free = definition.builtin && definition.group == "rbac.authorization.k8s.io";
    let check = |name: &str| match (label, free) {
        (true, _) => dns_label(name),
        (false, true) => not_a_segment(name).map(str::to_owned),
        (false, false) => dns_subdomain(name),
    };
    if !prefix.is_empty() {
        // The generated suffix is alphanumeric: a trailing dash or dot of the prefix is fine.
        let probe = format!("{prefix}a");
        if let Some(why) = check(&probe) {
            errors.push(FieldError::invalid("metadata.generateName", &Value::from(prefix.as_str()), why));
        }
    }
    if name.is_empty() {
        if prefix.is_empty() {
            errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        }
    } else if let Some(why) = check(&name) {
        errors.push(FieldError::invalid("metadata.name", &Value::from(name), why));
    }
    let namespace = text("namespace", errors);
    if definition.namespaced {
        if !namespace.is_empty()
            && let Some(why) = dns_label(&namespace)
        {
            errors.push(FieldError::invalid("metadata.namespace", &Value::from(namespace), why));
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
}

fn mistyped(field: &str, value: &Value, wanted: &str) -> FieldError {
    let found = quoted(super::structural::type_name(value));
    let detail = format!("Invalid value: {found}: {field} in body must be of type {wanted}: {found}");
    FieldError::new(field, Cause::TypeInvalid, detail)
}

/// The entries of a map of strings; complains about anything else.
fn strings<'a>(metadata: &'a Value, key: &str, errors: &mut Vec<FieldError>) -> Vec<(&'a str, &'a str)> {
    let field = format!("metadata.{key}");
    match metadata.get(key) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(map)) => map
            .iter()
            .filter_map(|(key, value)| match value {
                Value::String(text) => Some((key.as_str(), text.as_str())),
                other => {
                    errors.push(mistyped(&format!("{field}.{key}"), other, "string"));
                    None
                }
            })
            .collect(),
        Some(other) => {
            errors.push(mistyped(&field, other, "object"));
            Vec::new()
        }
    }
}

fn labels(metadata: &Value, errors: &mut Vec<FieldError>) {
    for (key, value) in strings(metadata, "labels", errors) {
        if let Some(why) = qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", &Value::from(key), why));
        }
        if value.len() > 63 {
            errors.push(FieldError::invalid("metadata.labels", &Value::from(value), "must be no more than 63 bytes"));
        } else if !is_label_value(value) {
            errors.push(FieldError::invalid("metadata.labels", &Value::from(value), LABEL_VALUE));
        }
    }
}

fn annotations(metadata: &Value, errors: &mut Vec<FieldError>) {
    let mut total = 0;
    for (key, value) in strings(metadata, "annotations", errors) {
        total += key.len() + value.len();
        if let Some(why) = qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &Value::from(key), why));
        }
    }
    if total > ANNOTATIONS {
        let detail = format!("Too long: may not be more than {ANNOTATIONS} bytes");
        errors.push(FieldError::new("metadata.annotations", Cause::TooLong, detail));
    }
}

fn finalizers(metadata: &Value, errors: &mut Vec<FieldError>) {
    match metadata.get("finalizers") {
        None | Some(Value::Null) => {}
        Some(Value::Array(finalizers)) => {
            for (index, finalizer) in finalizers.iter().enumerate() {
                let field = format!("metadata.finalizers[{index}]");
                match finalizer.as_str() {
                    None => errors.push(mistyped(&field, finalizer, "string")),
                    Some(name) => {
                        if let Some(why) = qualified_name(name) {
                            errors.push(FieldError::invalid(field, finalizer, why));
                        }
                    }
                }
            }
        }
        Some(other) => errors.push(mistyped("metadata.finalizers", other, "array")),
    }
}

fn owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let references = match metadata.get("ownerReferences") {
        None | Some(Value::Null) => return,
        Some(Value::Array(references)) => references,
        Some(other) => {
            errors.push(mistyped("metadata.ownerReferences", other, "array"));
            return;
        }
    };
    let mut controller: Option<&str> = None;
    for (index, reference) in references.iter().enumerate() {
        let field = format!("metadata.ownerReferences[{index}]");
        let text = |key: &str| reference.get(key).and_then(Value::as_str).unwrap_or_default();
        for (key, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "kind must not be empty"),
            ("name", "name must not be empty"),
            ("uid", "uid must not be empty"),
        ] {
            if text(key).is_empty() {
                errors.push(FieldError::invalid(format!("{field}.{key}"), &Value::from(""), why));
            }
        }
        if text("kind") == "Event" {
            let why = format!("{}, Kind=Event is disallowed from being an owner", text("apiVersion"));
            errors.push(FieldError::invalid(field, reference, why));
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    text("name")
                );
                errors.push(FieldError::invalid("metadata.ownerReferences", &Value::Array(references.clone()), why));
            }
            controller = Some(reference.get("name").and_then(Value::as_str).unwrap_or_default());
        }
    }
}

/// Why the text is no DNS subdomain.
pub(crate) fn dns_subdomain(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some("must be no more than 253 characters".to_owned());
    }
    (!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
}

/// Why the text is no DNS label.
pub(crate) fn dns_label(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!is_label(text)).then(|| LABEL.to_owned())
}

fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Why the text is no `prefix/name`.
pub(crate) fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".to_owned());
        }
        if let Some(why) = dns_subdomain(prefix) {
            return Some(format!("prefix part {why}"));
        }
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 bytes".to_owned());
    }
    (!is_name(name)).then(|| QUALIFIED.to_owned())
}

/// Whether the text may be a label's value.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= 63 && is_name(text))
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
