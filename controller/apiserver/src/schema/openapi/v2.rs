//! The version 2 document. Version 2 cannot say everything a structural schema says; what it cannot say is left out rather
//! than said wrongly, as the official server does, because old clients refuse objects by it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::definition::Definition;
use super::{described, meta, paths};

/// `/openapi/v2` as JSON.
pub fn document(definitions: &[Arc<Definition>]) -> Value {
    let locate = |name: &str| format!("#/definitions/{name}");
    let mut schemas = meta::schemas(&locate, false);
    if described(definitions).any(|kind| kind.version.scale.is_some()) {
        schemas.insert(meta::SCALE.to_owned(), meta::scale(&locate, false));
    }
    let mut operations = Map::new();
    for kind in described(definitions) {
        schemas.extend(kind.schemas(false));
        for path in kind.paths() {
            operations.insert(path.url.clone(), paths::v2(&path));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": operations,
        "definitions": schemas,
    })
}

/// A structural schema with what version 2 knows.
pub(super) fn converted(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let flag = |key: &str| map.get(key) == Some(&Value::Bool(true));
    let nullable = flag("nullable");
    let untyped = nullable || flag("x-kubernetes-int-or-string");
    let open = flag("x-kubernetes-preserve-unknown-fields");
    let mut out = Map::new();
    for (key, value) in map {
        let kept = match key.as_str() {
            "nullable" | "oneOf" | "anyOf" | "allOf" | "not" | "$schema" | "id" | "example" => None,
            "type" | "format" if untyped => None,
            "properties" | "items" | "additionalProperties" | "required" if nullable || (open && key == "items") => {
                None
            }
            "properties" => value.as_object().map(|fields| {
                fields.iter().map(|(name, field)| (name.clone(), converted(field))).collect::<Map<_, _>>().into()
            }),
            "items" | "additionalProperties" if value.is_object() => Some(converted(value)),
            _ => Some(value.clone()),
        };
        if let Some(kept) = kept {
            out.insert(key.clone(), kept);
        }
    }
    out.into()
}
