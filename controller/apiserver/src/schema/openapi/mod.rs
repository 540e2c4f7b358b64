//! OpenAPI documents.

use super::Definition;
use serde_json::Value;
use std::sync::Arc;

/// `/openapi/v3`: the index, with one hashed URL per group version.
pub fn v3_index(definitions: &[Arc<Definition>]) -> Value {
    let _ = definitions;
    Value::Null
}
/// `/openapi/v3/api/v1` (group empty) or `/openapi/v3/apis/GROUP/VERSION`.
pub fn v3_document(definitions: &[Arc<Definition>], group: &str, version: &str) -> Option<Value> {
    let _ = (definitions, group, version);
    None
}
/// `/openapi/v2` as JSON.
pub fn v2_document(definitions: &[Arc<Definition>]) -> Value {
    let _ = definitions;
    Value::Null
}
/// `/openapi/v2` as `com.github.proto-openapi.spec.v2@v1.0+protobuf`, from the JSON document.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let _ = document;
    Vec::new()
}
