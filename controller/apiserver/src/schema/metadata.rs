//! Object metadata.

use super::{Definition, FieldError};
use serde_json::Value;

/// Names, labels, annotations, finalizers and owner references as Kubernetes demands them.
pub fn validate_metadata(definition: &Definition, object: &Value) -> Vec<FieldError> {
    let _ = (definition, object);
    Vec::new()
}

/// What an update may not change (name, namespace, uid, creationTimestamp, deletionTimestamp, new finalizers while deleting).
pub fn validate_metadata_update(definition: &Definition, new: &Value, old: &Value) -> Vec<FieldError> {
    let _ = (definition, new, old);
    Vec::new()
}

/// Clears what clients may not set and removes unknown fields; returns their paths.
pub fn prune_metadata(object: &mut Value) -> Vec<String> {
    let _ = object;
    Vec::new()
}
