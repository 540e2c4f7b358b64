//! The version 2 document as protobuf (`com.github.proto-openapi.spec.v2@v1.0+protobuf`).
//!
//! The messages are declared by hand: only what our document uses, with the field numbers of the published description.
//! Values of any shape (defaults, enumerations, extensions) travel as YAML text, of which JSON is a part.

mod messages;

use messages::*;
use prost::Message as _;
use serde_json::{Map, Value};

/// Encodes the JSON document.
pub fn encode(document: &Value) -> Vec<u8> {
    let entries = |key: &str| document.get(key).and_then(Value::as_object).into_iter().flatten();
    let definitions = entries("definitions").map(|(name, value)| named(name, value)).collect();
    let path = entries("paths")
        .map(|(name, value)| NamedPathItem { name: name.clone(), value: Some(path_item(value)) })
        .collect();
    let info = &document["info"];
    Document {
        swagger: text(document, "swagger"),
        info: Some(Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths { path }),
        definitions: Some(NamedSchemas { additional_properties: definitions }),
    }
    .encode_to_vec()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|t| t.as_str().map(str::to_owned))
        .collect()
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn any(value: &Value) -> Any {
    Any { yaml: value.to_string() }
}

fn extensions(value: &Value) -> Vec<NamedAny> {
    let map: Option<&Map<String, Value>> = value.as_object();
    map.into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("x-"))
        .map(|(key, value)| NamedAny { name: key.clone(), value: Some(any(value)) })
        .collect()
}

fn named(name: &str, value: &Value) -> NamedSchema {
    NamedSchema { name: name.to_owned(), value: Some(Box::new(schema(value))) }
}

fn schema(value: &Value) -> Schema {
    let float = |key: &str| value.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let int = |key: &str| value.get(key).and_then(Value::as_i64).unwrap_or(0);
    let additional = value.get("additionalProperties").map(|additional| match additional {
        Value::Bool(flag) => AdditionalProperties { schema: None, boolean: Some(*flag) },
        other => AdditionalProperties { schema: Some(Box::new(schema(other))), boolean: None },
    });
    let properties = value.get("properties").and_then(Value::as_object).map(|fields| NamedSchemas {
        additional_properties: fields.iter().map(|(name, field)| named(name, field)).collect(),
    });
    Schema {
        reference: text(value, "$ref"),
        format: text(value, "format"),
        title: text(value, "title"),
        description: text(value, "description"),
        default: value.get("default").map(any),
        multiple_of: float("multipleOf"),
        maximum: float("maximum"),
        exclusive_maximum: flag(value, "exclusiveMaximum"),
        minimum: float("minimum"),
        exclusive_minimum: flag(value, "exclusiveMinimum"),
        max_length: int("maxLength"),
        min_length: int("minLength"),
        pattern: text(value, "pattern"),
        max_items: int("maxItems"),
        min_items: int("minItems"),
        required: texts(value, "required"),
        enumeration: value.get("enum").and_then(Value::as_array).into_iter().flatten().map(any).collect(),
        additional_properties: additional.map(Box::new),
        kind: value.get("type").and_then(Value::as_str).map(|kind| Strings { value: vec![kind.to_owned()] }),
        items: value.get("items").map(|items| Box::new(Items { schema: vec![schema(items)] })),
        properties,
        vendor_extension: extensions(value),
    }
}

fn path_item(value: &Value) -> PathItem {
    let operation = |method: &str| value.get(method).map(operation);
    PathItem {
        get: operation("get"),
        put: operation("put"),
        post: operation("post"),
        delete: operation("delete"),
        patch: operation("patch"),
        parameters: parameters(value),
    }
}

fn operation(value: &Value) -> Operation {
    let responses = value.get("responses").and_then(Value::as_object).into_iter().flatten();
    let response_code = responses
        .map(|(code, value)| NamedResponse {
            name: code.clone(),
            value: Some(ResponseValue {
                response: Some(Response {
                    description: text(value, "description"),
                    schema: value.get("schema").map(|inner| SchemaItem { schema: Some(schema(inner)) }),
                }),
            }),
        })
        .collect();
    Operation {
        tags: texts(value, "tags"),
        description: text(value, "description"),
        operation_id: text(value, "operationId"),
        produces: texts(value, "produces"),
        consumes: texts(value, "consumes"),
        parameters: parameters(value),
        responses: Some(Responses { response_code }),
        schemes: texts(value, "schemes"),
        vendor_extension: extensions(value),
    }
}

fn parameters(value: &Value) -> Vec<ParametersItem> {
    value
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|document| ParametersItem { parameter: Some(parameter(document)) })
        .collect()
}

fn parameter(value: &Value) -> Parameter {
    let (name, place, kind) = (text(value, "name"), text(value, "in"), text(value, "type"));
    let (required, unique_items) = (flag(value, "required"), flag(value, "uniqueItems"));
    let description = text(value, "description");
    match place.as_str() {
        "body" => {
            let schema = value.get("schema").map(schema);
            Parameter { body: Some(BodyParameter { name, place, required, schema }), other: None }
        }
        "path" => {
            let path = PathParameter { required, place, description, name, kind, unique_items };
            Parameter { body: None, other: Some(NonBodyParameter { query: None, path: Some(path) }) }
        }
        _ => {
            let query = QueryParameter { place, description, name, kind, unique_items };
            Parameter { body: None, other: Some(NonBodyParameter { query: Some(query), path: None }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_survives_the_trip() {
        let kinds: Vec<std::sync::Arc<_>> = crate::schema::builtin().into_iter().map(std::sync::Arc::new).collect();
        let bytes = encode(&super::super::v2_document(&kinds));
        let document = Document::decode(bytes.as_slice()).expect("own message");
        let definitions = document.definitions.expect("definitions").additional_properties;
        let secret = definitions.iter().find(|d| d.name == "io.k8s.api.core.v1.Secret").expect("secret");
        let schema = secret.value.as_ref().expect("schema");
        assert_eq!(
            schema
                .vendor_extension
                .iter()
                .find(|e| e.name == "x-kubernetes-group-version-kind")
                .and_then(|e| e.value.clone())
                .expect("gvk")
                .yaml,
            r#"[{"group":"","kind":"Secret","version":"v1"}]"#
        );
        let paths = document.paths.expect("paths").path;
        let one = paths.iter().find(|p| p.name == "/api/v1/namespaces/{namespace}/secrets/{name}").expect("path");
        let patch = one.value.as_ref().and_then(|item| item.patch.as_ref()).expect("patch");
        let names: Vec<String> = patch
            .parameters
            .iter()
            .filter_map(|p| Some(p.parameter.as_ref()?.other.as_ref()?.query.as_ref()?.name.clone()))
            .collect();
        assert!(names.contains(&"fieldValidation".to_owned()), "{names:?}");
    }
}
