//! Discovery documents.

use super::Definition;
use serde_json::Value;
use std::sync::Arc;

/// Which form of aggregated discovery a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `apidiscovery.k8s.io/v2beta1`.
    V2Beta1,
    /// `apidiscovery.k8s.io/v2`.
    V2,
}

/// `/api` as plain `APIVersions`.
pub fn api_versions() -> Value {
    Value::Null
}
/// `/apis` as plain `APIGroupList`.
pub fn api_group_list(definitions: &[Arc<Definition>]) -> Value {
    let _ = definitions;
    Value::Null
}
/// `/apis/GROUP`; `None` when nothing is served there.
pub fn api_group(definitions: &[Arc<Definition>], group: &str) -> Option<Value> {
    let _ = (definitions, group);
    None
}
/// `/api/v1` and `/apis/GROUP/VERSION`; `None` when nothing is served there.
pub fn api_resource_list(definitions: &[Arc<Definition>], group: &str, version: &str) -> Option<Value> {
    let _ = (definitions, group, version);
    None
}
/// `/api` (`core` true) or `/apis` aggregated: an `APIGroupDiscoveryList`.
pub fn aggregated(definitions: &[Arc<Definition>], core: bool, form: Form) -> Value {
    let _ = (definitions, core, form);
    Value::Null
}
